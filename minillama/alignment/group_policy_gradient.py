"""REINFORCE, RLOO and GRPO: PPO without a value model (chapter 18).

How good was an answer? PPO asks a value model what was expected at each token. Here the rewards of other answers say
what was expected of this one; the answer as a whole is one action, and all of its tokens are praised or blamed alike.

Does: three baselines, GRPO's loss, and a run with PPO's rollouts, reward, numbers and exact resume.
Does not: tell the tokens of an answer apart, or steer beta.
Source: Williams 1992 (REINFORCE); Kool et al. 2019 and Ahmadian et al. 2024 (RLOO); Shao et al. 2024, eq. 3 and 4
    (GRPO). None of them is in the paper on Llama 2.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from minillama.alignment.policy_gradient import kl_estimates, masked_mean, policy_loss, token_rewards
from minillama.alignment.ppo import PPO, PPOConfig, Reward, village_prompt, whole_reward
from minillama.alignment.sampling import Answer, logprobs, sample
from minillama.model.checkpoints import CheckpointError, load_safetensors, save_safetensors
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.pretraining.checkpointing import checkpoints, read_model, read_state, restore_training, save_checkpoint
from minillama.pretraining.schedule import TrainConfig, make_optimizer

METHODS = ("reinforce", "rloo", "grpo")
CONFIG = PPOConfig()


def group_advantages(rewards: Tensor, method: str) -> Tensor:
    """How much better an answer is than was to be expected, without a value model.

    "reinforce": than the mean of the batch; "rloo": than the mean of the *other* answers to its prompt; "grpo": than
    the mean of all answers to its prompt, in units of their standard deviation (that of the population, 0 / 0 = 0).

    Args:
        rewards: of whole answers, shape (N prompts, K answers).
        method: one of `METHODS`.

    Returns:
        shape (N, K).

    Raises:
        ValueError: for an unknown method, or if a prompt has a single answer and the method compares them.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}")
    if method == "reinforce":
        return rewards - rewards.mean()
    k = rewards.shape[1]
    if k < 2:
        raise ValueError(f"{method} compares answers to one prompt, so it needs at least 2 of them, got {k}")
    centred = rewards - rewards.mean(1, keepdim=True)
    if method == "rloo":
        return centred * k / (k - 1)  # r - (sum - r) / (k - 1)
    return centred / (rewards.var(1, correction=0, keepdim=True) + 1e-8).sqrt()


def grpo_loss(
    new: Tensor, old: Tensor, reference: Tensor, advantages: Tensor, mask: Tensor, beta: float, clip: float = 0.2
) -> Tensor:
    """PPO's clipped loss plus beta times k3, averaged over the tokens of each answer and then over answers.

    Args:
        new, old, reference: log-probabilities, shape (B, T).
        advantages: of whole answers, shape (B,).
        mask: which entries are tokens, shape (B, T).
        beta: weight of k3. Over tokens that pi sampled, its gradient is on average that of KL(pi_0 || pi), and not of
            the KL(pi || pi_0) that k3 estimates.
        clip: as in `policy_gradient.policy_loss`.
    """
    lengths = mask.sum(1, keepdim=True).to(new.dtype)
    # `policy_loss` divides by all tokens; with these weights each answer counts the same, however long it is
    weights = mask.sum() / (lengths * len(mask))
    k3 = kl_estimates(new, reference)[2]
    return policy_loss(new, old, advantages[:, None] * weights, mask, clip) + beta * masked_mean(k3 * weights, mask)


@dataclass(frozen=True)
class Group:
    """K answers to each of some prompts, one after the other, and all that an update needs to know of them.

    Attributes:
        requests, prompts, answers: what was asked, as ids too, and said.
        mask: which entries are tokens, shape (B, T).
        old, reference: log-probabilities under the policy that answered and under the reference, shape (B, T).
        scores: as the reward gave them, shape (B,).
        rewards: of whole answers, with the KL penalty in them unless the method is GRPO, shape (B,).
        advantages: shape (B,).
    """

    requests: Sequence[Any]
    prompts: Sequence[Sequence[int]]
    answers: Sequence[Answer]
    mask: Tensor
    old: Tensor
    reference: Tensor
    scores: Tensor
    rewards: Tensor
    advantages: Tensor


@dataclass(frozen=True)
class GroupRecord:
    """What an iteration tells, before its update.

    Args:
        iteration: its number, from 1.
        score: mean reward of the answers, as the reward gave it.
        kl: mean nats per answer from the reference.
        ended: share of answers with an end.
        tokens: mean length.
        loss: mean over the updates.
        spread: standard deviation of the advantages.
        clipped: share of tokens whose ratio lay outside the clipping range.
        first_ratio: how far a ratio of the first mini-batch is from 1 at most; anything but 0 is a fault.
    """

    iteration: int
    score: float
    kl: float
    ended: float
    tokens: float
    loss: float
    spread: float
    clipped: float
    first_ratio: float


