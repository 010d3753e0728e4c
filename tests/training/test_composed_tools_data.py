"""The conversations with composed tools, and the continuations that share a beginning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import jsonschema
import pytest

from minillm.structured.tool_calls import parse_tools
from minillm.text import Tokenizer
from minillm.training.data.composed_tools import composed_tool_examples
from minillm.training.data.wide_catalogue import WIDE
from minillm.training.example import Example
from minillm.training.train import tokenize


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(islice(composed_tool_examples(3), 400))


def conversations(example: Example) -> list[Example]:
    return [example, *example.siblings]


def definitions(example: Example) -> list[dict[str, Any]]:
    """Those of the request, or those that the generator wrote into the system prompt."""
    if example.tools:
        return [dict(tool["function"]) for tool in example.tools]
    text = re.search(r"<tools>\n(\{.*)\n</tools>", example.messages[0]["content"], re.DOTALL)
    assert text
    return [tool.get("function", tool) for tool in map(json.loads, text[1].splitlines())]


def calls(message: Any) -> list[dict[str, Any]]:
    """The calls of a turn, arguments as objects."""
    if message["role"] != "assistant":
        return []
    if made := message.get("tool_calls"):
        return [call["function"] | {"arguments": json.loads(call["function"]["arguments"])} for call in made]
    return [json.loads(text) for text in re.findall(r"<tool_call>\n(.*)\n</tool_call>", message["content"])]


def strings(value: Any, schema: dict[str, Any]) -> Iterator[str]:
    """The arguments that have to be copied."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from strings(item, schema["properties"][key])
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, schema["items"])
    elif isinstance(value, str) and "enum" not in schema and schema.get("format") != "date":
        yield value


def test_same_seed_same_examples() -> None:
    assert list(islice(composed_tool_examples(1), 30)) == list(islice(composed_tool_examples(1), 30))
    assert list(islice(composed_tool_examples(1), 30)) != list(islice(composed_tool_examples(2), 30))


def test_siblings_share_tools_and_system_and_have_none_themselves(examples: list[Example]) -> None:
    assert mean(len(example.siblings) for example in examples) > 2.5
    for example in examples:
        for sibling in example.siblings:
            assert sibling.tools == example.tools
            systems = [[turn for turn in each.messages if turn["role"] == "system"] for each in (example, sibling)]
            assert systems[0] == systems[1]
            assert sibling.messages != example.messages
            assert not sibling.siblings


def test_siblings_begin_with_the_same_tokens(examples: list[Example], smollm2_path: Path) -> None:
    tokenizer = Tokenizer.load(smollm2_path)
    for example in examples[:25]:
        shared = list(example.messages[:1]) if example.messages[0]["role"] == "system" else []
        begin = tokenizer.apply_chat_template(
            [*shared, {"role": "user", "content": ""}], tools=example.tools, add_generation_prompt=False
        )
        first = tokenize(example, tokenizer).token_ids
        same = next(place for place, (a, b) in enumerate(zip(begin, first, strict=False)) if a != b)
        assert same > 50
        for sibling in example.siblings:
            assert tokenize(sibling, tokenizer).token_ids[:same] == first[:same]


def test_calls_follow_their_tools_schemas_and_copy_their_strings(examples: list[Example]) -> None:
    for example in (each for family in examples for each in conversations(family)):
        schemas = {tool["name"]: tool["parameters"] for tool in definitions(example)}
        for index, message in enumerate(example.messages):
            before = "\n".join(turn["content"] for turn in example.messages[:index] if turn["role"] in ("user", "tool"))
            for call in calls(message):
                schema = schemas[call["name"]]
                jsonschema.validate(call["arguments"], schema)
                assert set(call["arguments"]) <= set(schema["properties"])
                for text in strings(call["arguments"], schema):
                    assert text.lower() in before.lower()


def test_definitions_are_valid_and_their_names_unique(examples: list[Example]) -> None:
    for example in examples:
        parse_tools([{"type": "function", "function": tool} for tool in definitions(example)])
        for tool in definitions(example):
            jsonschema.Draft202012Validator.check_schema(tool["parameters"])


def test_siblings_ask_for_different_tools(examples: list[Example]) -> None:
    """So that what decides is the request, not the tools that there are."""
    large = [example for example in examples if len(definitions(example)) > 3 and len(example.siblings) > 2]
    called = [
        {call["name"] for each in conversations(example) for turn in each.messages for call in calls(turn)}
        for example in large
    ]
    assert mean(len(names) for names in called) > 2


def test_arguments_of_all_types_in_flat_and_nested_objects() -> None:
    kinds = {parameter.schema["type"] for function in WIDE for parameter in function.parameters}
    assert kinds == {"string", "integer", "number", "boolean", "array"}
    assert any("." in parameter.name for function in WIDE for parameter in function.parameters)
    assert {len(function.parameters) for function in WIDE} >= {0, 1, 2, 3, 4}
    assert len({function.family for function in WIDE}) > 20


def test_every_request_and_answer_can_be_filled() -> None:
    """All placeholders name a parameter or a field, and every required parameter is in every request."""
    for function in WIDE:
        parameters = {parameter.name for parameter in function.parameters}
        required = {parameter.name for parameter in function.parameters if not parameter.is_optional}
        for ask in function.asks:
            named = set(re.findall(r"\{([a-z][\w.]*)[?}]", ask))
            assert named <= parameters, ask
            assert required <= set(re.findall(r"\{([a-z][\w.]*)[?}]", re.sub(r"\[[^]]*\]", "", ask))), ask
        for answer in function.answers:
            named = set(re.findall(r"\{([a-z][\w.]*)[?}]", answer))
            assert named <= parameters | {field.name for field in function.fields}, answer


def test_final_answers_say_what_the_result_says(examples: list[Example]) -> None:
    """Numbers in an answer come from the result or the request."""
    for example in (each for family in examples for each in conversations(family)):
        *before, result, answer = ["", *(turn["content"] for turn in example.messages)]
        if example.messages[-2]["role"] == "tool" or "<tool_response>" in result:
            known = " ".join(before) + result
            for number in re.findall(r"\d+(?:[.:]\d+)*", answer):
                assert number in known, (result, answer)


def test_shares_of_cases(examples: list[Example]) -> None:
    all_of_them = [each for example in examples for each in conversations(example)]
    sizes = [len(definitions(example)) for example in examples]
    numbers = [[len(calls(turn)) for turn in each.messages if turn["role"] == "assistant"] for each in all_of_them]
    assert set(sizes) == set(range(1, 9))
    assert mean(size >= 5 for size in sizes) > 0.2
    assert 0.12 < mean(sum(turns) == 0 for turns in numbers) < 0.3
    assert 0.04 < mean(max(turns) > 1 for turns in numbers) < 0.14
    assert 0.12 < mean(len(turns) > 1 and turns[-2] > 0 for turns in numbers) < 0.35


def test_examples_are_short_enough_for_the_trainer(examples: list[Example], smollm2_path: Path) -> None:
    tokenizer = Tokenizer.load(smollm2_path)
    totals, alone = [], []
    for example in examples[:120]:
        first, *others = [tokenize(each, tokenizer) for each in conversations(example)]
        own = [len(each.token_ids) - _num_shared(first.token_ids, each.token_ids) for each in others]
        totals.append(len(first.token_ids) + sum(own))
        alone.append(len(first.token_ids))
    assert mean(total <= 1024 for total in totals) > 0.93
    assert max(alone) <= 1024


def _num_shared(one: list[int], other: list[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
