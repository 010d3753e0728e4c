"""GET /v1/engine/steps: what goes on inside the engine, as server-sent events, for whoever wants to look on.

One look at the engine, a few times a second, serves all who watch. Each of them gets what has changed since the look
that they were shown last; one who reads too slowly misses looks, and nothing piles up. A tenant sees its own requests
and blocks; of all others together it sees how many blocks and tokens they have, and nothing that tells whose or what.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from minillm.engine.async_engine import stopped
from minillm.engine.metrics import Percentiles
from minillm.engine.trace import RequestTrace, StepTrace
from minillm.engine.view import EngineView, RequestView
from minillm.server.errors import RateLimitedError
from minillm.server.generation import EventStream, Service, unless_gone

INTERVAL = 0.15
"""Seconds between two looks while something goes on."""
IDLE_INTERVAL = 1.0
"""Seconds between two looks while nothing does, so that everybody knows that the connection lives."""
MAX_WATCHERS = 64
MAX_WATCHERS_PER_TENANT = 16
MAX_STEPS = 60
"""The most steps in one event; of those before them only the number is told."""
MAX_WAITING = 32
"""The most waiting requests that are shown one by one."""
MAX_SHARE = 0.05
"""The most of the time that may go into looking, however large the pool: looks are taken less often where it is."""


@dataclass(frozen=True)
class Look:
    """What there was to see at one moment.

    Attributes:
        number: counts up.
        view: the engine between two steps.
        steps: the last ones, oldest first.
        is_draining: whether new requests are refused.
    """

    number: int
    view: EngineView
    steps: Sequence[StepTrace]
    is_draining: bool
    _shares: dict[str, _Share] = field(default_factory=dict, repr=False)
    _events: dict[tuple[str, int | None], str] = field(default_factory=dict, repr=False)

    @cached_property
    def last_step(self) -> int:
        """The ordinal of the last step; -1 before the first."""
        return self.steps[-1].step if self.steps else -1

    def shows_as_much_as(self, other: Look) -> bool:
        """Whether nothing has happened from one to the other."""
        seen, also = self.view, other.view
        same_cache = seen.cached.keys() == also.cached.keys() and all(
            seen.cached[tenant] is also.cached[tenant] for tenant in seen.cached
        )
        return (
            same_cache
            and self.last_step == other.last_step
            and seen.requests == also.requests
            and self.is_draining == other.is_draining
        )

    def share(self, tenant: str) -> _Share:
        """The part of it that a tenant may see, worked out once for all who watch for the tenant."""
        if tenant not in self._shares:
            self._shares[tenant] = _Share(self.view, tenant)
        return self._shares[tenant]

    def event(self, tenant: str, before: Look | None) -> str:
        """What the tenant is told, as JSON: all of it, or what's new since another look."""
        key = tenant, None if before is None else before.number
        if key not in self._events:
            self._events[key] = json.dumps(describe(self, before, tenant), separators=(",", ":"))
        return self._events[key]


class _Share:
    """The part of a view that one tenant may see."""

    def __init__(self, view: EngineView, tenant: str) -> None:
        self.tenant, self._view = tenant, view
        mine = [request for request in view.requests if request.tenant == tenant]
        running = [request for request in mine if request.is_running]
        waiting = [request for request in mine if not request.is_running]
        self.requests = {request.request_id: request for request in running + waiting[:MAX_WAITING]}
        self.ids = {request.request_id for request in mine}
        self.others = [request for request in view.requests if request.tenant != tenant]
        self.cached: Mapping[int, bytes] = view.cached.get(tenant, {})

    @cached_property
    def used_by_others(self) -> frozenset[int]:
        """Blocks."""
        return frozenset(block for request in self.others for block in request.block_ids)

    @cached_property
    def cached_for_others(self) -> frozenset[int]:
        """Blocks."""
        parts = [part for tenant, part in self._view.cached.items() if tenant != self.tenant]
        return frozenset(block for part in parts for block in part)


