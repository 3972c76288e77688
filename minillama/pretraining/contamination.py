"""Has the model seen the test? Contamination of an evaluation set by the training text (chapter 8).

A token of a test sample is contaminated if it lies in a run of more than ten tokens that also stands in the training
text, where a run may differ in a few places. Samples are then split by their share of contaminated tokens, and only a
difference in scores that chance does not explain counts as an effect.

Does: token-level matches with a skip budget, shares, the four subsets, their scores in standard errors.
Does not: find paraphrases or translations; keep an index of the training text (it is streamed past the samples).
Source: Touvron et al. 2023, appendix A.6.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

SEED = 10  # a match starts with this many equal tokens
BUDGET = 4  # and may then differ in this many places
CLEAN, DIRTY = 0.2, 0.8  # limits of the subsets


def contaminated_tokens(
    samples: Sequence[Sequence[int]],
    training: Iterable[Sequence[int]],
    min_length: int = SEED + 1,
    budget: int = BUDGET,
    seed: int = SEED,
) -> list[np.ndarray]:
    """Which tokens of each sample stand in a run that is also in the training text.

    A run starts with `seed` equal tokens, ends with an equal one, and differs in at most `budget` places in between;
    every token in it counts. These two rules on the ends are this book's reading of "skip-gram budget".

    Args:
        samples: token ids of the test samples.
        training: token ids of the training documents; read once, runs do not cross from one to the next.
        min_length: shortest run that counts, in tokens; more than ten in the paper.
        budget: places that may differ.
        seed: equal tokens that open a run.

    Returns:
        One boolean array a sample, shape (tokens of that sample,).

    Raises:
        ValueError: if `min_length` is below `seed`.
    """
    if min_length < seed:
        raise ValueError(f"min_length must be at least seed = {seed}, got {min_length}")
    index: dict[tuple[int, ...], list[tuple[int, int]]] = defaultdict(list)
    for s, sample in enumerate(samples):
        for i in range(len(sample) - seed + 1):
            index[tuple(sample[i : i + seed])].append((s, i))
    marks = [np.zeros(len(sample), dtype=bool) for sample in samples]
    for document in training:
        for j in range(len(document) - seed + 1):
            for s, i in index.get(tuple(document[j : j + seed]), ()):
                sample = samples[s]
                if i and j and sample[i - 1] == document[j - 1]:
                    continue  # the run that starts one token earlier reaches at least as far
                end = run_end(sample, document, i, j, seed, budget)
                if end - i >= min_length:
                    marks[s][i:end] = True
    return marks


def run_end(a: Sequence[int], b: Sequence[int], i: int, j: int, seed: int = SEED, budget: int = BUDGET) -> int:
    """End in `a` of the run that starts at a[i] and b[j], where `seed` tokens are known to be equal."""
    end, misses = i + seed, 0
    for k in range(seed, min(len(a) - i, len(b) - j)):
        if a[i + k] == b[j + k]:
            end = i + k + 1
        elif (misses := misses + 1) > budget:
            break
    return end


def shares(marks: Sequence[np.ndarray]) -> np.ndarray:
    """Share of contaminated tokens of each sample, shape (samples,); an empty sample has 0."""
    return np.array([mark.mean() if len(mark) else 0.0 for mark in marks])


@dataclass(frozen=True)
class Subset:
    """Scores of one subset against all samples.

    Attributes:
        name: clean, not clean, not dirty or dirty.
        size: number of samples in it.
        score: their mean score; nan if empty.
        z: (score - mean of all) in standard errors of a random subset of this size; nan if that is not defined.
    """

    name: str
    size: int
    score: float
    z: float


def subsets(share: np.ndarray, scores: Sequence[float]) -> list[Subset]:
    """The paper's four subsets: clean (< 20 %), not clean, not dirty (< 80 %), dirty.

    A random subset of n out of N samples has a mean with variance sigma**2 / n * (N - n) / (N - 1).

    Args:
        share: share of contaminated tokens of each sample, shape (N,).
        scores: score of each sample, such as 1 for a right answer and 0 for a wrong one.

    Raises:
        ValueError: if the lengths differ.
    """
    share, scores = np.asarray(share, dtype=float), np.asarray(scores, dtype=float)
    if share.shape != scores.shape:
        raise ValueError(f"one share and one score for each sample, got shapes {share.shape} and {scores.shape}")
    total, found = len(scores), []
    members = {
        "clean": share < CLEAN,
        "not clean": share >= CLEAN,
        "not dirty": share < DIRTY,
        "dirty": share >= DIRTY,
    }
    for name, chosen in members.items():
        n = int(chosen.sum())
        score = float(scores[chosen].mean()) if n else math.nan
        error = math.sqrt(scores.var() / n * (total - n) / (total - 1)) if 0 < n < total else 0.0
        found.append(Subset(name, n, score, (score - scores.mean()) / error if error else math.nan))
    return found


def shows_an_effect(four: Sequence[Subset]) -> bool:
    """The paper's rule: each z-score beyond 2; below the mean for clean and not dirty, above it for the others."""
    signs = {"clean": -1, "not clean": 1, "not dirty": -1, "dirty": 1}
    return all(signs[subset.name] * subset.z > 2 for subset in four)
