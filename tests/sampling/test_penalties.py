"""Penalties and bias against transformers and against OpenAI's formula."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

from minillm.errors import InvalidRequestError
from minillm.sampling import SamplingParams, adjust_logits

VOCAB_SIZE = 12
LOGITS = torch.tensor([2.0, -1.0, 0.0, 3.5, -2.5, 0.5, 1.0, -0.25, 4.0, -4.0, 0.125, -math.inf])
tokens = st.lists(st.integers(0, VOCAB_SIZE - 1), max_size=10)


@given(tokens, tokens, st.floats(0.1, 5))
@settings(deadline=None)
def test_repetition_penalty_equals_transformers(prompt: list[int], output: list[int], penalty: float) -> None:
    ours = adjust_logits(LOGITS, SamplingParams(repetition_penalty=penalty), prompt, output)
    seen = torch.tensor([prompt + output], dtype=torch.int64)
    theirs = RepetitionPenaltyLogitsProcessor(penalty)(seen, LOGITS[None].clone())[0]
    torch.testing.assert_close(ours, theirs)


@given(tokens, tokens, st.floats(-2, 2), st.floats(-2, 2))
@settings(deadline=None)
def test_presence_and_frequency_follow_openais_formula(
    prompt: list[int], output: list[int], presence: float, frequency: float
) -> None:
    """mu[j] - c[j] * frequency - (c[j] > 0) * presence, with c the counts in the output alone."""
    params = SamplingParams(presence_penalty=presence, frequency_penalty=frequency)
    ours = adjust_logits(LOGITS, params, prompt, output)
    for token in range(VOCAB_SIZE):
        count = output.count(token)
        expected = float(LOGITS[token]) - count * frequency - (count > 0) * presence
        assert float(ours[token]) == pytest.approx(expected, abs=1e-5)


@given(st.dictionaries(st.integers(0, VOCAB_SIZE - 1), st.floats(-100, 100)))
@settings(deadline=None)
def test_bias_is_added_by_token_id(bias: dict[int, float]) -> None:
    ours = adjust_logits(LOGITS, SamplingParams(logit_bias=bias), [1], [2])
    for token in range(VOCAB_SIZE):
        assert float(ours[token]) == pytest.approx(float(LOGITS[token]) + bias.get(token, 0), abs=1e-4)


def test_all_together_in_their_order() -> None:
    params = SamplingParams(
        repetition_penalty=2, presence_penalty=0.5, frequency_penalty=0.25, logit_bias={3: 10, 1: -10}
    )
    ours = adjust_logits(LOGITS, params, [3], [1, 1])
    assert float(ours[3]) == 3.5 / 2 + 10
    assert float(ours[1]) == -1.0 * 2 - 0.25 * 2 - 0.5 - 10
    unchanged = [token for token in range(VOCAB_SIZE) if token not in (1, 3)]
    assert torch.equal(ours[unchanged], LOGITS[unchanged])


def test_nothing_asked_for_is_the_row_itself() -> None:
    assert adjust_logits(LOGITS, SamplingParams(), [1, 2], [3]) is LOGITS


def test_the_models_own_logits_are_left_alone() -> None:
    before = LOGITS.clone()
    params = SamplingParams(repetition_penalty=2, presence_penalty=1, frequency_penalty=1, logit_bias={0: 5})
    adjust_logits(LOGITS, params, [0, 1], [2, 3])
    assert torch.equal(LOGITS, before)


@pytest.mark.parametrize("token", [-1, VOCAB_SIZE, 10**12])
def test_a_bias_on_a_token_that_does_not_exist_is_refused(token: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"token {token}; the vocabulary has the tokens 0 to 11") as caught:
        adjust_logits(LOGITS, SamplingParams(logit_bias={token: 1}), [0], [])
    assert caught.value.param == "logit_bias"


@pytest.mark.parametrize("penalty", [0.001, 1000.0])
def test_the_strongest_penalties_stay_finite(penalty: float) -> None:
    large = torch.tensor([1e5, -1e5, 0.0])
    assert bool(torch.isfinite(adjust_logits(large, SamplingParams(repetition_penalty=penalty), [0, 1, 2], [])).all())
