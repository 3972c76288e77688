"""Proximal policy optimisation of a chat model against a reward (chapter 15).

The policy answers, the reward is told for the whole answer, and every token has to be praised or blamed for its part:
more likely, if the answer came out better than was expected at that place, less likely if worse. A reference policy
holds it back, a value model says what was expected, and clipping keeps each step small.

Does: the paper's reward, whitened, per-token KL, GAE, clipped policy and value losses, a KL controller, exact resume.
Does not: share weights between policy and value model; sample at a temperature other than 1, or with top-p.
Source: Touvron et al. 2023b, section 3.2.3, eq. 3 and 4; Schulman et al. 2016 (GAE), 2017 (PPO); Ziegler et al. 2019
    (KL per token, controller). The paper gives neither lambda, gamma and value loss, nor how it whitens.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from minillama.alignment.chat import encode_prompt, messages
from minillama.alignment.packing import packed
from minillama.alignment.policy_gradient import (
    gae,
    kl_estimates,
    masked_mean,
    policy_loss,
    token_rewards,
    value_loss,
    whiten,
)
from minillama.alignment.rejection import Judges
from minillama.alignment.sampling import MAX_NEW_TOKENS, Answer, logprobs, sample
from minillama.model.checkpoints import CheckpointError, load_safetensors, save_safetensors
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.checkpointing import checkpoints, read_model, read_state, restore_training, save_checkpoint
from minillama.pretraining.schedule import TrainConfig, make_optimizer

Reward = Callable[[Sequence[Any], Sequence[Answer]], Tensor]


@dataclass(frozen=True)
class PPOConfig:
    """The numbers of a run.

    Args:
        iterations: rollouts, each followed by updates.
        batch_size: answers of a rollout; the paper's 512.
        minibatch_size: answers of an update; the paper's 64.
        epochs: times that a rollout is learnt from; the paper's 1.
        lr, value_lr: constant rates of policy and value model; the paper's 1e-6.
        beta: weight of the KL penalty, per nat, against a reward of unit variance; the paper's 0.01 or 0.005.
        target_kl: nats per answer that the controller steers to by changing beta; None keeps beta.
        clip: how far the probability of a token may move in an update, as a ratio; the paper's 0.2. `math.inf` clips
            nothing.
        value_clip: how far a value may move in an update; `math.inf` clips nothing.
        gamma, lam: discount, and the lambda of GAE.
        whiten_rewards: rewards of a rollout get mean 0 and variance 1, as in the paper.
        whiten_advantages: so do the advantages of a rollout's tokens.
        no_end: added to the reward of an answer that was cut.
        max_new_tokens: where answers are cut.
        seed: of prompts, answers and mini-batches.

    Raises:
        ValueError: for a number out of range.
    """

    iterations: int = 40
    batch_size: int = 128
    minibatch_size: int = 32
    epochs: int = 1
    lr: float = 1e-4
    value_lr: float = 3e-4
    beta: float = 0.05
    target_kl: float | None = None
    clip: float = 0.2
    value_clip: float = 0.2
    gamma: float = 1.0
    lam: float = 0.95
    whiten_rewards: bool = True
    whiten_advantages: bool = True
    no_end: float = -1.0
    max_new_tokens: int = MAX_NEW_TOKENS
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("gamma", "lam"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)!r}")
        if not self.beta >= 0:
            raise ValueError(f"beta must not be below 0, got {self.beta!r}")
        positive = ("iterations", "batch_size", "minibatch_size", "epochs", "lr", "value_lr", "clip", "value_clip")
        for name in (*positive, "max_new_tokens"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)!r}")


def token_values(
    model: nn.Module, prompts: Sequence[Sequence[int]], answers: Sequence[Answer], context: int = 256
) -> list[Tensor]:
    """What a value model expects before each token of each answer; shapes as in `sampling.logprobs`."""
    tokens, documents, ends = packed(_texts(prompts, answers), context)
    device = next(model.parameters()).device
    found = model(tokens.to(device), documents=documents.to(device)).squeeze(-1)
    return [found[row, end - len(a.tokens) : end] for a, (row, end) in zip(answers, ends, strict=True)]


def _texts(prompts: Sequence[Sequence[int]], answers: Sequence[Answer]) -> list[list[int]]:
    return [[*prompt, *answer.tokens] for prompt, answer in zip(prompts, answers, strict=True)]


@dataclass(frozen=True)
class Rollout:
    """Answers of one policy, and all that an update needs to know of them.

    Attributes:
        requests, prompts, answers: what was asked, as ids too, and said.
        mask: which entries are tokens, shape (B, T), as of all tensors below but scores.
        old, reference: log-probabilities under the policy that answered and under the reference.
        values: what the value model expected.
        scores: the rewards of whole answers as the reward gave them, shape (B,).
        rewards: of tokens.
        advantages, returns: from `gae`; the advantages whitened if the recipe says so.
    """

    requests: Sequence[Any]
    prompts: Sequence[Sequence[int]]
    answers: Sequence[Answer]
    mask: Tensor
    old: Tensor
    reference: Tensor
    values: Tensor
    scores: Tensor
    rewards: Tensor
    advantages: Tensor
    returns: Tensor

    @property
    def kl(self) -> Tensor:
        """k1 of each whole answer, in nats, shape (B,)."""
        return torch.where(self.mask, self.old - self.reference, 0.0).sum(1)


def whole_reward(scores: Tensor, answers: Sequence[Answer], config: PPOConfig) -> Tensor:
    """Rewards of whole answers as PPO sees them: whitened, and less if the answer has no end; shape (B,)."""
    scores = whiten(scores) if config.whiten_rewards else scores
    ended = torch.tensor([answer.ended for answer in answers], device=scores.device)
    return scores + torch.where(ended, 0.0, config.no_end)


def paper_reward(judges: Judges) -> Reward:
    """logit(R_c) of section 3.2.3: the two reward models' answer, with the sigmoid undone."""

    def reward(requests: Sequence[Any], answers: Sequence[Answer]) -> Tensor:
        return judges(requests, answers).double().clamp(1e-7, 1 - 1e-7).logit().float()

    return reward


