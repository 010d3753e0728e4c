"""The answer of /v1/responses: the `response` object and the stream of events that builds it up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import count
from typing import Any

from minillm.engine import OutputChunk, RequestOutput
from minillm.sampling import TokenLogprobs
from minillm.server.chat import chat_logprobs
from minillm.server.errors import describe
from minillm.server.generation import Events
from minillm.server.protocol import Tally
from minillm.server.response_items import Item, new_id
from minillm.text import Tokenizer

Event = dict[str, Any]


class ResponseObject:
    """The `response` at every moment of its life.

    Attributes:
        tally: its tokens so far.
    """

    def __init__(self, settings: dict[str, Any], tally: Tally, block_size: int) -> None:
        """Takes what stays the same.

        Args:
            settings: what the request asked for, as the API echoes it.
            tally: counts the tokens.
            block_size: of the prefix cache; 0 if there is none.
        """
        self.tally, self._block_size = tally, block_size
        self._head = {"id": new_id("resp"), "object": "response", "created_at": int(time.time()), **settings}

    def snapshot(
        self,
        status: str,
        output: Sequence[Item] = (),
        *,
        reason: str | None = None,
        error: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The object.

        Args:
            status: in_progress, completed, incomplete or failed.
            output: the items that are complete.
            reason: why it is incomplete.
            error: why it failed.
        """
        return {
            **self._head,
            "status": status,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": error,
            "incomplete_details": {"reason": reason} if reason else None,
            "output": list(output),
            "usage": None if status == "in_progress" else self._usage(),
        }

    def _usage(self) -> dict[str, Any]:
        tally = self.tally
        # Whole blocks are cached; those of the prompt that weren't there before are now.
        written = max(0, tally.prompt // self._block_size * self._block_size - tally.cached) if self._block_size else 0
        return {
            "input_tokens": tally.prompt,
            "input_tokens_details": {"cached_tokens": tally.cached, "cache_write_tokens": written},
            "output_tokens": tally.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tally.prompt + tally.completion,
        }


class ResponseAnswer:
    """Builds the `response`, whole or as the events of a stream: the one is what the last of the others brings."""

    def __init__(self, response: ResponseObject, tokenizer: Tokenizer, keep: Callable[[dict[str, Any]], None]) -> None:
        """Prepares an answer.

        Args:
            response: the object.
            tokenizer: tells the bytes of tokens.
            keep: is given the object when it's complete, before the client has it.
        """
        self.response, self.tally = response, response.tally
        self._tokenizer, self._keep = tokenizer, keep
        self._numbers = count()
        self._output: list[Item] = []
        self._open: _Message | None = None

    async def whole(self, events: Events) -> dict[str, Any]:
        """The one object, when all events have come."""
        last: Event = {}
        async for event in self._events(events):
            last = event
        return last["response"]

    async def chunks(self, events: Events) -> AsyncIterator[Event]:
        """The events of the stream. A failure is an `error` and a `response.failed`."""
        try:
            async for event in self._events(events):
                yield event
        except Exception as failure:
            error = describe(failure)[1]["error"]
            # The reference has the error's fields in the event itself. OpenAI's servers nest them, and its client in
            # Python takes only that for an error.
            message, code, param = error["message"], error["code"], error["param"]
            yield self._event("error", message=message, code=code, param=param, error=error)
            failed = self.response.snapshot("failed", self._output, error={"code": "server_error", "message": message})
            yield self._event("response.failed", response=failed)

    async def _events(self, events: Events) -> AsyncIterator[Event]:
        yield self._event("response.created", response=self.response.snapshot("in_progress"))
        yield self._event("response.in_progress", response=self.response.snapshot("in_progress"))
        finish_reason = "stop"
        async for _, event in events:
            self.tally.add(event)
            if isinstance(event, RequestOutput):
                finish_reason = event.finish_reason
            elif isinstance(event, OutputChunk) and (event.text or event.logprobs):
                for each in self._text(event.text, event.logprobs):
                    yield each
        if not self._output and self._open is None:  # the model had nothing to say: an empty message
            for each in self._text("", None):
                yield each
        status = "completed" if finish_reason == "stop" else "incomplete"
        for each in self._close(status):
            yield each
        reason = "max_output_tokens" if status == "incomplete" else None
        response = self.response.snapshot(status, self._output, reason=reason)
        self._keep(response)
        yield self._event(f"response.{status}", response=response)

    def _event(self, kind: str, **fields: Any) -> Event:
        return {"type": kind, "sequence_number": next(self._numbers), **fields}

    def _text(self, text: str, logprobs: Sequence[TokenLogprobs] | None) -> Iterator[Event]:
        """Adds to the message, which begins with its first text."""
        if self._open is None:
            self._open = _Message(len(self._output))
            place = self._open.place
            item = self._open.item("in_progress") | {"content": []}
            yield self._event("response.output_item.added", output_index=place["output_index"], item=item)
            yield self._event("response.content_part.added", **place, part=self._open.part())
        entries = chat_logprobs(self._tokenizer, logprobs)
        delta = self._open.add(text, entries["content"] if entries else [])
        yield self._event("response.output_text.delta", **self._open.place, **delta)

    def _close(self, status: str) -> Iterator[Event]:
        """Ends the message that is open."""
        if self._open is None:
            return
        message, self._open = self._open, None
        part = message.part()
        done = {"text": part["text"], "logprobs": part["logprobs"]}
        yield self._event("response.output_text.done", **message.place, **done)
        yield self._event("response.content_part.done", **message.place, part=part)
        item = message.item(status)
        self._output.append(item)
        yield self._event("response.output_item.done", output_index=message.place["output_index"], item=item)


class _Message:
    """A message of the assistant as it grows: one part of text."""

    def __init__(self, output_index: int) -> None:
        self.place = {"item_id": new_id("msg"), "output_index": output_index, "content_index": 0}
        self._texts: list[str] = []
        self._logprobs: list[dict[str, Any]] = []

    def add(self, text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
        """Takes what is new; returns it as an event tells it."""
        self._texts.append(text)
        self._logprobs += logprobs
        return {"delta": text, "logprobs": logprobs}

    def part(self) -> dict[str, Any]:
        """The text so far."""
        text, logprobs = "".join(self._texts), list(self._logprobs)
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}

    def item(self, status: str) -> Item:
        """The message so far."""
        return {
            "id": self.place["item_id"],
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [self.part()],
        }
