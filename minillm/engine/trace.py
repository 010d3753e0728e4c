"""What every step of the engine did: for figures, for tests, and for finding out where the time went."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from minillm.engine.scheduler import ScheduledRequest, Scheduler, SchedulerOutput
from minillm.errors import MinillmError
from minillm.kv import KVCacheManager, KVCacheStats

PhaseKind = Literal["waiting", "prefill", "decode", "preempted"]


class TraceError(MinillmError, ValueError):
    """A trace can't be read, or was asked for what it doesn't hold."""


class RequestTrace(NamedTuple):  # a tuple, because a step makes one for each request
    """One request's part in a step.

    Attributes:
        request_id, tenant: whose it is.
        num_new_tokens: computed in this step.
        num_computed_before: computed when the step began; those from the prefix cache count.
        num_tokens: of prompt and output, when the step began.
        num_prompt_tokens: of the prompt.
        num_cached_tokens: of the prompt's, those that the prefix cache had when the request was admitted.
        block_ids: the KV blocks it held after scheduling, in order.
    """

    request_id: str
    tenant: str
    num_new_tokens: int
    num_computed_before: int
    num_tokens: int
    num_prompt_tokens: int
    num_cached_tokens: int
    block_ids: tuple[int, ...]

    @property
    def is_decode(self) -> bool:
        """Whether the step computed one token of the output; else it was a chunk of what has to be read first."""
        return self.num_new_tokens == 1 and self.num_computed_before >= self.num_prompt_tokens


@dataclass(frozen=True)
class StepTrace:
    """One step of the engine. Times are in seconds on the clock of `time.perf_counter`.

    Attributes:
        step: its ordinal.
        start: when it began.
        schedule_seconds, forward_seconds, sample_seconds: its parts.
        total_seconds: all of it, the books of the trace included.
        scheduled: who computed what.
        idle: blocks of the requests that hold some but had no part in this step, by request id.
        preempted: ids of those who had to give up their blocks.
        arrived: id and time of those who came since the step before.
        finished: id and reason of those who left since the end of the step before, aborted ones included.
        num_waiting, num_running: requests after the step.
        kv: the pool after scheduling, with room for the new tokens.
        kv_after: the pool after the step, when those who finished had given their blocks back.
        cached_block_ids: blocks that only the prefix cache held after scheduling; None if not recorded.
    """

    step: int
    start: float
    scheduled: tuple[RequestTrace, ...]
    idle: dict[str, tuple[int, ...]]
    preempted: tuple[str, ...]
    arrived: dict[str, float]
    kv: KVCacheStats
    kv_after: KVCacheStats
    cached_block_ids: tuple[int, ...] | None = None
    finished: dict[str, str] = field(default_factory=dict)
    num_waiting: int = 0
    num_running: int = 0
    schedule_seconds: float = 0.0
    forward_seconds: float = 0.0
    sample_seconds: float = 0.0
    total_seconds: float = 0.0

    @property
    def end(self) -> float:
        """When it was over."""
        return self.start + self.total_seconds

    @property
    def num_tokens(self) -> int:
        """Tokens computed."""
        return sum(item.num_new_tokens for item in self.scheduled)

    @property
    def batch_size(self) -> int:
        """Requests that computed something."""
        return len(self.scheduled)


@dataclass(frozen=True)
class Phase:
    """A stretch of a request's life.

    Attributes:
        kind: what it did.
        start, end: in seconds on the trace's clock.
        first_step, end_step: in steps; `end_step` is the first one that doesn't belong to it.
        num_tokens: computed.
    """

    kind: PhaseKind
    start: float
    end: float
    first_step: int
    end_step: int
    num_tokens: int = 0


class Tracer:
    """Keeps the last steps. The engine writes, any thread may read.

    Attributes:
        limit: steps that are kept.
        fingerprint: of the engine that made them.
        cached_blocks: whether each step notes which blocks are only cached, which costs O(blocks).
    """

    def __init__(
        self,
        limit: int = 2_000,
        *,
        fingerprint: str = "",
        cached_blocks: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if limit < 1:
            raise TraceError(f"limit is {limit}; expected at least 1 step.")
        self.limit, self.fingerprint, self.cached_blocks = limit, fingerprint, cached_blocks
        self._clock = clock
        self._steps: deque[StepTrace] = deque(maxlen=limit)
        self._lock = threading.Lock()
        self._blocks: dict[str, tuple[int, ...]] = {}  # of those that run
        self._arrived: dict[str, float] = {}
        self._finished: dict[str, str] = {}
        self._kv: KVCacheManager | None = None

    @property
    def steps(self) -> list[StepTrace]:
        """The last steps, oldest first."""
        with self._lock:
            return list(self._steps)

    def last(self, number: int) -> list[StepTrace]:
        """The last steps, at most so many, oldest first; costs nothing for those before them."""
        with self._lock:
            return list(islice(reversed(self._steps), number))[::-1]

    # -- for the engine ---------------------------------------------------------------------------------------------

    def on_arrival(self, request_id: str, arrived_at: float) -> None:
        """A request was added; the next step notes it."""
        self._arrived[request_id] = arrived_at

    def on_finish(self, request_id: str, reason: str) -> None:
        """A request left, for whatever reason; this step or the next one notes it."""
        self._blocks.pop(request_id, None)
        self._finished[request_id] = reason

    def begin(
        self, step: int, start: float, output: SchedulerOutput, scheduler: Scheduler, kv: KVCacheManager
    ) -> StepTrace:
        """Notes what was scheduled, before it is computed. Give the result to `end`."""
        for request in output.preempted:
            self._blocks.pop(request.request_id, None)
        scheduled = tuple(self._request(item) for item in output.scheduled)
        at_work = {item.request_id for item in scheduled}
        idle = {name: blocks for name, blocks in self._blocks.items() if name not in at_work}
        arrived, self._arrived = self._arrived, {}
        cached = None
        if self.cached_blocks:
            held = {block for blocks in self._blocks.values() for block in blocks}
            cache = kv.prefix_cache if kv.prefix_cache is not None else ()
            cached = tuple(
                block for block in range(1, kv.num_usable_blocks + 1) if block in cache and block not in held
            )
        self._kv, usage = kv, kv.usage()
        preempted = tuple(request.request_id for request in output.preempted)
        return StepTrace(step, start, scheduled, idle, preempted, arrived, usage, usage, cached)

    def end(
        self, trace: StepTrace, scheduled_at: float, forward_at: float, sampled_at: float, scheduler: Scheduler
    ) -> StepTrace:
        """Completes and keeps a step's trace. The times are those at which its parts were over."""
        finished, self._finished = self._finished, {}
        trace = replace(
            trace,
            finished=finished,
            kv_after=trace.kv if self._kv is None else self._kv.usage(),
            num_waiting=scheduler.num_waiting,
            num_running=scheduler.num_running,
            schedule_seconds=scheduled_at - trace.start,
            forward_seconds=forward_at - scheduled_at,
            sample_seconds=sampled_at - forward_at,
            total_seconds=self._clock() - trace.start,
        )
        self.add(trace)
        return trace

    def add(self, trace: StepTrace) -> None:
        """Keeps a complete step, and forgets the oldest if there are too many."""
        with self._lock:
            self._steps.append(trace)

    def _request(self, item: ScheduledRequest) -> RequestTrace:
        request, blocks = item.request, tuple(item.block_table)
        before = self._blocks.get(request.request_id)
        if blocks == before:
            blocks = before  # most steps change nothing: keeping one copy makes the trace a fraction of the size
        self._blocks[request.request_id] = blocks
        return RequestTrace(
            request.request_id,
            request.tenant,
            item.num_new_tokens,
            request.num_computed_tokens,
            request.num_tokens,
            request.num_prompt_tokens,
            request.num_cached_tokens or 0,
            blocks,
        )

    # -- files ------------------------------------------------------------------------------------------------------

    def to_json(self, path: str | Path | None = None) -> str:
        """The steps as JSON, which `from_json` reads; also written to `path` if there is one."""
        steps = [{**vars(step), "scheduled": [item._asdict() for item in step.scheduled]} for step in self.steps]
        return _write({"fingerprint": self.fingerprint, "limit": self.limit, "steps": steps}, path)

    @classmethod
    def from_json(cls, source: str | Path) -> Tracer:
        """Reads what `to_json` made.

        Args:
            source: the JSON text, or the `Path` of a file with it.

        Raises:
            TraceError: if it isn't a trace.
        """
        try:
            content = json.loads(source.read_text(encoding="utf-8") if isinstance(source, Path) else source)
            tracer = cls(content["limit"], fingerprint=content["fingerprint"])
            for step in content["steps"]:
                tracer.add(_read_step(step))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TraceError(
                f"This is not a trace ({type(error).__name__}: {error}). Expected the JSON that `Tracer.to_json` "
                "writes; give a file as a pathlib.Path, not as a str."
            ) from error
        return tracer

    def to_chrome_trace(self, path: str | Path | None = None) -> str:
        """The steps in Chrome's Trace Event Format, for ui.perfetto.dev or chrome://tracing.

        A row for the engine with each step and its parts, a row for each request, and counters of the pool. Times are
        in microseconds from the first event.
        """
        return _write(
            {
                "traceEvents": _chrome_events(self.steps),
                "displayTimeUnit": "ms",
                "otherData": {"fingerprint": self.fingerprint},
            },
            path,
        )


