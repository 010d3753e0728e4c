"""`AsyncEngine`: one thread that drives an engine, and coroutines that read what it makes."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from uuid import uuid4

from minillm.engine.engine import Engine, Event
from minillm.engine.request import Request, RequestOutput
from minillm.engine.view import EngineView
from minillm.errors import EngineStoppedError, InvalidRequestError, MinillmError
from minillm.sampling import SamplingParams

log = logging.getLogger("minillm.engine")


class AsyncEngine:
    """Streams for asyncio callers. The model takes all cores for one step, so one thread steps for everybody."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._wake = threading.Condition()
        # Requests and aborts wait here for the end of a step, so that the event loop never waits for one.
        self._inbox: deque[Callable[[], object]] = deque()
        self._names: set[str] = set()  # of the requests that came through here and aren't over
        self._closing = False
        self._stop_at: float | None = None  # on this clock the thread ends, finished or not
        self._left: list[Request] = []
        # Events wait here for the end of the step: to wake an event loop is a system call, at which this thread may
        # lose the GIL, and once for all of them is enough.
        self._outbox: deque[tuple[asyncio.AbstractEventLoop, asyncio.Queue[Event], Event]] = deque()
        self._outbox_lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="minillm-engine", daemon=True)
        self._thread.start()

    async def generate(
        self,
        prompt_token_ids: Sequence[int],
        params: SamplingParams,
        *,
        request_id: str | None = None,
        tenant: str = "",
        extra_keys: tuple[str, ...] = (),
        adapter: str | None = None,
    ) -> AsyncIterator[Event]:
        """Yields `OutputChunk`s as they are made, and a `RequestOutput` for each of the n outputs when it's complete.

        Leaving the loop early, or cancelling the task, aborts the request.

        Raises:
            InvalidRequestError: if the request can't be served.
            EngineOverloadedError: if too many wait already.
            EngineStoppedError: if the engine is closed, before or while the request runs.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()
        name = request_id or f"request-{uuid4().hex[:16]}"

        def deliver(event: Event) -> None:
            self._outbox.append((loop, events, event))
            if threading.get_ident() != self._thread.ident:  # somebody else drives the engine, or ends the request
                self._send_events()

        def add() -> None:
            try:
                self.engine.add_request(
                    prompt_token_ids,
                    params,
                    deliver,
                    request_id=name,
                    tenant=tenant,
                    extra_keys=extra_keys,
                    adapter=adapter,
                )
            except Exception as error:  # a part that was plugged in may raise anything
                if not isinstance(error, MinillmError):
                    log.exception("A request could not be added")
                    error = MinillmError(f"The engine could not take the request ({type(error).__name__}: {error}).")
                deliver(error)

        if name in self._names:
            raise InvalidRequestError(f"There is a request {name!r} already.", "request_id")
        self.engine.check_request(prompt_token_ids, params, adapter)
        self._names.add(name)
        self._submit(add)
        left = params.n
        try:
            while left:
                event = await events.get()
                if isinstance(event, MinillmError):
                    left = 0  # an error ends all of its outputs
                    raise event
                left -= isinstance(event, RequestOutput)
                yield event
        finally:
            self._names.discard(name)
            if left:
                self._submit(lambda: self.engine.abort(name), even_if_closing=True)

    async def inspect(self) -> EngineView:
        """What is inside the engine, as it is after the step that runs now, if one does."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[EngineView] = loop.create_future()

        def take(view: EngineView) -> None:
            if not arrived.done():
                arrived.set_result(view)

        def deliver(view: EngineView) -> None:  # in the thread of the step
            if not loop.is_closed():
                loop.call_soon_threadsafe(take, view)

        while not arrived.done():
            self.engine.inspect(deliver)
            await asyncio.wait((arrived,), timeout=0.5)
        return arrived.result()

    def _submit(self, call: Callable[[], object], *, even_if_closing: bool = False) -> None:
        with self._wake:
            if self._closing and not even_if_closing:
                raise stopped()
            self._inbox.append(call)
            self._wake.notify()

    def _send_events(self) -> None:
        """Hands the events to the event loops that wait for them."""
        with self._outbox_lock:  # so that they stay in order
            by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Queue[Event], Event]]] = {}
            while self._outbox:
                loop, events, event = self._outbox.popleft()
                by_loop.setdefault(loop, []).append((events, event))
            for loop, items in by_loop.items():
                with suppress(RuntimeError):  # it's closed: nobody waits any more
                    loop.call_soon_threadsafe(_put_all, items)

    def close(self, timeout: float = 0.0) -> list[Request]:
        """Takes no more requests, lets those that run finish, and ends the thread. A second call does nothing.

        Args:
            timeout: seconds that they may take; those that don't make it get an `EngineStoppedError`.

        Returns:
            The requests that weren't complete, with the tokens they had got.
        """
        with self._wake:
            if not self._closing:
                self._closing, self._stop_at = True, time.monotonic() + timeout
                self._wake.notify()
        self._thread.join()
        left, self._left = self._left, []
        return left

    def _work(self) -> None:
        try:
            while self._wait_for_work():
                try:
                    while self._inbox:
                        self._inbox.popleft()()
                    if self.engine.has_unfinished:
                        self.engine.step()
                        time.sleep(0)  # whoever else waits for the engine's lock gets a chance to take it
                except Exception:  # a part that was plugged in may raise anything
                    log.exception("A step failed")
                    self.engine.fail_all(MinillmError("The engine failed; its log says why."))
                self._send_events()
        finally:
            with self._wake:  # whatever happened: nobody waits for a thread that has ended
                self._closing = True
        # Others may use the same engine: what they wait for goes on.
        self._left = self.engine.fail_all(stopped(), only=set(self._names))
        self._send_events()

    def _wait_for_work(self) -> bool:
        """Waits until there's something to do; False when it's time to end."""
        with self._wake:
            while not (self._inbox or self.engine.has_unfinished or self._closing):
                self._wake.wait()
            if self._stop_at is not None and time.monotonic() >= self._stop_at and not self._inbox:
                return False
            return bool(self._inbox) or (self.engine.has_unfinished and (not self._closing or bool(self._names)))


def _put_all(items: list[tuple[asyncio.Queue[Event], Event]]) -> None:
    for events, event in items:
        events.put_nowait(event)


def stopped() -> EngineStoppedError:
    """The error of a request that the engine's end cut off."""
    return EngineStoppedError(
        "The server was stopped before the answer was complete. Start it again and repeat the request."
    )
