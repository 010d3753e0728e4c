"""Intervals and tests against published numbers, naive sums over all cases, and what they promise: coverage."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.evaluation import (
    EvaluationError,
    bootstrap,
    cohens_kappa,
    compare_paired,
    estimate_mean,
    estimate_proportion,
    holm,
    mcnemar,
    permutation_test,
    rank_correlation,
    wilson_interval,
)
from minillm.evaluation.significance import newcombe_interval

COUNTS = st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=9)


@pytest.mark.parametrize(
    ("successes", "n", "interval"),
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_as_newcombe_published_it(successes: int, n: int, interval: tuple[float, float]) -> None:
    """Statistics in Medicine 17:857, 1998, table I, method 3."""
    assert wilson_interval(successes, n) == pytest.approx(interval, abs=5e-5)


@given(COUNTS)
def test_wilson_properties(counts: tuple[int, int]) -> None:
    successes, n = counts
    low, high = wilson_interval(successes, n)
    assert 0.0 <= low <= successes / n <= high <= 1.0 and low < high
    assert wilson_interval(n - successes, n) == pytest.approx((1 - high, 1 - low))
    wider = wilson_interval(successes, n, 0.99)
    assert wider[0] <= low and high <= wider[1]
    # Its ends are the proportions from which what was seen is just 1.96 standard errors away.
    for end in (low, high):
        if 0.0 < end < 1.0:
            assert abs(successes / n - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / n), rel=1e-5)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (3, 2), (-1, 2)])
def test_impossible_proportions(successes: int, n: int) -> None:
    with pytest.raises(EvaluationError, match="is no proportion"):
        wilson_interval(successes, n)


def test_the_interval_of_a_mean_is_the_one_that_fits() -> None:
    assert estimate_mean([1, 0, 1]) == estimate_proportion(2, 3)
    assert estimate_mean([0.5, 0.5, 0.5]).method == "Wilson"  # the bootstrap's would have no width
    mean = estimate_mean([0.0, 0.5, 1.0])
    assert (mean.method, mean.value, mean.n) == ("bootstrap", 0.5, 3)
    for wrong in ([], [float("nan")], [[0.5]], [1.5]):
        with pytest.raises(EvaluationError):
            estimate_mean(wrong)


def test_the_bootstrap_is_seeded_and_agrees_with_all_samples() -> None:
    """Of three scores there are 27 samples with replacement, whose means can be listed."""
    scores = np.array([0.1, 0.4, 0.9])
    means = [float(np.mean(sample)) for sample in itertools.product(scores, repeat=3)]
    estimate = bootstrap(lambda drawn: float(scores[drawn].mean()), 3, confidence=0.5, seed=1)
    assert estimate == bootstrap(lambda drawn: float(scores[drawn].mean()), 3, confidence=0.5, seed=1)
    low, high = np.quantile(means, [0.25, 0.75])
    assert estimate_mean(scores, confidence=0.5, seed=1) == estimate
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.035)
    assert estimate_mean(np.sqrt(np.arange(50) / 50), seed=1) != estimate_mean(np.sqrt(np.arange(50) / 50), seed=2)


def test_the_bootstrap_holds_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        sample = random.beta(2, 3, 40)
        estimate = bootstrap(lambda drawn, sample=sample: float(sample[drawn].mean()), 40, resamples=200, seed=trial)
        hits += estimate.low <= 2 / 5 <= estimate.high
    assert 0.88 <= hits / 200 <= 0.99


def test_a_bootstrap_without_a_value() -> None:
    with pytest.raises(EvaluationError, match="no value for a sample of 0"):
        bootstrap(lambda drawn: 1.0, 0)
    with pytest.raises(EvaluationError, match="no value for a sample of 2"):
        bootstrap(lambda drawn: None, 2)


def test_kappa_of_the_usual_example() -> None:
    """Two readers of fifty proposals: both yes 20, only one 5, only the other 10, both no 15. They agree on 0.7, by
    chance on 0.5, so κ is 0.4."""
    one = "y" * 25 + "n" * 25
    other = "y" * 20 + "n" * 5 + "y" * 10 + "n" * 15
    assert cohens_kappa(one, other) == pytest.approx(0.4)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1))
def test_kappa_properties(pairs: list[tuple[str, str]]) -> None:
    one, other = zip(*pairs, strict=True)
    kappa = cohens_kappa(one, other)
    assert kappa == cohens_kappa(other, one)
    assert kappa is None or -1.0 <= kappa <= 1.0
    assert cohens_kappa(one, one) == (None if len(set(one)) == 1 else 1.0)
    renamed = cohens_kappa([label * 2 for label in one], [label * 2 for label in other])
    assert renamed == kappa if kappa is None else renamed == pytest.approx(kappa)


def test_rank_correlation_by_hand() -> None:
    assert rank_correlation([1, 2, 3, 4], [10, 100, 1000, 10000]) == pytest.approx(1.0)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1.0)
    # Without ties it's 1 - 6 Σd² / n(n² - 1): Σd² is 8 here.
    assert rank_correlation([1, 2, 3, 4, 5], [3, 2, 1, 4, 5]) == pytest.approx(1 - 6 * 8 / (5 * 24))
    assert rank_correlation([1, 1, 2], [5, 5, 9]) == pytest.approx(1.0)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


@pytest.mark.parametrize(
    ("only_a", "only_b", "expected"), [(0, 0, 1.0), (0, 5, 2 / 32), (1, 9, 22 / 1024), (4, 4, 1.0)]
)
def test_mcnemar_by_hand(only_a: int, only_b: int, expected: float) -> None:
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a) == pytest.approx(expected)


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=8))
def test_the_permutation_test_is_the_naive_sum_over_all_signs(differences: list[int]) -> None:
    ways = [sum(sign * each for sign, each in zip(signs, differences, strict=True))
            for signs in itertools.product((1, -1), repeat=len(differences))]  # fmt: skip
    naive = sum(abs(way) >= abs(sum(differences)) for way in ways) / len(ways)
    assert permutation_test(differences) == pytest.approx(naive)


def test_many_differences_are_drawn_and_agree_with_the_sign_test() -> None:
    differences = [1.0] * 14 + [-1.0] * 6
    assert permutation_test(differences, seed=3) == pytest.approx(mcnemar(6, 14), abs=0.015)
    assert permutation_test([1.0] * 40, permutations=99) == 1 / 100  # never 0


def test_newcombes_interval_as_published() -> None:
    """Statistics in Medicine 17:2635, 1998, method 10, for 36, 12, 2 and 0 of 50."""
    assert newcombe_interval(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


@given(st.lists(st.integers(0, 15), min_size=4, max_size=4).filter(sum))
def test_newcombes_properties(table: list[int]) -> None:
    both, first, second, neither = table
    low, high = newcombe_interval(both, first, second, neither)
    difference = (first - second) / sum(table)
    assert -1.0 <= low <= difference <= high <= 1.0 and low < high
    assert newcombe_interval(both, second, first, neither) == pytest.approx((-high, -low))


def test_newcombes_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Over all tables of 20 pairs, weighed by their probability."""
    chances, n, covered = (0.5, 0.25, 0.1, 0.15), 20, 0.0
    for both, first, second in itertools.product(range(n + 1), repeat=3):
        if (neither := n - both - first - second) < 0:
            continue
        table = (both, first, second, neither)
        ways = math.factorial(n) / math.prod(map(math.factorial, table))
        low, high = newcombe_interval(*table)
        covered += ways * math.prod(p**k for p, k in zip(chances, table, strict=True)) * (low <= 0.15 <= high)
    assert 0.93 <= covered <= 0.98


