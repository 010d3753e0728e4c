"""The scheduler: who computes how many tokens in the next step.

There's no prefill phase and no decode phase. Under one budget of tokens per step, each request lets
`num_computed_tokens` catch up with `num_tokens` (chunked prefill, arXiv:2403.02310): running requests first, so that
nobody who is being answered has to pause for a long prompt, then waiting ones with what is left.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass, field
from typing import Protocol

from minillm.engine.config import EngineConfig
from minillm.engine.fair_queue import FairQueue
from minillm.engine.request import Request, RequestStatus
from minillm.errors import MinillmError, RequestTooLargeError
from minillm.kv import KVCacheManager


@dataclass(frozen=True)
class ScheduledRequest:
    """One request's part in a step.

    Attributes:
        request: whose tokens.
        num_new_tokens: how many of them are computed, from `request.num_computed_tokens` on. If these are the last
            ones that it has, the step yields its next token.
        block_table: its blocks, with room for the new tokens. The live list: read it, don't change it.
    """

    request: Request
    num_new_tokens: int
    block_table: list[int]


@dataclass
class SchedulerOutput:
    """One step.

    Attributes:
        scheduled: who computes how much.
        preempted: who had to give up its blocks; these wait again, and compute again what the cache has lost.
        outgrown: who has become larger than the whole pool, and can't go on. The engine ends them with "length".
        block_copies: (source, destination) blocks, to be copied all at once before the step.
    """

    scheduled: list[ScheduledRequest] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)
    outgrown: list[Request] = field(default_factory=list)
    block_copies: list[tuple[int, int]] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        """Tokens computed in this step."""
        return sum(item.num_new_tokens for item in self.scheduled)


class Scheduler(Protocol):
    """Decides what each step computes. `LLM(scheduler=…)` takes a class that is built with (config, kv).

    What the engine relies on: a step never has more than `config.max_num_batched_tokens` tokens or
    `config.max_num_seqs` requests; while anything is unfinished, a step schedules or outgrows something; a tenant's
    requests start in the order in which they came; when the pool is full, the youngest request gives way; and no
    request waits for ever. The scheduler sets each request's `status`, and `num_cached_tokens` when it first runs.
    """

    def add(self, request: Request) -> None:
        """Takes a request in; it waits.

        Raises:
            RequestTooLargeError: if its prompt and one more token could never fit in the pool.
        """
        ...

    def schedule(self) -> SchedulerOutput:
        """Chooses the next step's tokens, and gives them room in the KV cache."""
        ...

    def update(self, output: SchedulerOutput) -> None:
        """The step has been executed: its tokens count as computed, and complete blocks can be found by others."""
        ...

    def fork(self, parent: Request, child: Request) -> None:
        """Lets a new request go on from what its running parent has computed; it runs at once."""
        ...

    def finish(self, request: Request) -> None:
        """Forgets a request, wherever it is, and gives its blocks back. If it's gone already, nothing happens."""
        ...

    @property
    def num_waiting(self) -> int:
        """Requests that wait, preempted ones included."""
        ...

    @property
    def num_running(self) -> int:
        """Requests that hold blocks."""
        ...

    @property
    def has_unfinished(self) -> bool:
        """Whether there is anything to do."""
        ...


