"""From an endpoint to the engine and back: admission, several prompts at once, streams, clients that go away."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from minillm.engine import LLM, AsyncEngine, OutputChunk
from minillm.engine.async_engine import stopped
from minillm.engine.engine import Event
from minillm.errors import EngineOverloadedError, EngineStoppedError, InvalidRequestError
from minillm.sampling import SamplingParams
from minillm.server.errors import ClientGoneError, UnknownModelError, describe, note_error
from minillm.server.protocol import Tally
from minillm.server.telemetry import GenerationSpans
from minillm.server.tenants import Tenant
from minillm.structured import Grammar

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

log = logging.getLogger("minillm.server")
T = TypeVar("T")
Events = AsyncGenerator[tuple[int, Event], None]
"""The engine's events, each with the index of the choice that it belongs to."""
# Proxies, such as those in front of hosted notebooks, would otherwise collect the stream before they pass it on.
_UNBUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
_LARGE_BODY = 16_384
"""Bytes from which on a text isn't tokenized in the event loop, where everybody would wait for it."""


class Service:
    """The model that is served and the engine's thread, as the endpoints share them.

    Attributes:
        llm: the model, with its adapters.
        models: what a request may ask for: the model, and "model+adapter" for each adapter. With the adapter's name.
        engine: None before the application starts and after it ends.
        is_draining: whether new requests are no longer taken.
        is_closed: whether the engine's thread has ended, for good.
        log_prompts: write the prompts to the log.
        spans: of OpenTelemetry.
    """

    def __init__(self, llm: LLM, *, log_prompts: bool = False, tracer_provider: TracerProvider | None = None) -> None:
        self.llm, self.log_prompts = llm, log_prompts
        self.models: dict[str, str | None] = {llm.model_name: None}
        self.models |= {f"{llm.model_name}+{adapter}": adapter for adapter in llm.adapters}
        self.spans = GenerationSpans(llm, tracer_provider, log_content=log_prompts)
        self.engine: AsyncEngine | None = None
        self.is_draining = self.is_closed = False
        # Of their own, so that slow ones hold up neither other threads' work nor each other for long.
        self._compiling = CapacityLimiter(4)

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        return self.engine is not None and not self.is_draining

    def open(self) -> None:
        """Starts the engine's thread."""
        self.engine = AsyncEngine(self.llm.engine)

    def close(self, timeout: float = 0.0) -> None:
        """Takes no more requests, and gives those that run some seconds to end. A second call does nothing."""
        self.is_draining = True
        if self.engine is not None:
            self.engine.close(timeout)
        self.is_closed = True

    def release(self) -> None:
        """Lets go of the model and its KV cache, for good: FastAPI's caches keep the endpoints of every application."""
        self.engine = None
        for name in ("llm", "spans"):
            self.__dict__.pop(name, None)

    def end_all(self) -> None:
        """Ends what runs with an error, whoever asked for it."""
        self.llm.engine.fail_all(stopped())

    def adapter_of(self, model: str) -> str | None:
        """The adapter that a request for this model is computed with; None for the model alone.

        Raises:
            UnknownModelError: if it isn't served.
        """
        if model not in self.models:
            raise UnknownModelError(
                f"The model {model!r:.200} is not served here; this server has {', '.join(map(repr, self.models))}."
            )
        return self.models[model]

    def fingerprint_of(self, model: str) -> str:
        """The hash over everything that decides the numbers of this model's answers; see `adapter_of`."""
        return self.llm.engine.fingerprint_with(self.adapter_of(model))

    async def compile(self, grammar: Grammar, param: str = "response_format") -> None:
        """Compiles a grammar where nobody waits for it; it's kept for the engine.

        Args:
            grammar: what an answer has to follow.
            param: the field of the request that asks for it.

        Raises:
            InvalidRequestError: naming what in it can't be honoured.
        """
        try:
            await run_sync(self.llm.engine.grammars.matcher, grammar, limiter=self._compiling)
        except InvalidRequestError as error:
            raise InvalidRequestError(str(error), param if error.param == "grammar" else error.param) from None

    async def tokenized(self, request: Request, tokenize: Callable[[], T]) -> T:
        """Calls `tokenize`, in a thread of its own if the request is large."""
        if request.state.body_size < _LARGE_BODY:
            return tokenize()
        return await asyncio.to_thread(tokenize)

    async def generate(
        self, request: Request, prompts: Sequence[list[int]], params: SamplingParams, model: str
    ) -> Events:
        """Runs the prompts at once; n outputs each, numbered through.

        Args:
            request: the HTTP request.
            prompts: token ids of each.
            params: of all of them.
            model: one of `models`.

        Raises:
            UnknownModelError: if the model isn't served.
            InvalidRequestError: if one of them can't be served.
            RateLimitedError: if the tenant is over a limit.
            EngineOverloadedError, EngineStoppedError: as `AsyncEngine.generate`.
        """
        if self.engine is None:
            raise EngineStoppedError("The server isn't running.")
        adapter = self.adapter_of(model)
        for prompt in prompts:
            self.llm.engine.check_request(prompt, params)
            if self.log_prompts:
                text = self.llm.tokenizer.decode(prompt, skip_special_tokens=False)
                log.info("prompt: %r", text, extra={"fields": {"prompt": text}})
        tenant: Tenant = request.state.tenant
        num_prompt_tokens = sum(map(len, prompts))
        with tenant.request(num_prompt_tokens), self.spans.generation(request, prompts, params, model) as observe:
            streams = []
            for index, prompt in enumerate(prompts):
                # The client knows the name, from the header X-Request-Id, and finds its request in the engine by it.
                name = request.state.request_id + (f"-{index}" if len(prompts) > 1 else "")
                stream = self.engine.generate(prompt, params, request_id=name, tenant=tenant.name, adapter=adapter)
                streams.append(cast(AsyncGenerator[Event, None], stream))
            try:
                async with aclosing(_merged(streams)) as events:
                    async for index, event in events:
                        if isinstance(event, OutputChunk):
                            tenant.charge(len(event.token_ids))
                        if observe is not None:
                            observe(index * params.n + event.index, event)
                        yield index * params.n + event.index, event
            except EngineOverloadedError:
                tenant.charge(-num_prompt_tokens)  # nothing was done for them
                raise