def describe(look: Look, before: Look | None, tenant: str) -> dict[str, Any]:
    """An event: what a tenant is told about a look.

    Args:
        look: what there is to see.
        before: what the watcher has seen already; None if it begins.
        tenant: who watches.

    Returns:
        `full`: whether it's all there is; else `cached`, the requests' `blocks` and `steps` tell what has changed.
        `requests`: the tenant's own, each with its numbers; `blocks` is [how many of the known ones stay, the others].
        `others`: all other requests in one: how many, and their blocks.
        `cached`: blocks with the first four bytes of their hashes in hex, those of others without.
        `steps`: see `_step`; `skipped` is how many there were before them that aren't told.
        `pool`, `metrics`, `draining`: of the engine as a whole.
    """
    share = look.share(tenant)
    known = None if before is None else before.share(tenant)
    first_new = -1 if before is None else before.last_step
    steps = [step for step in look.steps if step.step > first_new]
    mine = share.ids | {item.request_id for step in steps for item in step.scheduled if item.tenant == tenant}
    if known is not None:
        mine |= known.ids
    ids: dict[str, int] = {}
    return {
        "full": before is None,
        "time": round(look.view.time, 4),
        "pool": {"total": look.view.kv.total, "block_size": look.view.kv.block_size},
        "draining": look.is_draining,
        "metrics": _metrics(look),
        "requests": [_request(request, look.view.time, known) for request in share.requests.values()],
        "others": {
            "running": sum(request.is_running for request in share.others),
            "waiting": sum(not request.is_running for request in share.others),
            "used": _set_change(share.used_by_others, frozenset() if known is None else known.used_by_others),
            "cached": _set_change(share.cached_for_others, frozenset() if known is None else known.cached_for_others),
        },
        "cached": _cached_change(share.cached, {} if known is None else known.cached),
        "steps": [_step(step, tenant, mine, ids) for step in steps],
        "ids": list(ids),
        "skipped": max(0, steps[0].step - first_new - 1) if steps and before is not None else 0,
    }


def _metrics(look: Look) -> dict[str, Any]:
    metrics = look.view.metrics
    unfinished = sum(request.num_tokens - request.num_prompt_tokens for request in look.view.requests)

    def median(sample: Percentiles | None) -> float | None:
        return None if sample is None else round(sample.p50, 4)

    return {
        "running": sum(request.is_running for request in look.view.requests),
        "waiting": sum(not request.is_running for request in look.view.requests),
        "finished": sum(metrics.num_finished.values()),
        "preemptions": metrics.num_preemptions,
        "steps": metrics.num_steps,
        "generated": metrics.generated_tokens + unfinished,
        "computed": metrics.computed_tokens,
        "hit_rate": round(metrics.prefix_hit_rate, 4),
        "ttft": median(metrics.time_to_first_token),
        "tpot": median(metrics.time_per_output_token),
        "used": look.view.kv.referenced,
        "cached": look.view.kv.cached,
        "free": look.view.kv.free,
    }


def _request(request: RequestView, now: float, known: _Share | None) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": request.request_id,
        "running": request.is_running,
        "prompt": request.num_prompt_tokens,
        "cached": request.num_cached_tokens,
        "computed": request.num_computed_tokens,
        "tokens": request.num_tokens,
        "preempted": request.num_preemptions,
        "age": round(now - request.arrived_at, 3),
        "ttft": None if request.first_token_at is None else round(request.first_token_at - request.arrived_at, 4),
        "adapter": request.adapter or None,
    }
    seen = None if known is None else known.requests.get(request.request_id)
    blocks, before = request.block_ids, () if seen is None else seen.block_ids
    if blocks != before:
        keep = _num_common(blocks, before)
        fields["blocks"] = [keep, blocks[keep:]]
    return fields


