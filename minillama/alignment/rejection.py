"""Rejection sampling: answer K times, keep the best, learn from it (chapter 14).

The reward models choose among the answers of the latest policy; the chosen ones become demonstrations, and the base
model is fine-tuned on them again. Nothing but `minillama.alignment.sft` is needed to train.

Does: best of K by the two reward models together; a round of the paper's; what best-of-K is expected to give for every
    K from one set of samples; the bound on its KL divergence.
Does not: update the policy while it samples; that is PPO (chapter 15).
Source: Touvron et al. 2023b, section 3.2.3, figures 7 and 8; Beirami et al. 2024 (the bound). How the two rewards are
    joined for rejection sampling is not said; the rule here is the one that the paper gives for PPO.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minillama.alignment.chat import encode_prompt, messages
from minillama.alignment.reward import grade
from minillama.alignment.sampling import Answer, sample
from minillama.alignment.sft import Example
from minillama.model.tokenizer import Tokenizer
from minillama.model.transformer import Llama
from minillama.village.draw import Request

THRESHOLD = 0.15  # of the safety reward, section 3.2.3


def combine(helpful: Tensor, safe: Tensor, tagged: Tensor) -> Tensor:
    """The paper's piecewise reward R_c: that of safety if it is low or the prompt is tagged, else that of helpfulness.

    Args:
        helpful, safe: scores of the two reward models, as logits, of one shape.
        tagged: whether the prompt is known to be risky, of the same shape.

    Returns:
        values in (0, 1).
    """
    helpful, safe = helpful.sigmoid(), safe.sigmoid()
    return torch.where(tagged | (safe < THRESHOLD), safe, helpful)


@dataclass(frozen=True)
class Judges:
    """The two reward models, as one function of answers.

    A prompt counts as known to be risky if it was written to provoke harm (tag "harmful"), not if it only looks so.

    Attributes:
        helpful, safe: reward models.
        tokenizer: theirs.
    """

    helpful: Llama
    safe: Llama
    tokenizer: Tokenizer

    def __call__(self, requests: Sequence[Request], answers: Sequence[Answer]) -> Tensor:
        """R_c of answers to requests, shape (len(answers),). Equal answers to a request are graded once."""
        pairs = list(zip(requests, answers, strict=True))
        number = {key: i for i, key in enumerate(dict.fromkeys((r.lines, a.tokens) for r, a in pairs))}
        which = torch.tensor([number[r.lines, a.tokens] for r, a in pairs])
        once = dict(zip(which.tolist(), pairs, strict=True))
        asked, said = zip(*(once[i] for i in range(len(number))), strict=True)
        tagged = torch.tensor(["harmful" in request.tags for request in asked])
        by_help = grade(self.helpful, self.tokenizer, asked, said)
        return combine(by_help, grade(self.safe, self.tokenizer, asked, said), tagged)[which]


@dataclass(frozen=True)
class Candidates:
    """K answers to each of N requests, and their rewards.

    Attributes:
        requests: N requests.
        answers: N lists of K answers.
        rewards: shape (N, K).
    """

    requests: Sequence[Request]
    answers: Sequence[Sequence[Answer]]
    rewards: Tensor

    def best(self) -> list[Answer]:
        """The answer with the highest reward to each request; the first one of equals."""
        return [own[i] for own, i in zip(self.answers, self.rewards.argmax(-1).tolist(), strict=True)]


def candidates(
    policy: Llama,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    k: int,
    reward: Callable[[Sequence[Request], Sequence[Answer]], Tensor],
    temperature: float = 1.0,
    seed: int = 0,
    progress: bool = False,
) -> Candidates:
    """Sample K answers to each request and reward them.

    Args:
        policy, tokenizer: a pair that belongs together.
        requests: what is asked.
        k: answers to each.
        reward: gives a reward to each answer; `Judges`, or the true score.
        temperature, seed, progress: as in `minillama.alignment.sampling.sample`.
    """
    repeated = [request for request in requests for _ in range(k)]
    prompts = [encode_prompt(tokenizer, messages(request)) for request in repeated]
    flat = sample(policy, tokenizer, prompts, temperature, seed=seed, progress=progress)
    rewards = reward(repeated, flat).view(len(requests), k)
    return Candidates(requests, [flat[i : i + k] for i in range(0, len(flat), k)], rewards)


def targets(tokenizer: Tokenizer, found: Candidates) -> list[Example]:
    """The best answers as examples to be learnt. One without an end is left out: it would teach not to stop."""
    examples = []
    for request, answer in zip(found.requests, found.best(), strict=True):
        if answer.ended:
            prompt = encode_prompt(tokenizer, messages(request))
            said = [False] * len(prompt) + [True] * len(answer.tokens)
            examples.append(Example([*prompt, *answer.tokens], said))
    return examples


def expected_best(by: Tensor, values: Tensor, k: int) -> Tensor:
    """Expected value of the item that is best `by` one score, among k drawn from n without replacement.

    Sorted upwards, the item at rank i (from 1) is the best of the k with probability C(i - 1, k - 1) / C(n, k). So one
    set of n samples gives the whole curve up to n, with no further sampling.

    Args:
        by: the scores that choose, shape (..., n).
        values: what is averaged, shape (..., n); `by` itself gives the expected maximum.
        k: from 1 to n.

    Returns:
        shape (...).

    Raises:
        ValueError: if k is not in 1 .. n.
    """
    n = by.shape[-1]
    if not 1 <= k <= n:
        raise ValueError(f"k must be between 1 and the number of samples {n}, got {k}")
    weights = torch.tensor([math.comb(i, k - 1) / math.comb(n, k) for i in range(n)], dtype=torch.float64)
    order = by.argsort(dim=-1, stable=True)
    return (values.double().gather(-1, order) * weights).sum(-1)


def kl_bound(k: int) -> float:
    """Most nats by which best-of-k can differ from the policy: ln k - (k - 1) / k; reached if no two rewards tie."""
    return math.log(k) - (k - 1) / k
