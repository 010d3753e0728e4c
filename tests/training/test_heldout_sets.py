"""The held-out sets of tools, extraction, sentiment and judge: each case can be answered, and rightly in one way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from minillm.structured.grammar import Grammar
from minillm.structured.tool_calls import parse_tools
from minillm.training.example import Case
from minillm.training.heldout.extraction import extraction_cases
from minillm.training.heldout.judge import judge_cases
from minillm.training.heldout.sentiment import sentiment_cases
from minillm.training.heldout.tools import tool_cases_eight, tool_cases_three, tool_loop_cases

SETS = (tool_cases_three, tool_cases_eight, tool_loop_cases, extraction_cases, sentiment_cases, judge_cases)
Maker = Callable[[int], list[Case]]


def written(case: Case) -> str:
    """All that the model reads of a case, but its tools."""
    return "\n".join(str(message.get("content")) for message in case.messages)


def texts(value: Any) -> Iterator[str]:
    """The strings in a JSON value, keys aside."""
    if isinstance(value, str):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(each)


@pytest.mark.parametrize("make", SETS)
def test_two_hundred_distinct_cases_of_one_set(make: Maker) -> None:
    for seed in (0, 1):
        cases = make(seed)
        assert len({json.dumps([case.messages, case.tools], sort_keys=True) for case in cases}) == len(cases) >= 200
        assert len({case.set_name for case in cases}) == 1
        assert all(64 <= case.max_tokens <= 128 for case in cases)


@pytest.mark.parametrize("make", SETS)
def test_a_seed_always_gives_the_same_and_another_gives_others(make: Maker) -> None:
    assert make(3) == make(3)
    assert make(3) != make(4)


@pytest.mark.parametrize("make", SETS)
def test_the_server_takes_each_case(make: Maker) -> None:
    for case in make(0):
        assert case.messages[-1]["role"] in ("user", "tool")
        if case.tools is not None:
            assert len(parse_tools(case.tools)) == len(case.tools)  # which also refuses two tools of one name
        if case.schema is not None:
            Grammar.json_schema(case.schema)


@pytest.mark.parametrize(("make", "count"), [(tool_cases_three, 3), (tool_cases_eight, 8)])
def test_calls_follow_their_tools_and_take_their_words_from_the_request(make: Maker, count: int) -> None:
    cases = make(0)
    assert sum(case.expected is None for case in cases) * 5 == len(cases)
    places: Counter[int] = Counter()
    names = set()
    for case in cases:
        assert case.tools is not None and len(case.tools) == count
        if case.expected is None:
            continue
        names.add(case.expected["name"].lower())
        functions = [tool["function"] for tool in case.tools]
        place = [function["name"] for function in functions].index(case.expected["name"])
        places[place] += 1
        parameters = functions[place]["parameters"] | {"additionalProperties": False}
        Draft202012Validator(parameters).validate(case.expected["arguments"])
        request = case.messages[-1]["content"]
        for name, value in case.expected["arguments"].items():
            missing = [text for text in texts(value) if text not in request]
            assert not missing, f"{request!r} doesn't tell {name}"
            if isinstance(value, int | float) and not isinstance(value, bool):
                assert str(value) in request
    assert min(places[place] for place in range(count)) >= 0.5 * max(places.values())
    assert len(names) >= 60


def test_a_tools_result_holds_the_value_that_the_question_lacks() -> None:
    cases = tool_loop_cases(0)
    ordered = 0
    for case in cases:
        question, call, result = case.messages[-3:]
        (value,) = case.expected["contains"]
        assert value in result["content"] and value not in question["content"]
        (made,) = call["tool_calls"]
        assert made["id"] == result["tool_call_id"]
        assert case.tools is not None
        (function,) = (tool["function"] for tool in case.tools if tool["function"]["name"] == made["function"]["name"])
        Draft202012Validator(function["parameters"]).validate(json.loads(made["function"]["arguments"]))
        for forbidden in case.expected.get("forbidden", ()):
            ordered += 1
            assert forbidden in result["content"] and forbidden not in value
            assert forbidden not in question["content"]
    assert 0.2 <= ordered / len(cases) <= 0.4


def test_extracted_values_follow_the_schema_and_stand_in_the_prompt() -> None:
    cases = extraction_cases(0)
    values = Counter()
    for case in cases:
        assert case.schema is not None
        Draft202012Validator(case.schema).validate(case.expected)
        assert list(case.expected) == case.schema["required"] and 2 <= len(case.expected) <= 6
        prompt = case.messages[-1]["content"]
        for name, value in case.expected.items():
            assert name in prompt
            assert all(text in prompt for text in texts(value))
            values[type(value)] += 1
            if type(value) in (int, float):
                assert str(value) in prompt
    assert all(values[kind] >= 15 for kind in (str, int, float, bool, list, type(None))), values


@pytest.mark.parametrize(("make", "key"), [(sentiment_cases, "sentiment"), (judge_cases, "verdict")])
def test_labels_are_balanced_and_allowed(make: Maker, key: str) -> None:
    cases = make(0)
    labels: Counter[str] = Counter()
    for case in cases:
        assert case.schema is not None and key in written(case)
        Draft202012Validator(case.schema["properties"][key]).validate(case.expected[key])
        labels[case.expected[key]] += 1
    assert len(labels) == 2 and len(set(labels.values())) == 1


def test_a_prompts_form_does_not_tell_the_label() -> None:
    """The first words of a judge's or a sentiment's prompt, which the layouts share, are followed by either label."""
    for make, key in ((sentiment_cases, "sentiment"), (judge_cases, "verdict")):
        by_start: dict[str, Counter[str]] = {}
        for case in make(0):
            by_start.setdefault(case.messages[-1]["content"][:9], Counter())[case.expected[key]] += 1
        common = [labels for labels in by_start.values() if labels.total() >= 20]
        assert common and all(min(labels.values()) >= 0.25 * labels.total() and len(labels) == 2 for labels in common)