def _num_common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of what both begin with."""
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))


def _set_change(now: frozenset[int], before: frozenset[int]) -> dict[str, list[int]]:
    return {"add": sorted(now - before), "drop": sorted(before - now)}


def _cached_change(now: Mapping[int, bytes], before: Mapping[int, bytes]) -> dict[str, Any]:
    if now is before:
        return {"add": [], "hashes": "", "drop": []}
    # A block may have been evicted and filled with something else from one look to the next.
    added = [block for block, digest in now.items() if before.get(block) != digest]
    return {
        "add": added,
        "hashes": "".join(now[block][:4].hex() for block in added),  # one string is a fraction of the size of a list
        "drop": [block for block in before if block not in now],
    }


def _step(step: StepTrace, tenant: str, mine: Collection[str], ids: dict[str, int]) -> dict[str, Any]:
    """One step.

    Args:
        step: what the engine noted.
        tenant: who watches.
        mine: ids of the tenant's requests that are known beside those in the step.
        ids: where ids are numbered: in a step, a request is the number of its id.

    Returns:
        `n`: its ordinal. `ms`, `forward`: milliseconds, of all and of the model's part. `who`: for each of the
        tenant's requests [its number, tokens, 1 for decode and 0 for prefill, tokens that were computed before].
        `others`: [requests, tokens]. `preempted`: [numbers of the tenant's, how many of others].
    """

    def number(request_id: str) -> int:
        return ids.setdefault(request_id, len(ids))

    def part(item: RequestTrace) -> list[int]:
        return [number(item.request_id), item.num_new_tokens, int(item.is_decode), item.num_computed_before]

    others = [item for item in step.scheduled if item.tenant != tenant]
    # A step doesn't say whose the preempted ones are: who isn't known is somebody else's.
    preempted = [number(request_id) for request_id in step.preempted if request_id in mine]
    return {
        "n": step.step,
        "ms": round(1000 * step.total_seconds, 2),
        "forward": round(1000 * step.forward_seconds, 2),
        "who": [part(item) for item in step.scheduled if item.tenant == tenant],
        "others": [len(others), sum(item.num_new_tokens for item in others)],
        "preempted": [preempted, len(step.preempted) - len(preempted)],
    }


class Watch:
    """Looks at the engine for as long as somebody watches. Belongs to the event loop's thread.

    Attributes:
        service: whose engine.
        num_watchers: who watch now, by tenant.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.num_watchers: Counter[str] = Counter()
        self._look: Look | None = None
        self._coming: asyncio.Future[Look | None]  # the next one; None when there won't be any
        self._task: asyncio.Task[None] | None = None
        self._seconds_spent = 0.0  # since the last look

    async def events(self, tenant: str) -> AsyncGenerator[str, None]:
        """What a watcher is told, each event as JSON: everything first, then what changes, until the engine is closed.

        Raises:
            RateLimitedError: if too many watch already.
        """
        if self.num_watchers[tenant] >= MAX_WATCHERS_PER_TENANT or self.num_watchers.total() >= MAX_WATCHERS:
            raise RateLimitedError("Too many watch this engine already. Close a page that does, or try again later.", 5)
        self._enter(tenant)
        try:
            before, look = None, self._look or await asyncio.shield(self._coming)
            while look is not None:  # which tells that the engine is closed
                begin = time.perf_counter()
                event = look.event(tenant, before)
                self._seconds_spent += time.perf_counter() - begin
                yield event
                before = look
                # Whoever took longer to read than we to look gets the newest one, and never those between.
                look = self._look if self._look is not before else await asyncio.shield(self._coming)
        finally:
            self._leave(tenant)

    def _enter(self, tenant: str) -> None:
        self.num_watchers[tenant] += 1
        if self._task is None:
            self._coming = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._look_on())

    def _leave(self, tenant: str) -> None:
        self.num_watchers[tenant] -= 1
        self.num_watchers += Counter()  # forgets those without any
        if not self.num_watchers and self._task is not None:
            self._task.cancel()
            self._task = self._look = None

    async def _look_on(self) -> None:
        """Takes look after look, and hands on those that show something new."""
        published_at = 0.0
        try:
            for number in itertools.count():
                if self.service.engine is None or self.service.is_closed:
                    break
                view = await self.service.engine.inspect()
                begin = time.perf_counter()
                look = self._take(number, view)
                if self._look is None or begin - published_at >= IDLE_INTERVAL or not look.shows_as_much_as(self._look):
                    published_at = begin
                    self._publish(look)
                self._seconds_spent += time.perf_counter() - begin
                await asyncio.sleep(max(INTERVAL, self._seconds_spent / MAX_SHARE))
                self._seconds_spent = 0.0
        except Exception as error:
            self._coming.set_exception(error)
        else:
            self._publish(None)

    def _publish(self, look: Look | None) -> None:
        self._look = look
        coming, self._coming = self._coming, asyncio.get_running_loop().create_future()
        coming.set_result(look)

    def _take(self, number: int, view: EngineView) -> Look:
        # The engine has gone on meanwhile; what is told of its steps ends where the view was taken.
        steps = [step for step in self.service.llm.engine.tracer.last(MAX_STEPS) if step.start < view.time]
        return Look(number, view, steps, self.service.is_draining)


def watch_router(service: Service) -> APIRouter:
    """The endpoint."""
    router = APIRouter()
    watch = Watch(service)

    # Not in the OpenAPI document: that has no way to describe a stream without an end.
    @router.get("/v1/engine/steps", include_in_schema=False)
    async def steps(request: Request) -> Response:
        """What goes on inside the engine, see `describe`."""
        events = watch.events(request.state.tenant.name)
        first = await unless_gone(request, anext(events, None))
        if first is None:
            raise stopped()
        return EventStream(_lines(first, events), events)

    return router


async def _lines(first: str, rest: AsyncIterator[str]) -> AsyncIterator[str]:
    yield f"data: {first}\n\n"
    async for event in rest:
        yield f"data: {event}\n\n"
