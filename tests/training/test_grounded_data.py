"""The examples of cited answers: what they say is in the sources that they cite."""

from __future__ import annotations

import itertools
import re
from statistics import mean

import pytest

from minillm.text import Tokenizer
from minillm.training.data.grounded import grounded_examples
from minillm.training.data.grounded_prompts import REFUSAL
from minillm.training.example import Example
from minillm.weights import resolve

_LABEL = re.compile(r" \[([^\]\s]+)\](?= |$)")


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return list(itertools.islice(grounded_examples(7), 1500))


def test_the_same_for_the_same_seed(examples: list[Example]) -> None:
    assert list(itertools.islice(grounded_examples(7), 50)) == examples[:50]
    assert list(itertools.islice(grounded_examples(8), 50)) != examples[:50]


def test_cited_labels_exist_and_numbers_come_from_the_prompt(examples: list[Example]) -> None:
    for example in examples:
        prompt = "\n".join(m["content"] for m in example.messages if m["role"] != "assistant")
        for message in example.messages:
            if message["role"] != "assistant" or message["content"] == REFUSAL:
                continue
            found = _LABEL.findall(message["content"])
            assert found, message
            for label in found:
                shown = (f"[{label}]", f"Source {label}:", f"Document {label}:", f'id="{label}"', f"{label}. ")
                assert any(text in prompt for text in shown), (label, prompt)
            for number in re.findall(r"\d[\d.:]*\d", _LABEL.sub("", message["content"])):
                assert number in prompt


def test_variety_and_refusals(examples: list[Example]) -> None:
    answers = [m["content"] for e in examples for m in e.messages if m["role"] == "assistant"]
    assert 0.25 <= mean(answer == REFUSAL for answer in answers) <= 0.35
    assert len({str(e.messages) for e in examples}) == len(examples)
    assert 0.04 <= mean(len([m for m in e.messages if m["role"] == "user"]) > 1 for e in examples) <= 0.12


def test_prompts_are_short(examples: list[Example]) -> None:
    tokenizer = Tokenizer.load(resolve("smollm2-135m", progress=False))
    lengths = [len(tokenizer.apply_chat_template(list(e.messages[:-1]), add_generation_prompt=True)) for e in examples]
    assert mean(lengths) <= 230
    assert max(lengths) <= 1000