def village_prompt(tokenizer: Tokenizer) -> Callable[[Any], list[int]]:
    """How a request becomes token ids."""
    return lambda request: encode_prompt(tokenizer, messages(request))


@dataclass(frozen=True)
class Record:
    """What an iteration tells, before its update.

    Args:
        iteration: its number, from 1.
        score: mean reward of the answers, as the reward gave it.
        kl: mean nats per answer from the reference.
        beta: weight of the KL penalty in this iteration.
        ended: share of answers with an end.
        tokens: mean length.
        policy_loss, value_loss: mean over the updates.
        moved: mean k3 between the policy before and after, in nats per token, measured along the updates.
        clipped: share of tokens whose ratio lay outside the clipping range.
        explained: share of the returns' variance that the values explain.
        first_ratio: how far a ratio of the first mini-batch is from 1 at most; more than rounding (1e-4) is a fault.
    """

    iteration: int
    score: float
    kl: float
    beta: float
    ended: float
    tokens: float
    policy_loss: float
    value_loss: float
    moved: float
    clipped: float
    explained: float
    first_ratio: float


class PPO:
    """A run: a policy that learns, its value model, and the reference that holds it back.

    Args:
        policy: learns, in place; a copy of it becomes the reference.
        value: a model with one output, for instance a reward model; learns in place.
        tokenizer: of both.
        requests: what may be asked.
        reward: gives a number to each answer of a list to requests.
        config: the numbers.
        encode: how a request becomes token ids; as a request of the village unless told.
        folder: where checkpoints go; None keeps none.

    Attributes:
        iteration: rollouts learnt from.
        beta: weight of the KL penalty now.

    Raises:
        ValueError: if there are fewer requests than a rollout asks, or the value model has not one output.
    """

    def __init__(
        self,
        policy: Llama,
        value: Llama,
        tokenizer: Tokenizer,
        requests: Sequence[Any],
        reward: Reward,
        config: PPOConfig = PPOConfig(),
        encode: Callable[[Any], list[int]] | None = None,
        folder: str | Path | None = None,
    ):
        if len(requests) < config.batch_size:
            raise ValueError(f"a rollout asks {config.batch_size} requests, got only {len(requests)}; give more")
        if value.config.n_outputs != 1:
            raise ValueError(f"the value model must have one output, got {value.config.n_outputs or 'a vocabulary'}")
        self.policy, self.value, self.tokenizer = policy, value, tokenizer
        self.reference = copy.deepcopy(policy).requires_grad_(False)
        self.requests, self.reward, self.config = requests, reward, config
        self.encode = encode or village_prompt(tokenizer)
        self._learners = {
            name: (model, make_optimizer(model, TrainConfig(1, 1, 1, lr)))
            for name, model, lr in (("policy", policy, config.lr), ("value", value, config.value_lr))
        }
        self.iteration, self.beta = 0, config.beta
        self.folder = None if folder is None else Path(folder)
        if self.folder:
            self._open()

    def train(
        self,
        until: int | None = None,
        on_iteration: Callable[["PPO", Record], bool | None] | None = None,
        progress: bool = True,
        save_every: int = 10,
    ) -> list[Record]:
        """Iterate, and return a record of each iteration of this call.

        Args:
            until: number of the last iteration; None means all of the recipe's.
            on_iteration: called after each; an answer of True ends the run, which is how to stop early.
            progress: show the bar.
            save_every: write a checkpoint after every so many iterations, if there is a folder, and at the end.
        """
        last, records = self.config.iterations if until is None else until, []
        with tqdm(total=last, initial=self.iteration, unit="iteration", disable=not progress) as bar:
            while self.iteration < last:
                record = self.update(self.rollout())
                records.append(record)
                bar.set_postfix_str(f"reward {record.score:.2f} KL {record.kl:.1f}", refresh=False)
                bar.update()
                done = on_iteration(self, record) if on_iteration else False
                if self.folder and (done or self.iteration == last or self.iteration % save_every == 0):
                    self.save()
                if done:
                    break
        return records

    def rollout(self) -> Rollout:
        """Ask the policy as it is now, and work out what each token of its answers is worth."""
        config, dice = self.config, np.random.default_rng([self.config.seed, self.iteration])
        chosen = dice.choice(len(self.requests), config.batch_size, replace=False)
        asked = [self.requests[i] for i in chosen]
        prompts, seed = [self.encode(request) for request in asked], int(dice.integers(2**31))
        answers = sample(self.policy, self.tokenizer, prompts, 1.0, None, config.max_new_tokens, seed=seed)
        with torch.no_grad():
            old = pad_sequence(logprobs(self.policy, prompts, answers), batch_first=True)
            reference = pad_sequence(logprobs(self.reference, prompts, answers), batch_first=True)
            values = pad_sequence(token_values(self.value, prompts, answers), batch_first=True)
            scores = self.reward(asked, answers).to(old.device)
        lengths = torch.tensor([len(answer.tokens) for answer in answers], device=old.device)
        mask = torch.arange(old.shape[1], device=old.device) < lengths[:, None]
        rewards = token_rewards(whole_reward(scores, answers, config), old, reference, mask, self.beta)
        advantages, returns = gae(rewards, values, mask, config.gamma, config.lam)
        if config.whiten_advantages:
            advantages = whiten(advantages, mask)
        return Rollout(
            asked, prompts, answers, mask, old, reference, values, scores, rewards, advantages, returns
        )  # fmt: skip

    def update(self, rollout: Rollout) -> Record:
        """Learn from a rollout, mini-batch by mini-batch."""
        notes: dict[str, list[float]] = {name: [] for name in ("policy", "value", "moved", "clipped", "far")}
        for part in self._minibatches(len(rollout.answers)):
            prompts, answers = ([items[i] for i in part] for items in (rollout.prompts, rollout.answers))
            width = max(len(answer.tokens) for answer in answers)
            mask, old, values, advantages, returns = (
                tensor[part, :width]
                for tensor in (rollout.mask, rollout.old, rollout.values, rollout.advantages, rollout.returns)
            )
            new = pad_sequence(logprobs(self.policy, prompts, answers), batch_first=True)
            expected = pad_sequence(token_values(self.value, prompts, answers), batch_first=True)
            losses = (
                policy_loss(new, old, advantages, mask, self.config.clip),
                value_loss(expected, values, returns, mask, self.config.value_clip),
            )
            for loss, (model, optimizer) in zip(losses, self._learners.values(), strict=True):
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
            far = ((new.detach() - old).exp() - 1).abs()[mask]
            notes["far"].append(far.max().item())
            notes["policy"].append(losses[0].item())
            notes["value"].append(losses[1].item())
            notes["moved"].append(masked_mean(kl_estimates(old, new.detach())[2], mask).item())
            notes["clipped"].append((far > self.config.clip).float().mean().item())
        self.iteration += 1
        record = self._record(
            rollout, {name: sum(found) / len(found) for name, found in notes.items()}, notes["far"][0]
        )
        if self.config.target_kl is not None:
            self.beta *= 1 + 0.1 * max(-0.2, min(0.2, record.kl / self.config.target_kl - 1))
        return record

    def _minibatches(self, number: int) -> Iterator[list[int]]:
        dice, size = np.random.default_rng([self.config.seed, self.iteration, 1]), self.config.minibatch_size
        for _ in range(self.config.epochs):
            order = dice.permutation(number).tolist()
            for start in range(0, number, size):
                yield order[start : start + size]

    def _record(self, rollout: Rollout, notes: dict[str, float], first_ratio: float) -> Record:
        returns, mask = rollout.returns[rollout.mask], rollout.mask
        missed = (rollout.returns - rollout.values)[mask].var(correction=0)
        return Record(
            iteration=self.iteration,
            score=rollout.scores.mean().item(),
            kl=rollout.kl.mean().item(),
            beta=self.beta,
            ended=sum(answer.ended for answer in rollout.answers) / len(rollout.answers),
            tokens=mask.sum().item() / len(rollout.answers),
            policy_loss=notes["policy"],
            value_loss=notes["value"],
            moved=notes["moved"],
            clipped=notes["clipped"],
            explained=1 - (missed / returns.var(correction=0).clamp(min=1e-12)).item(),
            first_ratio=first_ratio,
        )

    def save(self) -> None:
        """Write a checkpoint of policy and value model; a stopped run goes on from the last step that both have."""
        state = {"beta": self.beta, "config": asdict(self.config)}
        for name, (model, optimizer) in self._learners.items():
            save_checkpoint(self.folder / name, self.iteration, model, optimizer, state)

    def _open(self) -> None:
        """Keep the reference of a new run, or go on with the run of the folder."""
        kept = self.folder / "reference.safetensors"
        steps = [{path.name for path in checkpoints(self.folder / name)} for name in self._learners]
        if not (common := steps[0] & steps[1]):  # whatever reference lies there belongs to no run that can go on
            self.folder.mkdir(parents=True, exist_ok=True)
            save_safetensors(self.reference, kept)
            return
        self.reference.load_state_dict(load_safetensors(kept).state_dict())
        for name, (model, optimizer) in self._learners.items():
            found = self.folder / name / max(common)
            state = read_state(found)
            if replace(PPOConfig(**state["config"]), iterations=self.config.iterations) != self.config:
                raise CheckpointError(f"{self.folder} holds a run with {state['config']}; choose another folder")
            model.load_state_dict(read_model(found).state_dict())
            restore_training(found, model, optimizer)
            self.iteration, self.beta = state["step"], state["beta"]
