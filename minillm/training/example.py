"""What a model learns from and what it is tried on, whatever the job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Message = Mapping[str, Any]
"""A turn in the form of OpenAI's API, such as {"role": "user", "content": "Hello"}; calls under "tool_calls"."""


@dataclass(frozen=True)
class Example:
    """A conversation to learn from: the loss counts every token of the assistant's turns, and no other.

    Attributes:
        job: which of the jobs it teaches, such as "grounded"; training reports the loss of each.
        messages: ends with a turn of the assistant's.
        tools: definitions as the API takes them; the chat template (or `plain_chat`) writes them into the prompt.
        siblings: other conversations that begin in the same way, such as further questions about the same sources. What
            they share is read once for all of them, so they cost little beside their own words. They have none
            themselves.
    """

    job: str
    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] | None = None
    siblings: Sequence[Example] = ()


@dataclass(frozen=True)
class Case:
    """A question with a known answer, to be put to a model through the API.

    Attributes:
        set_name: the held-out set that it belongs to, which decides how answers are scored.
        messages: ends with a turn of the user's, or with a tool's result.
        expected: what a right answer holds, in the form that the set's scorer takes.
        tools: passed as `tools`, with tool_choice "auto".
        schema: JSON Schema; passed as a strict `response_format`.
        max_tokens: the longest answer that is read.
    """

    set_name: str
    messages: Sequence[Message]
    expected: Any
    tools: Sequence[Mapping[str, Any]] | None = None
    schema: Mapping[str, Any] | None = None
    max_tokens: int = 64
