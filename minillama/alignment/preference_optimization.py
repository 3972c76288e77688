"""Direct preference optimisation: learn from comparisons with no reward model and no sampling (chapter 18).

A policy that is best under a KL penalty tells, by how far it has moved from its reference, which reward it is best for.
So the policy is trained as if it were a reward model, by the loss of chapter 13, and what comes out is the policy.

Does: the loss; a run on comparisons, before which the reference is asked once; pairs chosen by a reward, not by people.
Does not: sample while it learns; know what becomes of answers that are in no pair. For methods that sample, see
    `minillama.alignment.group_policy_gradient`.
Source: Rafailov et al. 2023, eq. 7. It is not in the paper on Llama 2.
"""

from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minillama.alignment.chat import encode_prompt, messages
from minillama.alignment.comparisons import Comparison
from minillama.alignment.rejection import Candidates
from minillama.alignment.sampling import Answer, logprobs
from minillama.alignment.sft import Epochs, Recipe, tune
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.annotators import CUTS, DEGREES

RECIPE = Recipe(epochs=1, batch_size=16, peak_lr=1e-4)  # Rafailov et al.: 64 pairs, 1e-6


def dpo_loss(
    chosen: Tensor, rejected: Tensor, chosen_reference: Tensor, rejected_reference: Tensor, beta: float
) -> Tensor:
    """-ln sigmoid(beta (ln pi/pi_0 of the chosen answer - ln pi/pi_0 of the rejected one)), mean over pairs.

    Args:
        chosen, rejected: log-probabilities of whole answers under the policy, shape (B,).
        chosen_reference, rejected_reference: of the same answers under the reference.
        beta: of the penalty that the loss stands for; small lets the policy go far.
    """
    return -F.logsigmoid(beta * ((chosen - chosen_reference) - (rejected - rejected_reference))).mean()


def best_and_worst(found: Candidates) -> list[Comparison]:
    """The answers with the highest and the lowest reward to each request, as a comparison; none if they are equal.

    The degree is that of an annotator who feels the difference of the rewards' logits and makes no errors.
    """
    pairs = []
    for request, answers, rewards in zip(found.requests, found.answers, found.rewards, strict=True):
        best, worst = int(rewards.argmax()), int(rewards.argmin())
        if rewards[best] > rewards[worst] and answers[best].tokens != answers[worst].tokens:
            high, low = rewards[[best, worst]].double().clamp(1e-7, 1 - 1e-7).logit().tolist()
            pairs.append(Comparison(request, answers[best], answers[worst], DEGREES[bisect(CUTS, high - low)]))
    return pairs


def sequence_logprobs(
    model: Llama, prompts: Sequence[Sequence[int]], answers: Sequence[Answer], context: int = 256
) -> Tensor:
    """Log-probability of each whole answer given its prompt, shape (len(answers),); a sum, not a mean, over tokens."""
    return torch.stack([each.sum() for each in logprobs(model, prompts, answers, context)])


@dataclass(frozen=True)
class Preferences:
    """A batch of pairs: prompts, then answers (all chosen ones, then all rejected ones).

    Attributes:
        prompts, answers: 2 B of each.
        reference: log-probabilities of the answers under the reference, shape (2 B,).
    """

    prompts: Sequence[Sequence[int]]
    answers: Sequence[Answer]
    reference: Tensor

    def to(self, device: str | torch.device) -> "Preferences":
        """The same on a device; the ids are moved when they are packed."""
        return Preferences(self.prompts, self.answers, self.reference.to(device))


def train_dpo(
    model: Llama,
    tokenizer: Tokenizer,
    comparisons: Sequence[Comparison],
    beta: float = 0.1,
    recipe: Recipe = RECIPE,
    encode: Callable[[Any], list[int]] | None = None,
    folder: str | Path | None = None,
    device: str | torch.device = "cpu",
    progress: bool = True,
) -> list[float]:
    """Direct preference optimisation, in place.

    The model as it is given is the reference. What it says of the answers is worked out once, so that no second model
    has to be held.

    Args:
        model: the policy; also if the folder holds a run, this must be the model that it began with.
        tokenizer: the model's.
        comparisons: what is learnt from; degrees and labels are not read.
        beta: see `dpo_loss`.
        recipe: epochs, pairs a step, learning rate.
        encode: how a request becomes token ids; as a request of the village unless told.
        folder, device, progress: as in `minillama.alignment.sft.tune`.

    Returns:
        the loss of every step; that of the first is ln 2.

    Raises:
        ValueError: if beta is not above 0.
    """
    if not beta > 0:
        raise ValueError(f"beta must be above 0, got {beta!r}; it divides the reward that the policy stands for")
    encode = encode or (lambda request: encode_prompt(tokenizer, messages(request)))
    prompts = [encode(c.request) for c in comparisons]
    model.to(device)
    sides = []
    with torch.no_grad():
        for side in ("chosen", "rejected"):
            answers, found = [getattr(c, side) for c in comparisons], []
            for start in range(0, len(answers), 256):
                part = slice(start, start + 256)
                found.append(sequence_logprobs(model, prompts[part], answers[part], recipe.context).cpu())
            sides.append(torch.cat(found))

    def collate(numbers: list[int]) -> Preferences:
        pairs = [comparisons[i] for i in numbers]
        return Preferences(
            [prompts[i] for i in numbers] * 2,
            [c.chosen for c in pairs] + [c.rejected for c in pairs],
            torch.cat([side[numbers] for side in sides]),
        )

    def loss(model: nn.Module, batch: Preferences) -> Tensor:
        found = sequence_logprobs(model, batch.prompts, batch.answers, recipe.context)
        return dpo_loss(*found.chunk(2), *batch.reference.to(found.dtype).chunk(2), beta)

    items = [(p, c.chosen.tokens, c.rejected.tokens) for p, c in zip(prompts, comparisons, strict=True)]
    identity = repr((items, beta))
    batches = Epochs(range(len(comparisons)), recipe.batch_size, recipe.context, collate, identity, recipe.seed)
    return tune(model, batches, recipe, loss, folder, device, progress)