async def _merged(streams: Sequence[AsyncGenerator[Event, None]]) -> AsyncGenerator[tuple[int, Any], None]:
    """The events of all streams as they come, each with its stream's index. The first error ends them all."""
    if len(streams) == 1:
        async with aclosing(streams[0]) as only:
            async for event in only:
                yield 0, event
        return
    queue: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()

    async def forward(index: int, stream: AsyncGenerator[Event, None]) -> None:
        try:
            async with aclosing(stream):
                async for event in stream:
                    queue.put_nowait((index, event))
            queue.put_nowait((index, None))
        except Exception as error:
            queue.put_nowait((index, error))

    tasks = [asyncio.create_task(forward(index, stream)) for index, stream in enumerate(streams)]
    try:
        left = len(tasks)
        while left:
            index, event = await queue.get()
            if isinstance(event, Exception):
                raise event
            if event is None:
                left -= 1
            else:
                yield index, event
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Answer(Protocol):
    """Builds what an endpoint answers from the engine's events."""

    @property
    def tally(self) -> Tally:
        """The tokens, counted as the events come."""

    async def whole(self, events: Events) -> dict[str, Any]:
        """The one object, when all events have come."""

    def chunks(self, events: Events) -> AsyncIterator[dict[str, Any]]:
        """The objects of a stream."""


async def data_events(chunks: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    """Server-sent events, [DONE] at the end. An error travels as one of them: the status is sent already."""
    try:
        async for chunk in chunks:
            yield _data(chunk)
    except Exception as error:
        yield _data(describe(error)[1])
    yield "data: [DONE]\n\n"


async def named_events(chunks: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    """Server-sent events that have their `type` for a name. The last of them says that it's the last."""
    async for chunk in chunks:
        yield f"event: {chunk['type']}\n{_data(chunk)}"


def _data(content: dict[str, Any]) -> str:
    # As ASCII: some clients take U+2028 and its kind for the end of a line.
    return f"data: {json.dumps(content)}\n\n"


async def respond(
    request: Request,
    events: Events,
    answer: Answer,
    *,
    stream: bool | None,
    server_sent: Callable[[AsyncIterator[dict[str, Any]]], AsyncIterator[str]] = data_events,
) -> Response:
    """Answers whole or as a stream of server-sent events.

    Args:
        request: the HTTP request.
        events: from `Service.generate`.
        answer: builds what is sent.
        stream: whether to send it piece by piece.
        server_sent: writes the pieces as events.

    Raises:
        ClientGoneError: if the client leaves before there's anything to send.
        MinillmError: what the engine raises before the first event. What it raises later travels in the stream.
    """
    request.state.tally = answer.tally
    if not stream:
        return JSONResponse(await unless_gone(request, answer.whole(events)))
    # Waiting for the first event turns a request that can't be served into a status, not into a broken stream.
    first = await unless_gone(request, anext(events))
    return EventStream(server_sent(answer.chunks(_with_first(request, first, events))), events)


async def _with_first(request: Request, first: tuple[int, Event], rest: Events) -> Events:
    """All events. An error among them is noted for the log, since it won't be seen in the status."""
    yield first
    try:
        async for item in rest:
            yield item
    except Exception as error:
        note_error(request.scope, describe(error)[1])
        raise


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """Waits for `work`, but no longer than for the client to go away."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGoneError
        return working.result()
    finally:  # cancelling the work aborts its requests in the engine
        working.cancel()
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(working, watching, return_exceptions=True)


class EventStream(StreamingResponse):
    """A stream of server-sent events that closes its source however it ends, even if it was never begun."""

    media_type = "text/event-stream"

    def __init__(self, lines: AsyncIterator[str], source: AsyncGenerator[Any, None]) -> None:
        super().__init__(lines, headers=_UNBUFFERED)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it all."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._source.aclose()
