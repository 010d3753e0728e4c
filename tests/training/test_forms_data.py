"""The training data of extraction, classification, judging and chat says what it should, and fits the budget."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import pytest

from minillm.text import Tokenizer
from minillm.training.data.chat import chat_examples
from minillm.training.data.classification import classification_examples, review
from minillm.training.data.conversations import SEEDS
from minillm.training.data.extraction import extraction_examples
from minillm.training.data.grounded import grounded_examples
from minillm.training.data.judge import judge_examples
from minillm.training.data.opinions import OPINIONS
from minillm.training.example import Example
from minillm.training.train import tokenize

GENERATORS = [extraction_examples, classification_examples, judge_examples, chat_examples]
SIBLINGS = [judge_examples, grounded_examples, extraction_examples, classification_examples]
Generator = Callable[[int], Iterator[Example]]


def _first(generator: Generator, count: int, seed: int = 5) -> list[Example]:
    return list(islice(generator(seed), count))


def _prompt(example: Example) -> str:
    return "\n".join(message["content"] for message in example.messages[:-1])


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two texts have in common at their beginning."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))))


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_seed_decides_the_examples(generator: Generator) -> None:
    assert _first(generator, 50) == _first(generator, 50)
    assert _first(generator, 50) != _first(generator, 50, seed=6)


@pytest.mark.parametrize("generator", GENERATORS)
def test_every_example_can_be_tokenized_and_prompts_are_short(generator: Generator, smollm2_path: Path) -> None:
    tokenizer = Tokenizer.load(smollm2_path)
    examples = [tokenize(example, tokenizer) for example in _first(generator, 200)]
    assert all(example.targets for example in examples)
    assert sum(example.targets[0] for example in examples) / len(examples) <= 230


def test_extracted_strings_stand_in_the_text_and_fields_in_the_order_of_the_prompt() -> None:
    for example in _first(extraction_examples, 500):
        prompt, answer = _prompt(example), example.messages[-1]["content"]
        values = json.loads(answer)
        assert answer == json.dumps(values, ensure_ascii=False)
        for leaf in _leaves(values):
            is_date = isinstance(leaf, str) and "YYYY-MM-DD" in prompt + str('"format": "date"' in prompt)
            if isinstance(leaf, str) and not is_date and '"format": "date"' not in prompt:
                assert leaf.lower() in prompt.lower()
        if '"properties": ' in prompt:
            schema, _ = json.JSONDecoder().raw_decode(prompt[prompt.index('{"type": "object"') :])
            fields = next(iter(values.values())) if list(values) != schema["required"] else values
            assert list(fields) == list(schema["properties"])
            for name, value in fields.items():
                kinds = schema["properties"][name]["type"]
                names = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array"}
                assert names.get(type(value), "null") in kinds


def test_a_label_stands_in_the_prompt_and_none_is_given_too_often() -> None:
    labels: Counter[str] = Counter()
    in_json = 0
    for example in _first(classification_examples, 1000):
        answer = example.messages[-1]["content"]
        values = list(json.loads(answer).values()) if answer.startswith("{") else [answer]
        in_json += answer.startswith("{")
        assert all(value in _prompt(example) for value in values)
        labels.update(value.lower() for value in values if len(value) < 16)
    assert 0.4 < in_json / 1000 < 0.6
    assert 0.8 < labels["positive"] / labels["negative"] < 1.25


def test_opinions_are_many() -> None:
    fragments = {clause for moods in OPINIONS.values() for clauses in moods.values() for clause in clauses}
    assert len(OPINIONS) >= 25 and len(fragments) >= 400


def test_reviews_hold_the_words_that_decide() -> None:

    rng = random.Random(1)
    for mood in ("positive", "negative", "neutral", "mixed") * 50:
        text, key = review(rng, mood)
        assert key.lower() in text.lower()


def test_judges_give_a_reason_before_a_verdict_and_no_verdict_too_often() -> None:
    verdicts: Counter[str] = Counter()
    good = {"pass", "supported", "correct", "grounded", "accept", "good", "yes", "True", "5", "A"}
    for example in _first(judge_examples, 500):
        for each in (example, *example.siblings):
            reason, verdict = json.loads(each.messages[-1]["content"]).values()
            assert isinstance(reason, str) and len(reason) > 8
            in_points = "1 or 0" in _prompt(each) or "(1/0)" in _prompt(each) or "[1, 0]" in _prompt(each)
            verdicts[str(verdict) in good or (verdict == 1 and (in_points or "1 if so" in _prompt(each)))] += 1
    assert 0.4 < verdicts[True] / verdicts.total() < 0.6


def test_most_families_of_judged_answers_hold_good_and_bad_ones() -> None:
    mixed = [
        len({list(json.loads(each.messages[-1]["content"]).values())[1] for each in (example, *example.siblings)}) > 1
        for example in _first(judge_examples, 300)
    ]
    assert sum(mixed) / len(mixed) > 0.9


@pytest.mark.parametrize("generator", SIBLINGS)
def test_siblings_begin_alike_differ_at_the_end_and_fit_the_budget(generator: Generator, smollm2_path: Path) -> None:
    tokenizer = Tokenizer.load(smollm2_path)
    totals, counts, shares = list[int](), list[int](), list[float]()
    for example in _first(generator, 120):
        trunk, *branches = [tokenize(each, tokenizer).token_ids for each in (example, *example.siblings)]
        shared = [_shared(trunk, branch) for branch in branches]
        assert all(not sibling.siblings and sibling.job == example.job for sibling in example.siblings)
        prompts = [_prompt(each) for each in (example, *example.siblings)]
        assert len(set(prompts)) == len(prompts)
        assert all(s.messages[:-2] == example.messages[: len(s.messages) - 2] for s in example.siblings)
        shares += [length / len(trunk) for length in shared]
        totals.append(len(trunk) + sum(map(len, branches)) - sum(shared))
        counts.append(len(branches))
    assert sum(totals) / len(totals) < 600 and max(totals) < 1000
    assert sum(counts) / len(counts) > 1.5 and sum(shares) / len(shares) > 0.3


def test_chat_has_many_seeds_and_names_the_course_only_when_asked() -> None:
    assert len(SEEDS) >= 150
    assert len({answer for _, answer in SEEDS}) == len(SEEDS)
    assert sum("minillm" in answer for _, answer in SEEDS) == 1
