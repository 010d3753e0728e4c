"""What the course adapter learns from: examples of every job, shuffled together."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from minillm.training.data.chat import chat_examples
from minillm.training.data.classification import classification_examples
from minillm.training.data.composed_tools import composed_tool_examples
from minillm.training.data.extraction import extraction_examples
from minillm.training.data.grounded import grounded_examples
from minillm.training.data.grounded_pages import page_examples
from minillm.training.data.judge import judge_examples
from minillm.training.data.tools import tool_examples
from minillm.training.example import Example

SHARES: Mapping[Callable[[int], Iterator[Example]], float] = MappingProxyType(
    {
        # Answers from sources and calls of tools come from two programs each, written apart from each other: a habit of
        # one, such as where it puts the question, is broken by the other.
        grounded_examples: 0.20,
        page_examples: 0.20,
        tool_examples: 0.08,
        composed_tool_examples: 0.10,
        classification_examples: 0.07,
        extraction_examples: 0.16,
        judge_examples: 0.07,
        # Without some plain conversation a model forgets how to have one.
        chat_examples: 0.12,
    }
)
"""Of all examples. What is hardest for the base model, and what the lessons lean on most, gets most."""


def course_examples(seed: int) -> Iterator[Example]:
    """Examples of all jobs in random order, without end, the same for the same seed."""
    draw = random.Random(seed)
    # Each program gets a seed of its own, so that their choices have nothing to do with each other.
    streams = [examples(draw.getrandbits(32)) for examples in SHARES]
    while True:
        (stream,) = draw.choices(streams, weights=list(SHARES.values()))
        yield next(stream)