class FairScheduler:
    """The default: tenants share evenly, and within a tenant it's first come, first served.

    Running requests are served oldest first. Where the pool is full the youngest is preempted: its blocks are freed,
    and it computes its tokens again later (recomputation, arXiv:2309.06180 §4.5), mostly by finding its own blocks in
    the prefix cache. A request never takes room from an older one, so the oldest always gets on.
    """

    def __init__(self, config: EngineConfig, kv: KVCacheManager) -> None:
        self.max_num_seqs = config.max_num_seqs or 64
        self.max_num_batched_tokens = config.max_num_batched_tokens or 512
        self.kv = kv
        self._running: list[Request] = []  # oldest first
        self._waiting = FairQueue(config.aging_steps)

    @property
    def num_waiting(self) -> int:
        """Requests that wait, preempted ones included."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Requests that hold blocks; more than max_num_seqs only if some were forked."""
        return len(self._running)

    @property
    def has_unfinished(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._running or self._waiting)

    def add(self, request: Request) -> None:
        """Takes a request in, see `Scheduler.add`."""
        num_blocks, num_usable = self._num_blocks(request.num_tokens + 1), self.kv.num_usable_blocks
        if num_blocks > num_usable:
            raise RequestTooLargeError(
                f"The prompt's {request.num_tokens} tokens and one more need {num_blocks} blocks of the KV cache; "
                f"it has {num_usable}. Shorten the prompt, or give the engine a larger pool (kv_cache_memory or "
                "num_blocks).",
                "prompt",
            )
        self._waiting.activate(request.tenant, self._running)
        self._waiting.append(request)

    def schedule(self) -> SchedulerOutput:
        """Chooses the next step's tokens, see `Scheduler.schedule`."""
        output = SchedulerOutput()
        self._waiting.steps += 1
        budget = self._schedule_running(output)
        if not output.preempted:  # where room is short, nobody new comes in
            self._admit(output, budget)
        output.block_copies = self.kv.take_block_copies()
        return output

    def update(self, output: SchedulerOutput) -> None:
        """Counts the step's tokens as computed, see `Scheduler.update`."""
        for item in output.scheduled:
            if item.request.status is RequestStatus.RUNNING:  # not aborted meanwhile
                item.request.num_computed_tokens += item.num_new_tokens
                self.kv.cache_blocks(item.request)

    def fork(self, parent: Request, child: Request) -> None:
        """Lets a child go on from its running parent's tokens, see `Scheduler.fork`."""
        if parent.status is not RequestStatus.RUNNING:
            raise MinillmError(f"{parent.request_id!r} is {parent.status.value}; only a running request can be forked.")
        self.kv.fork(parent.request_id, child.request_id)
        child.num_computed_tokens = parent.num_computed_tokens
        self._waiting.activate(child.tenant, self._running)
        self._run(child)

    def finish(self, request: Request) -> None:
        """Forgets a request, see `Scheduler.finish`."""
        if request.status is RequestStatus.RUNNING and request in self._running:
            self._running.remove(request)
            self.kv.free(request.request_id)
        elif request in self._waiting:
            self._waiting.remove(request)
        else:
            return
        request.status = RequestStatus.FINISHED
        self._waiting.deactivate(request.tenant)

    def _schedule_running(self, output: SchedulerOutput) -> int:
        """Returns what is left of the budget."""
        budget, index = self.max_num_batched_tokens, 0
        # Whoever is preempted is taken off the end of the list, where nobody has been scheduled yet.
        while budget and index < len(self._running) and len(output.scheduled) < self.max_num_seqs:
            request = self._running[index]
            index += 1
            num_new_tokens = min(request.num_tokens - request.num_computed_tokens, budget)
            if self._num_blocks(request.num_tokens) > self.kv.num_usable_blocks:
                output.outgrown.append(request)
            elif num_new_tokens and self._make_room(request, num_new_tokens, output):
                budget -= self._schedule(request, num_new_tokens, output)
        return budget

    def _make_room(self, request: Request, num_new_tokens: int, output: SchedulerOutput) -> bool:
        """Preempts the youngest until the tokens fit; False if that was the request itself."""
        while not self.kv.allocate_slots(request, num_new_tokens):
            youngest = self._running.pop()
            self.kv.free(youngest.request_id)
            youngest.status, youngest.num_computed_tokens = RequestStatus.WAITING, 0
            youngest.num_preemptions += 1
            self._waiting.append(youngest, at_front=True)
            output.preempted.append(youngest)
            if youngest is request:
                return False
        return True

    def _admit(self, output: SchedulerOutput, budget: int) -> None:
        while budget and len(self._running) < self.max_num_seqs and self.kv.num_available_blocks:
            request = self._waiting.first()
            if request is None:
                return
            blocks, num_cached_tokens = self.kv.get_computed_blocks(request)
            num_new_tokens = min(request.num_tokens - num_cached_tokens, budget)
            # All of its tokens should fit by now, not just the first chunk, or it would soon be thrown out again.
            idle = sum(self.kv.allocator.ref_count(block) == 1 for block in blocks)  # counted as available so far
            missing = self._num_blocks(request.num_tokens) - len(blocks) - (self.kv.num_available_blocks - idle)
            if missing > 0 or not self.kv.allocate_slots(request, num_new_tokens, blocks):
                return  # and nobody overtakes it, or a stream of small requests would keep a large one out
            self._waiting.remove(request)
            request.num_computed_tokens = num_cached_tokens
            if request.num_cached_tokens is None:
                request.num_cached_tokens = num_cached_tokens
            self._run(request)
            budget -= self._schedule(request, num_new_tokens, output)

    def _schedule(self, request: Request, num_new_tokens: int, output: SchedulerOutput) -> int:
        block_table = self.kv.block_table(request.request_id)
        output.scheduled.append(ScheduledRequest(request, num_new_tokens, block_table))
        self._waiting.charge(request.tenant, num_new_tokens)
        return num_new_tokens

    def _run(self, request: Request) -> None:
        request.status = RequestStatus.RUNNING
        insort(self._running, request, key=lambda each: each.arrival)

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.kv.block_size)