@given(SCORES, st.randoms())
def test_pairs_compared(a: list[float], random: object) -> None:
    b = a[::-1]
    forth, back = compare_paired(a, b), compare_paired(b, a)
    assert forth.difference == pytest.approx(sum(b) / len(b) - sum(a) / len(a))
    assert forth.p_value == pytest.approx(back.p_value) and 0 < forth.p_value <= 1
    assert forth.low - 1e-12 <= forth.difference <= forth.high + 1e-12
    assert compare_paired(a, a).p_value == 1.0


def test_pairing_sees_what_two_intervals_hide() -> None:
    """Every example is a little easier for b; the examples differ far more from each other."""
    a = np.linspace(0.0, 0.9, 20)
    result = compare_paired(a, a + 0.05 + 0.01 * np.sin(np.arange(20)))
    assert result.low > 0.04 and result.p_value < 0.001
    apart, alone = estimate_mean(a), estimate_mean(a + 0.05)
    assert alone.low < apart.high


def test_right_or_wrong_is_compared_with_mcnemar() -> None:
    a, b = [1] * 6 + [0] * 6 + [1], [1] * 6 + [1] * 6 + [0]
    result = compare_paired(a, b)
    assert result.test.startswith("McNemar") and result.p_value == pytest.approx(mcnemar(1, 6))
    assert result.difference == pytest.approx(5 / 13)
    with pytest.raises(EvaluationError, match="2 and 1 scores"):
        compare_paired([0, 1], [1])


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
