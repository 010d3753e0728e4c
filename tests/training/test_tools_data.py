"""The conversations with tools that the adapter learns from."""

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
from minillm.training.data.tools import FIXED, THINGS, tool_examples
from minillm.training.data.tools_catalogue import VERBS
from minillm.training.example import Example
from minillm.training.train import tokenize


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(islice(tool_examples(3), 1000))


@pytest.fixture(scope="module")
def conversations(examples: list[Example]) -> list[Example]:
    """The examples and their siblings."""
    return [each for example in examples[:400] for each in (example, *example.siblings)]


def definitions(example: Example) -> list[dict[str, Any]]:
    """Those of the request, or those that the generator wrote into the system prompt."""
    if example.tools:
        return [dict(tool["function"]) for tool in example.tools]
    system = example.messages[0]["content"]
    text = re.search(r"<tools>\n(\[?\{.*)\n</tools>", system, re.DOTALL)
    assert text
    written = json.loads(text[1]) if text[1].startswith("[") else [json.loads(line) for line in text[1].splitlines()]
    return [tool.get("function", tool) for tool in written]


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
    elif isinstance(value, str) and "enum" not in schema:
        yield value


def test_same_seed_same_examples() -> None:
    assert list(islice(tool_examples(1), 50)) == list(islice(tool_examples(1), 50))
    assert list(islice(tool_examples(1), 50)) != list(islice(tool_examples(2), 50))


def test_many_tools_of_many_domains() -> None:
    assert len({tool.words for tool in FIXED}) + len(VERBS) * len(THINGS) > 1000
    assert len({tool.domain for tool in FIXED}) >= 20


def test_siblings_begin_with_the_same_tokens(examples: list[Example], smollm2_path: Path) -> None:
    assert mean(len(example.siblings) for example in examples) > 2
    tokenizer = Tokenizer.load(smollm2_path)
    for example in examples[:25]:
        first = tokenize(example, tokenizer).token_ids
        for sibling in example.siblings:
            assert sibling.tools == example.tools
            assert not sibling.siblings
            other = tokenize(sibling, tokenizer).token_ids
            system = other.index(tokenizer.encode("<|im_end|>")[0]) + 1
            assert other[:system] == first[:system]
            assert other != first


def test_calls_follow_their_tools_schemas_and_copy_their_strings(conversations: list[Example]) -> None:
    for example in conversations:
        schemas = {tool["name"]: tool["parameters"] for tool in definitions(example)}
        for index, message in enumerate(example.messages):
            before = "\n".join(turn["content"] for turn in example.messages[:index] if turn["role"] in ("user", "tool"))
            for call in calls(message):
                schema = schemas[call["name"]]
                jsonschema.validate(call["arguments"], schema)
                assert set(call["arguments"]) <= set(schema["properties"])
                for text in strings(call["arguments"], schema):
                    assert text in before or json.dumps(text)[1:-1] in before


def test_names_of_tools_are_unique_and_taken_by_the_api(examples: list[Example]) -> None:
    for example in examples:
        parse_tools([{"type": "function", "function": tool} for tool in definitions(example)])


def test_shares_of_cases(examples: list[Example]) -> None:
    sizes = [len(definitions(example)) for example in examples]
    numbers = [[len(calls(turn)) for turn in example.messages if turn["role"] == "assistant"] for example in examples]
    assert set(sizes) == set(range(1, 9))
    assert 0.25 < mean(size >= 6 for size in sizes) < 0.42
    assert 0.15 < mean(sum(turns) == 0 for turns in numbers) < 0.3
    assert 0.04 < mean(max(turns) > 1 for turns in numbers) < 0.13
    assert 0.1 < mean(len(turns) == 2 for turns in numbers) < 0.25
    assert 0.03 < mean(len(turns) == 3 for turns in numbers) < 0.12
    assert 0.1 < mean(example.tools is None for example in examples) <= 0.27


def test_the_trainer_takes_them_and_prompts_are_short(examples: list[Example], smollm2_path: Path) -> None:
    tokenizer = Tokenizer.load(smollm2_path)
    tokenized = [tokenize(example, tokenizer) for example in examples[:300]]
    assert mean(example.targets[0] for example in tokenized) <= 420
    assert max(len(example.token_ids) for example in tokenized) <= 1024
