"""The answer of /v1/responses: the `response` object and the stream of events that builds it up."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Any

from minillm.engine import OutputChunk, RequestOutput
from minillm.sampling import TokenLogprobs
from minillm.server.errors import describe
from minillm.server.generation import Events
from minillm.server.protocol import Tally
from minillm.server.responses.items import Item, new_id
from minillm.server.responses.output import FunctionCallItem, MessageItem, OutputItem
from minillm.structured.tool_calls import (
    ArgumentsDelta,
    TextDelta,
    ToolCallBegin,
    ToolCallEnd,
    ToolCallParser,
    ToolEvent,
)
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

    def __init__(
        self,
        response: ResponseObject,
        tokenizer: Tokenizer,
        keep: Callable[[dict[str, Any]], None],
        parser: ToolCallParser | None = None,
    ) -> None:
        """Prepares an answer.

        Args:
            response: the object.
            tokenizer: tells the bytes of tokens.
            keep: is given the object when it's complete, before the client has it.
            parser: looks for tool calls in the output, if there may be any.
        """
        self.response, self.tally = response, response.tally
        self._tokenizer, self._keep = tokenizer, keep
        self._parser = parser
        self._numbers = count()
        self._output: list[Item] = []  # the items that are complete
        self._item: OutputItem | None = None  # the one that isn't
        self._logprobs: list[TokenLogprobs] = []  # of tokens whose text hasn't come yet

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
            elif isinstance(event, OutputChunk):
                self._logprobs += event.logprobs or []
                for each in self._pieces(self._read(event.text)):
                    yield each
        status = "completed" if finish_reason == "stop" else "incomplete"
        for each in self._end(status):
            yield each
        reason = "max_output_tokens" if status == "incomplete" else None
        response = self.response.snapshot(status, self._output, reason=reason)
        self._keep(response)
        yield self._event(f"response.{status}", response=response)

    def _event(self, kind: str, **fields: Any) -> Event:
        return {"type": kind, "sequence_number": next(self._numbers), **fields}

    def _read(self, text: str) -> list[ToolEvent]:
        """What a piece of the output is: text or calls."""
        if self._parser is not None:
            return self._parser.push(text)
        return [TextDelta(text)] if text else []

    def _pieces(self, pieces: Iterable[ToolEvent]) -> Iterator[Event]:
        """The events of what was read."""
        for piece in pieces:
            match piece:
                case TextDelta(text):
                    yield from self._text(text)
                case ToolCallBegin(_, call_id, name):
                    yield from self._close("completed")
                    yield from self._begin(FunctionCallItem(len(self._output), call_id, name))
                case ArgumentsDelta(_, text):
                    yield from self._add(text)
                case ToolCallEnd():
                    yield from self._close("completed")

    def _end(self, status: str) -> Iterator[Event]:
        """The events at the end of the output."""
        yield from self._pieces(self._parser.finish() if self._parser is not None else [])
        if isinstance(self._item, MessageItem) and self._logprobs:
            yield from self._add("")  # of the token that ended it
        elif self._item is None and not self._output:  # the model had nothing to say: an empty message
            yield from self._text("")
        yield from self._close(status)

    def _text(self, text: str) -> Iterator[Event]:
        if not isinstance(self._item, MessageItem):
            yield from self._close("completed")
            yield from self._begin(MessageItem(len(self._output), self._tokenizer))
        yield from self._add(text)

    def _begin(self, item: OutputItem) -> Iterator[Event]:
        self._item = item
        for kind, fields in item.begin():
            yield self._event(kind, **fields)

    def _add(self, text: str) -> Iterator[Event]:
        """Adds to the item, which also takes the log-probabilities since the last piece."""
        logprobs, self._logprobs = self._logprobs, []
        if self._item is not None:
            kind, fields = self._item.add(text, logprobs)
            yield self._event(kind, **fields)

    def _close(self, status: str) -> Iterator[Event]:
        """Ends the item."""
        if self._item is None:
            return
        for kind, fields in self._item.end(status):
            yield self._event(kind, **fields)
        self._output.append(self._item.whole(status))
        self._item = None
