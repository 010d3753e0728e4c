"""The items of an answer of /v1/responses as they grow: messages and function calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeAlias

from minillm.sampling import TokenLogprobs
from minillm.server.chat import chat_logprobs
from minillm.server.responses.items import Item, new_id
from minillm.text import Tokenizer

Told: TypeAlias = tuple[str, dict[str, Any]]
"""The type of an event, and its fields."""


class OutputItem(Protocol):
    """An item, and the events that tell how it grows."""

    def begin(self) -> Iterator[Told]:
        """There is one."""

    def add(self, text: str, logprobs: Sequence[TokenLogprobs]) -> Told:
        """More of it; returns what is new."""

    def end(self, status: str) -> Iterator[Told]:
        """That was all."""

    def whole(self, status: str) -> Item:
        """What there is of it so far."""


class MessageItem:
    """A message of the assistant: one part of text."""

    def __init__(self, output_index: int, tokenizer: Tokenizer) -> None:
        self._index, self._id, self._tokenizer = output_index, new_id("msg"), tokenizer
        self._place = {"item_id": self._id, "output_index": output_index, "content_index": 0}
        self._texts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []

    def begin(self) -> Iterator[Told]:
        """The message is added, then its part."""
        item = self.whole("in_progress") | {"content": []}
        yield "response.output_item.added", {"output_index": self._index, "item": item}
        yield "response.content_part.added", {**self._place, "part": self._part()}

    def add(self, text: str, logprobs: Sequence[TokenLogprobs]) -> Told:
        """More text, with the log-probabilities of its tokens."""
        told = chat_logprobs(self._tokenizer, logprobs)
        entries = told["content"] if told else []
        self._texts.append(text)
        self._logprobs += entries
        return "response.output_text.delta", {**self._place, "delta": text, "logprobs": entries}

    def end(self, status: str) -> Iterator[Told]:
        """The text is done, its part, the message."""
        part = self._part()
        done = {"text": part["text"], "logprobs": part["logprobs"]}
        yield "response.output_text.done", {**self._place, **done}
        yield "response.content_part.done", {**self._place, "part": part}
        yield "response.output_item.done", {"output_index": self._index, "item": self.whole(status)}

    def whole(self, status: str) -> Item:
        """The message so far."""
        content = [self._part()]
        return {"id": self._id, "type": "message", "role": "assistant", "status": status, "content": content}

    def _part(self) -> dict[str, Any]:
        text, logprobs = "".join(self._texts), list(self._logprobs)
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


class FunctionCallItem:
    """A call of a function. `call_id` is what its output has to name."""

    def __init__(self, output_index: int, call_id: str, name: str) -> None:
        self._index, self._id, self._call_id, self._name = output_index, new_id("fc"), call_id, name
        self._place = {"item_id": self._id, "output_index": output_index}
        self._arguments: list[str] = []

    def begin(self) -> Iterator[Told]:
        """The call is added, without arguments."""
        yield "response.output_item.added", {"output_index": self._index, "item": self.whole("in_progress")}

    def add(self, text: str, logprobs: Sequence[TokenLogprobs]) -> Told:
        """More of the arguments. The API has no place for log-probabilities of calls."""
        self._arguments.append(text)
        return "response.function_call_arguments.delta", {**self._place, "delta": text}

    def end(self, status: str) -> Iterator[Told]:
        """The arguments are done, then the call."""
        item = self.whole(status)
        done = {"name": self._name, "arguments": item["arguments"]}
        yield "response.function_call_arguments.done", {**self._place, **done}
        yield "response.output_item.done", {"output_index": self._index, "item": item}

    def whole(self, status: str) -> Item:
        """The call so far."""
        return {
            "id": self._id,
            "type": "function_call",
            "status": status,
            "call_id": self._call_id,
            "name": self._name,
            "arguments": "".join(self._arguments),
        }
