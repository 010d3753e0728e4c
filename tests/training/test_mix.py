"""What the course adapter learns from, whichever program makes it: the trainer takes it, and it is always the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from minillm.text import Tokenizer
from minillm.training.data.mix import SHARES, course_examples
from minillm.training.example import Example
from minillm.training.train import tokenize


def test_the_shares_are_those_of_a_whole() -> None:
    assert math.isclose(sum(SHARES.values()), 1.0)


def test_examples_are_the_same_for_the_same_seed() -> None:
    first, again, other = (list(islice(course_examples(seed), 60)) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    jobs = {example.job for example in islice(course_examples(3), 200)}
    assert jobs == {"grounded", "tools", "classification", "extraction", "judge", "chat"}


@pytest.mark.parametrize("examples", SHARES, ids=lambda program: program.__name__)
def test_the_trainer_takes_each_example_with_its_siblings(
    examples: Callable[[int], Iterator[Example]], smollm2_path: Path
) -> None:
    """A sibling that says the same as its example would stop a training; one that begins otherwise costs too much."""
    tokenizer = Tokenizer.load(smollm2_path)
    for example in islice(examples(3), 150):
        assert not any(sibling.siblings for sibling in example.siblings)
        item = tokenize(example, tokenizer)
        assert len(item.branches) == len(example.siblings)
        assert all(branch.shared > 1 for branch in item.branches)
