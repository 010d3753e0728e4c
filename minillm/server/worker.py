"""One thread that runs every request: it takes them in turn, one token each.

The model uses all cores for a single token already, so two threads would only get in each other's way.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from minillm.engine.llm import LLM, Chunks
from minillm.engine.request import OutputChunk, RequestOutput
from minillm.errors import MinillmError
from minillm.sampling import SamplingParams

log = logging.getLogger("minillm.server")

Event = OutputChunk | RequestOutput | BaseException


@dataclass
class Job:
    """A request on its way: the worker makes events, the client's coroutine takes them."""

    chunks: Chunks
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[Event] = field(default_factory=asyncio.Queue)
    aborted: bool = False

    def emit(self, event: Event) -> None:
        """Hands an event from the worker's thread to the client's event loop."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.events.put_nowait, event)


class Worker:
    """Runs jobs in turn until it's closed."""

    def __init__(self, llm: LLM) -> None:
        self.llm = llm
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # Guards the order of the inbox: nothing comes after the None that ends it.
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="minillm-worker", daemon=True)
        self._thread.start()

    async def stream(self, prompt_token_ids: list[int], params: SamplingParams) -> AsyncIterator[Event]:
        """Yields `OutputChunk`s and at last the `RequestOutput`. Leaving the loop early aborts the request.

        Raises:
            MinillmError: if the request can't be served, before the first chunk; if the server is stopped, any time.
        """
        chunks = self.llm.generate(prompt_token_ids, params, stream=True)
        job = Job(chunks, asyncio.get_running_loop())  # type: ignore[arg-type]
        with self._lock:
            if self._closed:
                raise _stopped()
            self._inbox.put(job)
        try:
            while True:
                event = await job.events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, RequestOutput):
                    return
        finally:
            job.aborted = True

    def close(self) -> None:
        """Ends the thread; requests that are running or waiting get an error. A second call does nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._inbox.put(None)
        self._thread.join()

    def _work(self) -> None:
        turn: deque[Job] = deque()
        while True:
            # With nothing to do, wait; otherwise only look whether someone came in.
            while not turn or not self._inbox.empty():
                job = self._inbox.get()
                if job is None:
                    for left in turn:
                        left.emit(_stopped())
                        left.chunks.close()
                    return
                turn.append(job)
            job = turn.popleft()
            if self._advance(job):
                turn.append(job)

    @staticmethod
    def _advance(job: Job) -> bool:
        """Makes one token for a job; tells whether there's more to do."""
        if job.aborted:
            job.chunks.close()
            return False
        try:
            job.emit(next(job.chunks))
            return True
        except StopIteration as end:
            job.emit(end.value)
        except MinillmError as error:  # handed to the one client whose request it is; the others go on
            job.emit(error)
        except Exception:
            log.exception("A request failed")
            job.emit(MinillmError("The server failed; its log says why."))
        return False


def _stopped() -> MinillmError:
    return MinillmError("The server was stopped before the answer was complete. Start it again and repeat the request.")