def request_phases(steps: Iterable[StepTrace]) -> dict[str, list[Phase]]:
    """What each request did, in order, by request id; requests in the order in which they appear."""
    phases: dict[str, list[Phase]] = {}
    waits: dict[str, tuple[PhaseKind, float, int]] = {}

    def end_wait(request_id: str, end: float, step: int) -> None:
        if wait := waits.pop(request_id, None):
            kind, start, first_step = wait
            phases.setdefault(request_id, []).append(Phase(kind, start, end, first_step, step))

    last: StepTrace | None = None
    for last in steps:
        for request_id, arrived_at in last.arrived.items():
            phases.setdefault(request_id, [])
            waits[request_id] = ("waiting", arrived_at, last.step)
        for request_id in last.preempted:
            waits[request_id] = ("preempted", last.start, last.step)
        for item in last.scheduled:
            end_wait(item.request_id, last.start, last.step)
            kind: PhaseKind = "decode" if item.is_decode else "prefill"
            phase = Phase(kind, last.start, last.end, last.step, last.step + 1, item.num_new_tokens)
            phases.setdefault(item.request_id, []).append(phase)
        for request_id in last.finished:
            end_wait(request_id, last.end, last.step + 1)
    if last is not None:
        for request_id in list(waits):
            end_wait(request_id, last.end, last.step + 1)
    return phases


