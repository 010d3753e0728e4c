"""Estimates with intervals: how far a number from a small sample may be from the truth."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minillm.evaluation.errors import EvaluationError

RESAMPLES = 2_000
"""How often a bootstrap draws. The interval's ends then vary by a few percent of its width between seeds."""


_AT_ONCE = 2**20
"""Numbers that are drawn in one go, so that a large sample doesn't take much memory."""


@dataclass(frozen=True)
class Estimate:
    """A number and its interval of confidence.

    Attributes:
        value: the number for the sample.
        low, high: the interval.
        n: the size of the sample.
        method: how the interval was made.
    """

    value: float
    low: float
    high: float
    n: int
    method: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a proportion, which holds for small n and near 0 and 1, where the usual ±1.96 s/√n fails.

    It has all proportions p from which `successes` isn't z standard errors away, with the standard error that p gives.

    Source: Wilson, JASA 22, 1927; compared with others by Newcombe, Statistics in Medicine 17:857, 1998 (method 3).

    Args:
        successes: how many; for scores between 0 and 1 their sum, and the interval is rather too wide than too narrow.
        n: the size of the sample.
        confidence: of the interval.

    Raises:
        EvaluationError: if there's no sample, or the numbers are impossible.
    """
    if n < 1 or not 0 <= successes <= n:
        raise EvaluationError(f"{successes} of {n} is no proportion; expected 0 ≤ successes ≤ n and n ≥ 1.")
    z = normal_quantile(confidence)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    # At the ends the formula gives 0 and 1, but not in floating point.
    return (0.0 if successes == 0 else low), (1.0 if successes == n else high)


def estimate_proportion(successes: float, n: int, confidence: float = 0.95) -> Estimate:
    """The share of successes, with Wilson's interval."""
    low, high = wilson_interval(successes, n, confidence)
    return Estimate(successes / n, low, high, n, "Wilson")


def estimate_mean(values: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Estimate:
    """The mean of scores: with Wilson's interval if all are 0 or 1, with the bootstrap's otherwise.

    Where a small sample has one score throughout, the bootstrap's interval would have no width, and Wilson's is given.

    Args:
        values: [n] scores from 0 to 1.
        confidence: of the interval.
        seed: of the bootstrap's draws.
    """
    scores = as_sample(values)
    if scores.min() < 0 or scores.max() > 1:
        raise EvaluationError(f"Scores go from {scores.min()} to {scores.max()}; expected all to be from 0 to 1.")
    if np.isin(scores, (0.0, 1.0)).all() or scores.min() == scores.max():
        return estimate_proportion(float(scores.sum()), len(scores), confidence)
    return bootstrap_mean(scores, confidence=confidence, seed=seed)


def bootstrap_mean(
    values: ArrayLike, *, confidence: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """`bootstrap` of the mean, with many draws at once.

    Args:
        values: [n].
        confidence, resamples, seed: see `bootstrap`.
    """
    sample = as_sample(values)
    n = len(sample)
    random = np.random.default_rng(seed)
    means: list[NDArray[np.float64]] = []
    for begin in range(0, resamples, rows := max(1, _AT_ONCE // n)):
        drawn = random.integers(0, n, (min(rows, resamples - begin), n))  # [draws, n]
        means.append(sample[drawn].mean(axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Estimate(float(sample.mean()), float(low), float(high), n, "bootstrap")


def bootstrap(
    statistic: Callable[[NDArray[np.intp]], float | None],
    n: int,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A statistic with the percentile bootstrap's interval.

    It's computed for many samples that are drawn from the sample with replacement; the interval holds the middle
    `confidence` of what comes out.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), §13.3.

    Args:
        statistic: takes the indices of a drawn sample, [n]; None where it has no value, and the draw isn't counted.
        n: the size of the sample. What belongs together, such as the two orders of a pair, should be one index.
        confidence: of the interval.
        resamples: how many samples are drawn.
        seed: of the draws.

    Raises:
        EvaluationError: if there's no sample, or the statistic has no value for it.
    """
    value = statistic(np.arange(n)) if n else None
    if value is None or not math.isfinite(value):
        raise EvaluationError(
            f"This statistic has no value for a sample of {n}. Give it more, or more varied, examples."
        )
    random = np.random.default_rng(seed)
    draws = (statistic(random.integers(0, n, n)) for _ in range(resamples))
    drawn = [draw for draw in draws if draw is not None and math.isfinite(draw)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail]) if drawn else (value, value)
    return Estimate(value, float(low), float(high), n, "bootstrap")


def cohens_kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> float | None:
    """How far two raters agree beyond chance: 1 always, 0 as often as chance would have it, below 0 less often.

    κ = (observed − expected) / (1 − expected), where two raters who draw from their own shares of labels would agree on
    the expected share. None where both give one and the same label to everything: chance agrees as well then.

    Source: Cohen, Educational and Psychological Measurement 20:37, 1960.
    """
    if len(one) != len(other) or not one:
        raise EvaluationError(
            f"The raters gave {len(one)} and {len(other)} labels; expected as many, and at least one."
        )
    n = len(one)
    observed = sum(a == b for a, b in zip(one, other, strict=True)) / n
    labels = set(one) | set(other)
    expected = sum(list(one).count(label) * list(other).count(label) for label in labels) / n**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float | None:
    """Spearman's ρ: the correlation of the ranks, where equal values share the mean of theirs.

    None where one of the two has the same value throughout.

    Source: Spearman, American Journal of Psychology 15:72, 1904.
    """
    first, second = _ranks(as_sample(x)), _ranks(as_sample(y))
    if len(first) != len(second):
        raise EvaluationError(f"{len(first)} and {len(second)} values can't be correlated; expected as many.")
    first, second = first - first.mean(), second - second.mean()
    spread = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / spread if spread else None


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n] from 1 on; of equal values, the mean of their ranks."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_ranks: NDArray[np.float64] = last - (counts - 1) / 2
    return mean_ranks[place]


def normal_quantile(confidence: float) -> float:
    """z: the standard normal distribution has `confidence` of itself between -z and z; 1.96 for 0.95."""
    if not 0 < confidence < 1:
        raise EvaluationError(f"confidence is {confidence}; expected a share between 0 and 1, such as 0.95.")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def as_sample(values: ArrayLike) -> NDArray[np.float64]:
    """[n] finite numbers.

    Raises:
        EvaluationError: if they're none, or not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or not len(sample) or not np.isfinite(sample).all():
        raise EvaluationError(f"A sample must be a list of at least one finite number; this has shape {sample.shape}.")
    return sample
