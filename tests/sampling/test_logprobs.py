"""Log-probabilities of the chosen token and of the most likely ones."""

from __future__ import annotations

import math

import pytest
import torch

from minillm.attention import DenseAttention
from minillm.engine import LLM
from minillm.sampling import SamplingParams, token_logprobs


def test_natural_logarithms_most_likely_first() -> None:
    logits = torch.tensor([0.1, 0.6, 0.1, 0.2]).log() + 5
    entry = token_logprobs(logits, 3, 2)
    assert entry.token_id == 3
    assert entry.logprob == pytest.approx(math.log(0.2), abs=1e-6)
    assert [token for token, _ in entry.top] == [1, 3]
    assert [logprob for _, logprob in entry.top] == pytest.approx([math.log(0.6), math.log(0.2)], abs=1e-6)


def test_none_of_the_others_if_zero_are_asked_for() -> None:
    assert token_logprobs(torch.zeros(5), 2, 0).top == ()


def test_a_forbidden_token_has_minus_infinity() -> None:
    assert token_logprobs(torch.tensor([0.0, -math.inf]), 1, 1).logprob == -math.inf


def test_a_request_reports_the_models_own_probabilities() -> None:
    """Before temperature, penalties, bias and filters: they tell what the model thinks, not what was asked of it."""
    llm = LLM("tiny-random")
    params = SamplingParams(temperature=0, max_tokens=4, logprobs=3, logit_bias={7: 100}, top_p=0.5)
    output = llm.generate("The cat", params)
    assert output.token_ids == [7] * 4
    assert output.logprobs is not None
    assert [entry.token_id for entry in output.logprobs] == output.token_ids
    for index, entry in enumerate(output.logprobs):
        ids = torch.tensor(output.prompt_token_ids + output.token_ids[:index])
        hidden = llm.model(ids, torch.arange(len(ids)), DenseAttention())
        expected = llm.model.logits(hidden[-1:])[0].log_softmax(-1)
        assert entry.logprob == pytest.approx(float(expected[7]), abs=1e-4)
        assert len(entry.top) == 3
        assert entry.top[0][1] == pytest.approx(float(expected.max()), abs=1e-4)
        assert entry.top[0][0] == int(expected.argmax())


def test_without_asking_there_are_none() -> None:
    assert LLM("tiny-random").generate("a", SamplingParams(temperature=0, max_tokens=1)).logprobs is None