def _write(content: Any, path: str | Path | None) -> str:
    text = json.dumps(content, default=vars)  # vars: KVCacheStats is a dataclass
    if path is not None:
        Path(path).write_text(text, encoding="utf-8")
    return text


def _read_step(fields: dict[str, Any]) -> StepTrace:
    cached = fields["cached_block_ids"]
    return StepTrace(
        **{
            **fields,
            "scheduled": tuple(
                RequestTrace(**{**item, "block_ids": tuple(item["block_ids"])}) for item in fields["scheduled"]
            ),
            "idle": {name: tuple(blocks) for name, blocks in fields["idle"].items()},
            "preempted": tuple(fields["preempted"]),
            "kv": KVCacheStats(**fields["kv"]),
            "kv_after": KVCacheStats(**fields["kv_after"]),
            "cached_block_ids": None if cached is None else tuple(cached),
        }
    )


def _chrome_events(steps: Sequence[StepTrace]) -> list[dict[str, Any]]:
    """The events of a trace: "X" is a slice, "C" a counter, "M" the name of a row. Row 0 is the engine's."""
    phases = request_phases(steps)
    origin = min(
        [step.start for step in steps] + [phase.start for each in phases.values() for phase in each], default=0.0
    )

    def event(ph: str, title: str, row: int, at: float, seconds: float | None = None, **args: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {"ph": ph, "name": title, "cat": "minillm", "pid": 1, "tid": row, "args": args}
        fields["ts"] = (at - origin) * 1e6
        if seconds is not None:
            fields["dur"] = seconds * 1e6
        return fields

    events = [event("M", "process_name", 0, origin, name="minillm")]
    for row, name in enumerate(["engine", *phases]):
        events.append(event("M", "thread_name", row, origin, name=name))
        events.append(event("M", "thread_sort_index", row, origin, sort_index=row))
    for step in steps:
        about = {"tokens": step.num_tokens, "requests": step.batch_size, "preempted": step.preempted}
        events.append(event("X", f"step {step.step}", 0, step.start, step.total_seconds, **about))
        at = step.start
        for part in ("schedule", "forward", "sample"):
            seconds = getattr(step, f"{part}_seconds")
            events.append(event("X", part, 0, at, seconds))
            at += seconds
        blocks = {"referenced": step.kv.referenced, "cached": step.kv.cached, "free": step.kv.free}
        events.append(event("C", "KV blocks", 0, step.start, **blocks))
        events.append(event("C", "requests", 0, step.start, running=step.num_running, waiting=step.num_waiting))
    for row, lane in enumerate(phases.values(), start=1):
        for phase in lane:
            about = {"step": phase.first_step, "tokens": phase.num_tokens}
            name = f"prefill {phase.num_tokens}" if phase.kind == "prefill" else phase.kind
            events.append(event("X", name, row, phase.start, phase.end - phase.start, **about))
    return events
