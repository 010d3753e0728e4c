"""Filtered rows are drawn from by a look at their likeliest tokens; the result is that of sorting everything."""

from __future__ import annotations

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minillm.sampling import FilteringSampler, SamplingMetadata, SamplingParams
from minillm.sampling.sampler import LIKELY, _draw_likely, draw

VOCAB = 3000


@settings(max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    spread=st.sampled_from([0.1, 1.0, 4.0, 12.0]),
    top_k=st.sampled_from([0, 1, 7, LIKELY - 1, LIKELY, LIKELY + 1, 2 * VOCAB]),
    top_p=st.sampled_from([1e-6, 0.3, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
    uniform=st.floats(0, 1, exclude_max=True),
    ties=st.booleans(),
)
# Of tokens that are equally likely, top-p has to keep the same ones, and as many.
@example(seed=33581, spread=1.0, top_k=7, top_p=0.3, min_p=0.0, uniform=0.0, ties=True)
@example(seed=215, spread=1.0, top_k=1, top_p=0.9, min_p=0.0, uniform=0.75, ties=True)
def test_the_short_way_gives_the_token_of_the_long_one(
    seed: int, spread: float, top_k: int, top_p: float, min_p: float, uniform: float, ties: bool
) -> None:
    logits = torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(seed)) * spread
    if ties:
        logits = logits.round()
    metadata = SamplingMetadata.build([SamplingParams(top_k=top_k, top_p=top_p, min_p=min_p)], [uniform])
    probabilities = FilteringSampler().probabilities(logits, metadata)
    long, short = int(draw(probabilities, metadata.uniform)), int(_draw_likely(logits, metadata))
    if short not in (-1, long):
        # The two add up in another order, so a dart that hits a border may fall on either side of it.
        sums = probabilities[0].double().cumsum(0)
        low, high = sorted((long, short))
        assert abs(float(sums[low]) - uniform) < 1e-5
        assert float(probabilities[0, low + 1 : high].sum()) < 1e-5
    if short >= 0:
        assert probabilities[0, short] > 0
    if short < 0:
        assert top_k >= LIKELY or ties or int((probabilities > 0).sum()) >= LIKELY


def test_a_narrow_row_needs_only_the_short_way() -> None:
    logits = torch.randn(4, VOCAB, generator=torch.Generator().manual_seed(0)) * 8
    params = [SamplingParams(top_k=40), SamplingParams(top_p=0.9), SamplingParams(min_p=0.1), SamplingParams(top_k=1)]
    assert bool((_draw_likely(logits, SamplingMetadata.build(params, [0.5] * 4)) >= 0).all())