class GroupPolicyGradient:
    """A run of REINFORCE, RLOO or GRPO: PPO without a value model, in which an answer is one action.

    `train` is the same function as that of `PPO`, and gives a `GroupRecord` of each iteration.

    REINFORCE and RLOO clip nothing: their loss is -(pi / pi_old) A over tokens, whose gradient on the first mini-batch
    is that of -A ln pi.

    Args:
        policy: learns, in place; a copy of it becomes the reference.
        tokenizer: its tokenizer.
        requests: what may be asked.
        reward: gives a number to each answer of a list to requests.
        config: PPO's numbers; those of the value model and of GAE, whitening of advantages and target_kl are not read.
        method: one of `METHODS`.
        group: answers to each prompt of a rollout, which asks batch_size / group prompts; 1 is allowed for REINFORCE.
        encode: how a request becomes token ids; as a request of the village unless told.
        folder: where checkpoints go, and where a stopped run goes on; None keeps none.

    Attributes:
        iteration: rollouts learnt from.

    Raises:
        ValueError: if the group does not divide the batch, is too small, or there are too few requests.
    """

    train, _minibatches = PPO.train, PPO._minibatches  # the loop is PPO's, word by word

    def __init__(
        self,
        policy: Llama,
        tokenizer: Tokenizer,
        requests: Sequence[Any],
        reward: Reward,
        config: PPOConfig = CONFIG,
        method: str = "rloo",
        group: int = 4,
        encode: Callable[[Any], list[int]] | None = None,
        folder: str | Path | None = None,
    ):
        if group < 1 or config.batch_size % group:
            raise ValueError(f"group must divide batch_size {config.batch_size}, got {group}")
        group_advantages(torch.zeros(1, group), method)  # complains about a wrong method or group
        if len(requests) < config.batch_size // group:
            raise ValueError(
                f"a rollout asks {config.batch_size // group} requests, got only {len(requests)}; give more"
            )
        self.policy, self.tokenizer, self.requests, self.reward = policy, tokenizer, requests, reward
        self.reference = copy.deepcopy(policy).requires_grad_(False)
        self.config, self.method, self.group = config, method, group
        self.encode = encode or village_prompt(tokenizer)
        self.optimizer = make_optimizer(policy, TrainConfig(1, 1, 1, config.lr))
        self.iteration, self.folder = 0, None if folder is None else Path(folder)
        if self.folder:
            self._open()

    def rollout(self) -> Group:
        """Ask the policy as it is now, and work out how good each answer is beside the others."""
        config, dice = self.config, np.random.default_rng([self.config.seed, self.iteration])
        chosen = dice.choice(len(self.requests), config.batch_size // self.group, replace=False)
        asked = [self.requests[i] for i in chosen for _ in range(self.group)]
        prompts, seed = [self.encode(request) for request in asked], int(dice.integers(2**31))
        answers = sample(self.policy, self.tokenizer, prompts, 1.0, None, config.max_new_tokens, seed=seed)
        with torch.no_grad():
            old = pad_sequence(logprobs(self.policy, prompts, answers), batch_first=True)
            reference = pad_sequence(logprobs(self.reference, prompts, answers), batch_first=True)
            scores = self.reward(asked, answers).to(old.device)
        lengths = torch.tensor([len(answer.tokens) for answer in answers], device=old.device)
        mask = torch.arange(old.shape[1], device=old.device) < lengths[:, None]  # (B, T)
        rewards = whole_reward(scores, answers, config)
        if self.method != "grpo":  # which has the penalty in its loss
            rewards = token_rewards(rewards, old, reference, mask, config.beta).sum(1)
        advantages = group_advantages(rewards.view(-1, self.group), self.method).flatten()
        return Group(asked, prompts, answers, mask, old, reference, scores, rewards, advantages)

    def loss(self, group: Group, part: Sequence[int]) -> tuple[Tensor, Tensor]:
        """The loss on some answers, and how far the ratio of each of their tokens is from 1."""
        prompts, answers = ([items[i] for i in part] for items in (group.prompts, group.answers))
        new = pad_sequence(logprobs(self.policy, prompts, answers), batch_first=True)
        mask, old, reference = (x[part, : new.shape[1]] for x in (group.mask, group.old, group.reference))
        advantages = group.advantages[part]
        if self.method == "grpo":
            loss = grpo_loss(new, old, reference, advantages, mask, self.config.beta, self.config.clip)
        else:
            loss = policy_loss(new, old, advantages[:, None], mask, math.inf)
        return loss, ((new.detach() - old).exp() - 1).abs()[mask]

    def update(self, group: Group) -> GroupRecord:
        """Learn from a rollout, mini-batch by mini-batch."""
        losses, far = [], []
        for part in self._minibatches(len(group.answers)):
            loss, apart = self.loss(group, part)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.policy.parameters(), 1.0)
            self.optimizer.step()
            losses.append(loss.item())
            far.append(apart)
        self.iteration += 1
        return GroupRecord(
            iteration=self.iteration,
            score=group.scores.mean().item(),
            kl=torch.where(group.mask, group.old - group.reference, 0.0).sum(1).mean().item(),
            ended=sum(answer.ended for answer in group.answers) / len(group.answers),
            tokens=group.mask.sum().item() / len(group.answers),
            loss=sum(losses) / len(losses),
            spread=group.advantages.std(correction=0).item(),
            clipped=(torch.cat(far) > self.config.clip).float().mean().item(),
            first_ratio=far[0].max().item(),
        )

    def save(self) -> None:
        """Write a checkpoint; a stopped run goes on from the last one."""
        state = {"config": asdict(self.config), "method": self.method, "group": self.group}
        save_checkpoint(self.folder, self.iteration, self.policy, self.optimizer, state)

    def _open(self) -> None:
        """Keep the reference of a new run, or go on with the run of the folder."""
        kept, found = self.folder / "reference.safetensors", checkpoints(self.folder)
        if not found:  # whatever reference lies there belongs to no run that can go on
            self.folder.mkdir(parents=True, exist_ok=True)
            save_safetensors(self.reference, kept)
            return
        state = read_state(found[-1])
        theirs = replace(PPOConfig(**state["config"]), iterations=self.config.iterations)
        if (theirs, state["method"], state["group"]) != (self.config, self.method, self.group):
            raise CheckpointError(f"{self.folder} holds a run with {state}; choose another folder")
        self.reference.load_state_dict(load_safetensors(kept).state_dict())
        self.policy.load_state_dict(read_model(found[-1]).state_dict())
        restore_training(found[-1], self.policy, self.optimizer)
        self.iteration = state["step"]
