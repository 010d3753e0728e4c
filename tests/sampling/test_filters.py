"""The filters against transformers' logits processors, and what has to hold of any filtered distribution."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from minillm.sampling import FilteringSampler, SamplingMetadata, SamplingParams

SAMPLER = FilteringSampler()
NO_IDS = torch.zeros(1, 0, dtype=torch.int64)


def probabilities(logits: Tensor, *params: SamplingParams) -> Tensor:
    """[num_seqs, vocab_size]; one row of logits per entry of `params`, or one for all."""
    rows = logits if logits.dim() == 2 else logits.repeat(len(params), 1)
    return SAMPLER.probabilities(rows, SamplingMetadata.build(params, [0.5] * len(params)))


def transformers_scores(logits: Tensor, params: SamplingParams) -> Tensor:
    """[vocab_size]: transformers' processors in the documented order."""
    scores = TemperatureLogitsWarper(params.temperature)(NO_IDS, logits[None])
    if params.top_k > 0:
        scores = TopKLogitsWarper(params.top_k)(NO_IDS, scores)
    if params.top_p < 1:
        scores = TopPLogitsWarper(params.top_p)(NO_IDS, scores)
    if params.min_p > 0:
        scores = MinPLogitsWarper(params.min_p)(NO_IDS, scores)
    return scores[0]


def at_a_threshold(logits: Tensor, params: SamplingParams) -> bool:
    """Whether a rounding error may decide on a token: float32 there, float64 here."""
    scaled = logits.double() / params.temperature
    if params.top_k > 0:
        kth = scaled.topk(min(params.top_k, len(scaled))).values[-1]
        scaled = scaled.masked_fill(scaled < kth - 1e-6, -math.inf)
    sums = scaled.sort(descending=True).values.softmax(-1).cumsum(-1)
    ratios = (scaled - scaled.max()).exp()
    near_top_p = params.top_p < 1 and bool(((sums - params.top_p).abs() < 1e-5).any())
    return near_top_p or bool(((ratios - params.min_p).abs() < 1e-5).any())


def random_logits(seed: int, vocab_size: int, *, ties: bool) -> Tensor:
    logits = torch.randn(vocab_size, generator=torch.Generator().manual_seed(seed)) * 3
    return logits.round() if ties else logits


filter_params = st.builds(
    SamplingParams,
    temperature=st.floats(0.1, 5),
    top_k=st.integers(0, 40),
    top_p=st.one_of(st.just(1.0), st.floats(0.01, 1)),
    min_p=st.one_of(st.just(0.0), st.floats(0, 1)),
)
logits_rows = st.builds(random_logits, st.integers(0, 2**32), st.integers(1, 60), ties=st.booleans())


@given(logits_rows, filter_params)
@settings(deadline=None, max_examples=150)
def test_equals_transformers(logits: Tensor, params: SamplingParams) -> None:
    assume(not at_a_threshold(logits, params))
    ours = probabilities(logits, params)[0]
    theirs = transformers_scores(logits, params).softmax(-1)
    # Which of several equal tokens top-p drops is nobody's promise, so the values are compared, not their places.
    torch.testing.assert_close(ours.sort().values, theirs.sort().values, atol=1e-5, rtol=1e-4)
    if len(logits.unique()) == len(logits):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(temperature=0.7, top_k=50, top_p=0.9, min_p=0.05),
        SamplingParams(temperature=1.3, top_p=0.95),
        SamplingParams(temperature=0.2, min_p=0.1),
        SamplingParams(top_k=1000),
    ],
)
def test_equals_transformers_over_a_whole_vocabulary(params: SamplingParams) -> None:
    logits = random_logits(7, 49_152, ties=False)
    theirs = transformers_scores(logits, params).softmax(-1)
    torch.testing.assert_close(probabilities(logits, params)[0], theirs, atol=1e-6, rtol=1e-3)


@given(st.lists(st.tuples(st.integers(0, 2**32), filter_params), min_size=1, max_size=8))
@settings(deadline=None, max_examples=60)
def test_a_row_is_the_same_alone_and_in_a_batch(rows: list[tuple[int, SamplingParams]]) -> None:
    logits = torch.stack([random_logits(seed, 33, ties=False) for seed, _ in rows])
    params = [each for _, each in rows]
    together = probabilities(logits, *params)
    for row, (single, each) in enumerate(zip(logits, params, strict=True)):
        assert torch.equal(together[row], probabilities(single, each)[0])


@given(logits_rows, filter_params)
@settings(deadline=None, max_examples=100)
def test_rows_add_up_to_one_and_the_most_likely_token_stays(logits: Tensor, params: SamplingParams) -> None:
    row = probabilities(logits, params)[0]
    assert float(row.sum()) == pytest.approx(1, abs=1e-5)
    assert row[logits.argmax()] == row.max() > 0
    if params.top_k > 0 and len(logits.unique()) == len(logits):
        assert int((row > 0).sum()) <= params.top_k


@given(logits_rows, filter_params)
@settings(deadline=None, max_examples=100)
def test_temperature_zero_puts_everything_on_the_most_likely_token(logits: Tensor, params: SamplingParams) -> None:
    greedy = SamplingParams(temperature=0, top_k=params.top_k, top_p=params.top_p, min_p=params.min_p)
    row = probabilities(logits, greedy)[0]
    assert row[logits.argmax()] == 1
    assert row.sum() == 1


@pytest.mark.parametrize("temperature", [1e-40, 1e-20, 1e-6, 1000.0])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_no_temperature_overflows(temperature: float, scale: float) -> None:
    logits = torch.tensor([3.0, 1.0, -2.0, -math.inf]) * scale
    row = probabilities(logits, SamplingParams(temperature=temperature))[0]
    assert bool(torch.isfinite(row).all())
    assert row[3] == 0
    assert row.argmax() == 0
    if temperature < 1:
        assert row[0] == 1


def test_a_limit_beyond_every_vocabulary_is_no_limit() -> None:
    logits = random_logits(1, 20, ties=False)
    assert torch.equal(probabilities(logits, SamplingParams(top_k=10**30)), probabilities(logits, SamplingParams()))


def test_inputs_are_left_alone() -> None:
    params = [SamplingParams(temperature=0.5, top_k=3, top_p=0.9, min_p=0.1), SamplingParams(temperature=0)]
    logits = torch.stack([random_logits(seed, 20, ties=False) for seed in (0, 1)])
    metadata = SamplingMetadata.build(params, [0.2, 0.8])
    before = logits.clone(), {name: tensor.clone() for name, tensor in vars(metadata).items()}
    SAMPLER.sample(logits, metadata)
    assert torch.equal(logits, before[0])
    assert all(torch.equal(getattr(metadata, name), tensor) for name, tensor in before[1].items())
