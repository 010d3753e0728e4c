"""How sure a score is: intervals, and comparisons of two models on the same cases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

_Z = 1.959963984540054  # of 95 %
_RESAMPLES = 2000


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927), which stays sensible near 0 and 1 and for small n."""
    if n == 0:
        return 0.0, 1.0
    share, z2 = successes / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    # At the ends the formula is exact but for rounding.
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == n else middle + half)


def mean_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """A 95 % interval of the mean: Wilson's for zeros and ones, else the bootstrap's percentiles."""
    if all(value in (0.0, 1.0) for value in values):
        return wilson_interval(round(sum(values)), len(values))
    return bootstrap_interval(values, seed)


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The middle 95 % of the means of samples drawn with replacement (Efron, 1979)."""
    random, n = Random(seed), len(values)
    means = sorted(sum(random.choices(values, k=n)) / n for _ in range(_RESAMPLES))
    return means[round(0.025 * (_RESAMPLES - 1))], means[round(0.975 * (_RESAMPLES - 1))]


def mcnemar_p(only_first: int, only_second: int) -> float:
    """The two-sided p-value of McNemar's test, exact: of the cases that only one got right, was it as often each?"""
    n = only_first + only_second
    tail = sum(math.comb(n, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**n)


@dataclass(frozen=True)
class Comparison:
    """Two models on the same cases.

    Attributes:
        num_pairs: cases that both have a score for.
        difference: mean of the second model's scores minus the first's.
        interval: a 95 % interval of it, by drawing cases (bootstrap).
        p: of McNemar's test; None for scores that aren't all 0 or 1.
    """

    num_pairs: int
    difference: float
    interval: tuple[float, float]
    p: float | None


def compare(first: Sequence[float | None], second: Sequence[float | None], seed: int = 0) -> Comparison | None:
    """Compares scores case by case; None where there is no case that both have a score for."""
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not pairs:
        return None
    differences = [b - a for a, b in pairs]
    p = None
    if all(value in (0.0, 1.0) for pair in pairs for value in pair):
        p = mcnemar_p(differences.count(-1.0), differences.count(1.0))
    return Comparison(len(pairs), sum(differences) / len(pairs), bootstrap_interval(differences, seed), p)
