"""Two runs on the same examples: how far apart they are, and whether chance alone would do that.

The examples are paired. Easy ones are easy for both, so the differences vary less than the scores, and a paired test
sees what two separate intervals would hide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from minillm.evaluation.errors import EvaluationError
from minillm.evaluation.statistics import as_sample, bootstrap_mean, wilson_interval

PERMUTATIONS = 10_000
_AT_ONCE = 2**20
_EXACT_UP_TO = 12
"""So many differences have 4096 ways of signs, which are all tried."""


@dataclass(frozen=True)
class Difference:
    """How far b is ahead of a.

    Attributes:
        a, b: the means.
        difference: b - a.
        low, high: its interval of confidence.
        p_value: how often chance alone would put them at least as far apart, if neither were better.
        n: how many examples both have.
        test: what gave the p-value and the interval.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float
    n: int
    test: str

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compare_paired(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95, seed: int = 0) -> Difference:
    """Compares two runs' scores of the same examples.

    Where all scores are 0 or 1, with McNemar's exact test and Newcombe's interval; otherwise with a permutation test
    and the paired bootstrap.

    Args:
        a: [n] the scores of one run.
        b: [n] those of the other, in the same order.
        confidence: of the interval.
        seed: of what is drawn.
    """
    first, second = as_sample(a), as_sample(b)
    if len(first) != len(second):
        raise EvaluationError(
            f"The runs have {len(first)} and {len(second)} scores; expected those of the same examples."
        )
    differences = second - first
    if np.isin(np.concatenate([first, second]), (0.0, 1.0)).all():
        both, neither = int((first * second).sum()), int(((1 - first) * (1 - second)).sum())
        only_a, only_b = int((differences == -1).sum()), int((differences == 1).sum())
        low, high = newcombe_interval(both, only_b, only_a, neither, confidence)
        p_value, test = mcnemar(only_a, only_b), "McNemar, Newcombe"
    else:
        estimate = bootstrap_mean(differences, confidence=confidence, seed=seed)
        low, high = estimate.low, estimate.high
        p_value, test = permutation_test(differences, seed=seed), "permutation, paired bootstrap"
    return Difference(
        float(first.mean()), float(second.mean()), float(differences.mean()), low, high, p_value, len(first), test
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's exact test: whether, where just one of two is right, it's one more often than the other.

    If neither were better, a coin would decide each of these; p is how often coins come out at least as uneven.

    Source: McNemar, Psychometrika 12:153, 1947; the exact form is the sign test.

    Args:
        only_a: examples that only a got right.
        only_b: examples that only b got right.

    Returns:
        the p-value, two-sided.
    """
    if only_a < 0 or only_b < 0:
        raise EvaluationError(f"{only_a} and {only_b} examples can't be; expected counts from 0 on.")
    n = only_a + only_b
    ways = sum(math.comb(n, count) for count in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * ways / 2**n)


def permutation_test(differences: ArrayLike, *, permutations: int = PERMUTATIONS, seed: int = 0) -> float:
    """Whether a mean difference of pairs is more than chance.

    If neither run were better, each difference might as well have the other sign. p is the share of all ways to choose
    the signs that give a mean at least as far from 0; of many differences, of ways drawn at random, and the one that
    was seen (Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9:39, 2010: p is never 0).

    Source: Fisher, The Design of Experiments (1935), §21.

    Args:
        differences: [n] of each pair.
        permutations: how many ways are drawn where there are too many for all.
        seed: of the draws.

    Returns:
        the p-value, two-sided.
    """
    values = as_sample(differences)
    values = values[values != 0]  # whose sign changes nothing
    if not len(values):
        return 1.0
    # Ways that give the same sum must compare as equal, however it's rounded.
    reached = abs(float(values.sum())) - 1e-9 * float(np.abs(values).sum())
    if len(values) <= _EXACT_UP_TO:
        ways = np.arange(2 ** len(values))[:, None] >> np.arange(len(values)) & 1
        return float((np.abs((1 - 2 * ways) @ values) >= reached).mean())
    random = np.random.default_rng(seed)
    as_far = 0
    for begin in range(0, permutations, rows := max(1, _AT_ONCE // len(values))):
        signs = 1 - 2 * random.integers(0, 2, (min(rows, permutations - begin), len(values)))  # [ways, n]
        as_far += int((np.abs(signs @ values) >= reached).sum())
    return (as_far + 1) / (permutations + 1)


def newcombe_interval(
    both: int, only_first: int, only_second: int, neither: int, confidence: float = 0.95
) -> tuple[float, float]:
    """The interval of the difference of two proportions of the same examples, first minus second.

    It's made of the two Wilson intervals, and takes into account how far the two go together (φ). Unlike the
    bootstrap's it doesn't shrink to nothing where a small sample happens to show no difference.

    Source: Newcombe, Statistics in Medicine 17:2635, 1998 (method 10).

    Args:
        both: examples that both got right.
        only_first: those that only the first got right.
        only_second: those that only the second got right.
        neither: those that neither got right.
        confidence: of the interval.
    """
    n = both + only_first + only_second + neither
    first, second = (both + only_first) / n, (both + only_second) / n
    low_1, high_1 = wilson_interval(both + only_first, n, confidence)
    low_2, high_2 = wilson_interval(both + only_second, n, confidence)
    phi = _phi(both, only_first, only_second, neither)
    below, above = first - low_1, high_2 - second
    low = first - second - math.sqrt(max(0.0, below**2 - 2 * phi * below * above + above**2))
    below, above = second - low_2, high_1 - first
    high = first - second + math.sqrt(max(0.0, above**2 - 2 * phi * above * below + below**2))
    return low, high


def _phi(both: int, only_first: int, only_second: int, neither: int) -> float:
    """The correlation of the two, corrected towards 0 as Newcombe's method 10 has it."""
    n = both + only_first + only_second + neither
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    if not margins:
        return 0.0
    excess: float = both * neither - only_first * only_second
    if excess > 0:
        excess = max(excess - n / 2, 0.0)
    return excess / math.sqrt(margins)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, corrected for their number: who tests ten metrics finds one by chance.

    Source: Holm, Scandinavian Journal of Statistics 6:65, 1979.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, so_far = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        so_far = max(so_far, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = so_far
    return corrected
