"""A scaling law: fit the losses of small runs, predict the loss of a larger one (chapter 11).

L = E + A / N^a + B / D^b: what no model can know, plus what too few parameters and too few tokens cost. Five numbers,
fitted to a few dozen cheap runs, say what an expensive one will reach and how to divide its budget between N and D.

Does: laws in any quantities (N and D, or compute alone) by least squares in log L; bootstrap intervals; the best N
    and D for a budget.
Does not: choose between forms of law, or vouch for them far outside the fitted runs; an interval knows only the noise.
Source: Hoffmann et al. 2022, section 3.3 (they minimise a Huber loss); Marquardt 1963 for the minimiser.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class PowerLaw:
    """L = irreducible + sum over q of coefficients[q] / q^exponents[q]; call it with the quantities by name."""

    irreducible: float
    coefficients: dict[str, float]
    exponents: dict[str, float]

    def __call__(self, **quantities: ArrayLike) -> np.ndarray:
        terms = [self.coefficients[q] * np.asarray(quantities[q], float) ** -a for q, a in self.exponents.items()]
        return self.irreducible + sum(terms)


def fit_power_law(losses: ArrayLike, **quantities: ArrayLike) -> PowerLaw:
    """The law with the least squares in log L, found from many starting points.

    Args:
        losses: of n runs, above zero.
        quantities: n values each, such as `N=sizes, D=tokens`, or `C=flops` alone.

    Raises:
        ValueError: if there are too few runs, or the quantities do not vary independently of each other.
    """
    logs, targets = _checked(losses, quantities)
    return _law(_best(logs, targets), logs, list(quantities))


def bootstrap_power_laws(
    losses: ArrayLike, resamples: int = 200, seed: int = 0, **quantities: ArrayLike
) -> list[PowerLaw]:
    """Laws of the same runs with other luck; `np.quantile([law(...) for law in laws], [0.05, 0.95])` is an interval.

    Each run keeps its quantities and gets the residual of a run drawn at random. Residuals of a fit are too small by
    sqrt((n - p) / n) with p fitted numbers, and are scaled back. The spread is that of the law, the mean over seeds;
    a single new run scatters around it. Arguments and errors are those of `fit_power_law`.
    """
    logs, targets = _checked(losses, quantities)
    best = _best(logs, targets)
    fitted = np.log(_law(best, logs, list(quantities))(**quantities))
    n, p = len(targets), len(best)
    residuals = (targets - fitted) * np.sqrt(n / (n - p))
    drawn = np.random.default_rng(seed).choice(residuals - residuals.mean(), (resamples, n))
    found, _ = _least_squares(logs, fitted + drawn, np.tile(best, (resamples, 1)))
    return [_law(theta, logs, list(quantities)) for theta in found]


def compute_optimal(law: PowerLaw, flops: float) -> tuple[float, float]:
    """The N and D of least loss with 6 N D = flops, of a law in N and D.

    The slope of the loss along the curve is zero where a A / N^a = b B / D^b.
    """
    a, b = law.exponents["N"], law.exponents["D"]
    ratio = a * law.coefficients["N"] / (b * law.coefficients["D"])
    n = (ratio * (flops / 6) ** b) ** (1 / (a + b))
    return n, flops / (6 * n)


def _checked(losses: ArrayLike, quantities: Mapping[str, ArrayLike]) -> tuple[np.ndarray, np.ndarray]:
    """log of the quantities, shape (n, K), and of the losses, shape (n,)."""
    values = np.stack([np.asarray(losses, float), *(np.asarray(q, float) for q in quantities.values())])
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("losses and quantities must be finite and above zero; leave out runs that diverged")
    n, p = values.shape[1], 2 * values.shape[0] - 1
    if n <= p or min(len(set(row)) for row in values[1:]) < 3:
        raise ValueError(f"{p} numbers need more than {p} runs and 3 values of each quantity, got {n} runs")
    logs = np.log(values)
    scales = np.linalg.svd(np.corrcoef(logs[1:]).reshape(p // 2, -1), compute_uv=False)
    if scales[-1] < 1e-3:
        raise ValueError(f"{list(quantities)} grow together in all runs; vary one while the other stays")
    return logs[1:].T, logs[0]


def _best(logs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Least squares from a grid of E, as a share of the least loss, and of exponents; shape (1 + 2 K,)."""
    terms, least = logs.shape[1], np.exp(targets.min())
    grid = np.stack(np.meshgrid([0.2, 0.6, 0.9], *[[0.1, 0.3, 0.7]] * terms), -1).reshape(-1, 1 + terms)
    rest = (np.exp(targets.mean()) - grid[:, :1] * least) / terms
    starts = np.log(np.hstack([grid[:, :1] * least, rest.repeat(terms, 1), grid[:, 1:]]))
    found, errors = _least_squares(logs, targets[None], starts)
    return found[errors.argmin()]


def _least_squares(
    logs: np.ndarray, targets: np.ndarray, theta: np.ndarray, steps: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    """Levenberg-Marquardt on R problems at once: targets (R or 1, n), theta (R, 1 + 2 K); theta and squared errors.

    theta holds logarithms of E, of the terms at the mean quantities and of the exponents, so all stay above zero.
    """
    x, terms = logs - logs.mean(0), logs.shape[1]
    damping, error = np.full(len(theta), 0.01), np.full(len(theta), np.inf)
    trial, jacobian, misfit = theta, 0.0, 0.0
    for _ in range(steps):
        floor, slope = np.exp(trial[:, None, :1]), np.exp(trial[:, None, 1 + terms :])  # (R, 1, 1), (R, 1, K)
        parts = np.exp(trial[:, None, 1 : 1 + terms] - slope * x)  # (R, n, K)
        predicted = floor + parts.sum(-1, keepdims=True)  # (R, n, 1)
        residuals = targets[..., None] - np.log(predicted)
        derivatives = np.concatenate([floor + 0 * predicted, parts, -parts * slope * x], -1) / predicted
        better = (residuals**2).sum((1, 2)) < error
        pick = better[:, None, None]
        theta = np.where(better[:, None], trial, theta)
        jacobian, misfit = np.where(pick, derivatives, jacobian), np.where(pick, residuals, misfit)
        error = (misfit**2).sum((1, 2))
        damping = np.clip(np.where(better, damping / 3, damping * 4), 1e-12, 1e12)
        normal = jacobian.transpose(0, 2, 1) @ jacobian  # (R, p, p)
        ridge = damping[:, None] * np.einsum("rpp->rp", normal) + 1e-15
        normal = normal + ridge[..., None] * np.eye(normal.shape[-1])
        step = np.linalg.solve(normal, jacobian.transpose(0, 2, 1) @ misfit)
        trial = theta + np.clip(step[..., 0], -1, 1)
    return theta, error


def _law(theta: np.ndarray, logs: np.ndarray, names: list[str]) -> PowerLaw:
    irreducible, *rest = np.exp(theta).tolist()
    exponents = dict(zip(names, rest[len(names) :], strict=True))
    at_mean = zip(names, rest, logs.mean(0), strict=False)
    coefficients = {name: value * float(np.exp(exponents[name] * mean)) for name, value, mean in at_mean}
    return PowerLaw(irreducible, coefficients, exponents)
