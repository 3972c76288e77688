"""How sure is a score, and how sure is the model? Intervals and calibration (chapter 10).

A score on a test is a mean over a sample of questions; another sample would have given another one. And a model that
says "90 %" should be right nine times in ten.

Does: Wilson's interval for a share, the percentile bootstrap for anything else and for runs of several seeds on the
    same questions, reliability bins and their error.
Does not: correct for many comparisons; count tokens of one text as independent (give it documents or questions).
Source: Wilson 1927; Efron 1979; Guo et al. 2017, section 2 (calibration).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same confidence: how many, their mean confidence, and the share that was right."""

    count: int
    confidence: float
    accuracy: float


def reliability(confidences: Sequence[float], correct: Sequence[bool], bins: int = 10) -> list[Bin]:
    """Predictions sorted into bins of equal width, (0, 1/bins], (1/bins, 2/bins], ...; empty bins are left out.

    Args:
        confidences: probability that the model gave to its answer, from 0 (which joins the first bin) to 1.
        correct: whether the answer was right.
        bins: number of bins.

    Raises:
        ValueError: if the lengths differ, there are none, or a confidence is no probability.
    """
    p, right = np.asarray(confidences, dtype=float), np.asarray(correct, dtype=float)
    if p.shape != right.shape or not len(p):
        raise ValueError(f"expected a truth value for each confidence and at least one, got {len(right)} for {len(p)}")
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"a confidence must be between 0 and 1, got {p[~((p >= 0) & (p <= 1))][0]}")
    number = np.searchsorted(np.arange(1, bins) / bins, p, side="left")
    members = [number == i for i in range(bins)]
    return [Bin(int(m.sum()), float(p[m].mean()), float(right[m].mean())) for m in members if m.any()]


def expected_calibration_error(confidences: Sequence[float], correct: Sequence[bool], bins: int = 10) -> float:
    """Mean distance between confidence and accuracy over the bins of `reliability`, weighted by their counts."""
    found = reliability(confidences, correct, bins)
    return sum(b.count * abs(b.confidence - b.accuracy) for b in found) / sum(b.count for b in found)


def wilson_interval(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval for a share, from the score test: sound for small samples and for 0 or all successes.

    Args:
        successes: how many were right.
        total: of how many.
        confidence: chance that such an interval holds the true share.

    Raises:
        ValueError: unless 0 <= successes <= total, total >= 1 and 0 < confidence < 1.
    """
    if not 0 <= successes <= total or total < 1 or not 0 < confidence < 1:
        raise ValueError(f"expected 0 <= successes <= total, total >= 1, got {successes} of {total} at {confidence}")
    z, p = NormalDist().inv_cdf((1 + confidence) / 2), successes / total
    middle = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)


def bootstrap_interval(
    values: Sequence[float] | np.ndarray,
    statistic: Callable[[np.ndarray], float] = np.mean,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval: how the statistic varies when the sample is drawn again from itself.

    Args:
        values: one for each independent unit (a document, a question, not a token), shape (N,) or (N, columns). To
            compare two models on the same questions, pass the differences.
        statistic: function of such an array.
        confidence: chance that such an interval holds the true value, if N is not small.
        resamples: number of draws.
        seed: of the draws.

    Raises:
        ValueError: if there are fewer than two values, or `confidence` is not between 0 and 1.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2 or not 0 < confidence < 1:
        raise ValueError(f"expected at least two values and 0 < confidence < 1, got {len(values)}, {confidence}")
    draw = np.random.default_rng(seed)
    found = [statistic(values[draw.integers(0, len(values), len(values))]) for _ in range(resamples)]
    low, high = np.quantile(found, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def two_way_interval(
    values: np.ndarray, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a mean over training seeds and questions, both drawn again.

    Drawing only the questions again would tell how sure these very runs are, not what another seed would give.

    Args:
        values: one row for each seed, one column for each question, which is the same for all, shape (S, N). To compare
            two models, pass the differences. With one seed, only the questions vary.
        confidence, resamples, seed: as in `bootstrap_interval`.

    Raises:
        ValueError: if `values` has another number of axes or nothing in it, or `confidence` is not between 0 and 1.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or not values.size or not 0 < confidence < 1:
        raise ValueError(f"expected (seeds, questions) and 0 < confidence < 1, got {values.shape}, {confidence}")
    dice = np.random.default_rng(seed)
    by_seed, by_question = (dice.multinomial(n, np.full(n, 1 / n), resamples) / n for n in values.shape)  # (draws, n)
    means = ((by_question @ values.T) * by_seed).sum(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
