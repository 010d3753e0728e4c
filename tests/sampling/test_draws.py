"""Draws against the distributions that they are meant to come from."""

from __future__ import annotations

import math
from fractions import Fraction

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from minillm.sampling import FilteringSampler, SamplingMetadata, SamplingParams, uniform
from minillm.sampling.sampler import draw

LARGEST = math.nextafter(1.0, 0.0)


def chi_square_limit(degrees: int) -> float:
    """The value that a right distribution exceeds once in 10,000 times (Wilson and Hilferty 1931)."""
    spread = 2 / (9 * degrees)
    return degrees * (1 - spread + 3.719 * math.sqrt(spread)) ** 3


def chi_square(counts: Tensor, expected: Tensor) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(),
        SamplingParams(temperature=0.6),
        SamplingParams(temperature=1.5, top_k=20),
        SamplingParams(top_p=0.8),
        SamplingParams(temperature=0.9, top_k=30, top_p=0.95, min_p=0.02),
    ],
)
@pytest.mark.parametrize("vary", ["seed", "position"])
def test_draws_follow_the_distribution(params: SamplingParams, vary: str) -> None:
    num, vocab_size = 20_000, 50
    logits = torch.randn(vocab_size, generator=torch.Generator().manual_seed(3)) * 1.5
    uniforms = [uniform(i, 5) if vary == "seed" else uniform(5, i) for i in range(num)]
    metadata = SamplingMetadata.build([params] * num, uniforms)
    tokens = FilteringSampler().sample(logits.repeat(num, 1), metadata)
    counts = torch.bincount(tokens, minlength=vocab_size).double()
    one = SamplingMetadata.build([params], [0.5])
    expected = FilteringSampler().probabilities(logits[None], one)[0].double() * num
    assert bool((counts[expected == 0] == 0).all())
    # Cells with few expected draws would make the test blind for the others.
    likely = expected >= 5
    assert counts[~likely].sum() <= expected[~likely].sum() + 6 * math.sqrt(float(expected[~likely].sum()) + 1)
    assert chi_square(counts[likely], expected[likely]) < chi_square_limit(int(likely.sum()))


weights = st.lists(st.sampled_from([0.0, 1e-30, 1e-6, 0.1, 0.25, 1.0, 3.0]), min_size=1, max_size=12).filter(any)


@given(weights, st.one_of(st.sampled_from([0.0, LARGEST]), st.floats(0, LARGEST)))
@settings(max_examples=200, deadline=None)
def test_draw_inverts_the_cumulative_distribution(values: list[float], number: float) -> None:
    token = int(draw(torch.tensor([values], dtype=torch.float64), torch.tensor([number], dtype=torch.float64))[0])
    assert values[token] > 0
    exact = [Fraction(value) for value in values]
    target = Fraction(number) * sum(exact)
    slack = sum(exact) * Fraction(1, 2**50)
    assert sum(exact[:token]) - slack <= target <= sum(exact[: token + 1]) + slack


def test_evenly_spread_numbers_give_exact_shares() -> None:
    num = 1000
    row = torch.tensor([0.1, 0.0, 0.25, 0.4, 0.05, 0.2])
    numbers = (torch.arange(num, dtype=torch.float64) + 0.5) / num
    counts = torch.bincount(draw(row.repeat(num, 1), numbers), minlength=len(row))
    assert counts.tolist() == [100, 0, 250, 400, 50, 200]


@pytest.mark.parametrize("vocab_size", [1, 2, 1000, 49_152, 200_000])
def test_the_ends_of_a_large_vocabulary(vocab_size: int) -> None:
    probabilities = torch.zeros(2, vocab_size + 20)
    probabilities[:, 10 : 10 + vocab_size] = torch.rand(vocab_size, generator=torch.Generator().manual_seed(0)) + 1e-9
    tokens = draw(probabilities, torch.tensor([0.0, LARGEST], dtype=torch.float64)).tolist()
    assert tokens == [10, 10 + vocab_size - 1]


def test_a_tokens_share_survives_a_large_vocabulary() -> None:
    """In float32 the running sum would lose the small ones: 200,000 tokens of 5e-6 each, and a likely one between."""
    vocab_size = 200_000
    probabilities = torch.full((1, vocab_size), 1.0)
    for token in (0, 77_777, vocab_size - 1):
        middle = (token + 0.5) / vocab_size
        assert draw(probabilities, torch.tensor([middle], dtype=torch.float64)).tolist() == [token]


def test_the_same_seed_and_position_give_the_same_token_wherever_the_row_stands() -> None:
    logits = torch.randn(6, 100, generator=torch.Generator().manual_seed(1))
    params = [SamplingParams(temperature=t, top_p=0.9) for t in (0.0, 0.5, 0.8, 1.0, 1.3, 2.0)]
    numbers = [uniform(row, 3) for row in range(6)]
    together = FilteringSampler().sample(logits, SamplingMetadata.build(params, numbers))
    order = [4, 2, 0, 5, 1, 3]
    shuffled = FilteringSampler().sample(
        logits[order], SamplingMetadata.build([params[i] for i in order], [numbers[i] for i in order])
    )
    assert shuffled.tolist() == together[order].tolist()
    assert together.dtype == torch.int64


def test_an_all_greedy_batch_takes_the_most_likely_tokens() -> None:
    logits = torch.randn(5, 100, generator=torch.Generator().manual_seed(1))
    metadata = SamplingMetadata.build([SamplingParams(temperature=0)] * 5, [0.3] * 5)
    assert FilteringSampler().sample(logits, metadata).tolist() == logits.argmax(-1).tolist()
