"""A request's parameters: every field is checked, and an error names the field."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from minillm.errors import InvalidRequestError, MinillmError
from minillm.sampling import SamplingParams
from minillm.structured import Grammar

NAN, INF = math.nan, math.inf
NOT_NUMBERS: list[Any] = ["0.5", None, True, NAN, INF, -INF, [0.5], 1j]
NOT_INTEGERS: list[Any] = ["5", None, True, NAN, INF, 2.5, 5.0, [5]]

WRONG: dict[str, list[Any]] = {
    "temperature": [*NOT_NUMBERS, -0.1, 1001],
    "top_k": [*NOT_INTEGERS, -2],
    "top_p": [*NOT_NUMBERS, 0, -0.1, 1.1],
    "min_p": [*NOT_NUMBERS, -0.1, 1.1],
    "repetition_penalty": [*NOT_NUMBERS, 0, -1, 1e-4, 1001],
    "presence_penalty": [*NOT_NUMBERS, -2.1, 2.1],
    "frequency_penalty": [*NOT_NUMBERS, -2.1, 2.1],
    "logit_bias": [None, [1], "1", {"1": 1}, {1: "1"}, {1: None}, {1: NAN}, {1: 101}, {1: -101}, {1.5: 1}, {True: 1}],
    "seed": ["1", 1.5, True, NAN, [1]],
    "max_tokens": [*NOT_INTEGERS, 0, -1],
    "stop": [None, 5, True, "", ["a", ""], [5], [None], b"end", {"a": 1}],
    "stop_token_ids": [None, 5, "5", ["5"], [1.5], [True], {1}],
    "ignore_eos": [None, 1, "true"],
    "logprobs": ["3", True, 1.5, NAN, -1, 21],
    "n": [*NOT_INTEGERS, 0, 129],
    "grammar": ["json_object", {"type": "object"}, True],
}
RIGHT: dict[str, list[Any]] = {
    "temperature": [0, 0.0, 1e-9, 2, 1000, np.float32(0.7)],
    "top_k": [-1, 0, 1, 10**12, np.int64(40)],
    "top_p": [1e-9, 0.5, 1, np.float64(0.9)],
    "min_p": [0, 0.05, 1],
    "repetition_penalty": [0.001, 1, 1.2],
    "presence_penalty": [-2, 0, 2],
    "frequency_penalty": [-2.0, 2.0],
    "logit_bias": [{}, {5: -100, 6: 100.0}],
    "seed": [None, 0, -1, 2**80],
    "max_tokens": [1, 10**9],
    "stop": ["end", (), [], ["a", "b"], ("a",)],
    "stop_token_ids": [(), [1, 2]],
    "ignore_eos": [True, False],
    "logprobs": [None, 0, 20],
    "n": [1, 128],
    "grammar": [None, Grammar.json_object(), Grammar.regex("a*")],
}


def fields(table: dict[str, list[Any]]) -> list[Any]:
    return [pytest.param(name, value, id=f"{name}={value!r}") for name, values in table.items() for value in values]


@pytest.mark.parametrize(("name", "value"), fields(WRONG))
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        SamplingParams(**{name: value})
    assert caught.value.param == name
    assert str(caught.value).startswith(f"{name} is {value!r}; expected ")
    assert isinstance(caught.value, MinillmError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("name", "value"), fields(RIGHT))
def test_a_right_value_is_taken(name: str, value: Any) -> None:
    taken = getattr(SamplingParams(**{name: value}), name)
    assert taken == ((value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value)


def test_every_field_is_tried() -> None:
    assert set(WRONG) == set(RIGHT) == set(SamplingParams.__dataclass_fields__)


def test_the_defaults_are_those_of_the_api() -> None:
    params = SamplingParams()
    assert (params.temperature, params.top_p, params.presence_penalty, params.frequency_penalty) == (1, 1, 0, 0)
    assert not params.is_greedy
    assert SamplingParams(temperature=0).is_greedy


def test_one_stop_string_may_stand_alone() -> None:
    assert SamplingParams(stop="end").stop_strings == ("end",)
    assert SamplingParams(stop=["a", "b"]).stop_strings == ("a", "b")


def test_lists_are_copied() -> None:
    stop, tokens = ["a"], [1]
    params = SamplingParams(stop=stop, stop_token_ids=tokens)
    stop.append("b")
    tokens.append(2)
    assert params.stop_strings == ("a",)
    assert params.stop_token_ids == (1,)
