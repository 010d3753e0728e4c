"""Runs a scheduler with a model that's only pretended; the ground that `check_scheduler` stands on.

In place of keys and values, the pretended cache holds for each slot a hash over all tokens up to the one that was
written there. Before a token is computed, every slot before it has to hold what belongs there. So a step that skips a
token, a block that's used by two, a copy that's forgotten or a cached block of someone else's is found at once, as
surely as by wrong text from a real model, and at no cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from minillm.engine.config import EngineConfig
from minillm.engine.request import Request, RequestStatus
from minillm.engine.scheduler import ScheduledRequest, Scheduler, SchedulerOutput
from minillm.kv import KVCacheManager
from minillm.sampling import SamplingParams
from minillm.testing.report import CheckFailed

SchedulerMaker: TypeAlias = Callable[[EngineConfig, KVCacheManager], Scheduler]
Hints: TypeAlias = tuple[str, str]  # the first and the stronger one

BUDGET: Hints = (
    "A step hands out more tokens than its budget.",
    "Start each step with budget = config.max_num_batched_tokens, give no request more than "
    "min(its missing tokens, budget), and take what you gave off the budget. Running requests count as well.",
)
SEQS: Hints = (
    "A step has more requests than config.max_num_seqs allows.",
    "Count running requests and newly admitted ones together; admit only while there are fewer than max_num_seqs. "
    "After forks more may be running: then leave some out of the step.",
)
NOT_COUNTED: Hints = (
    "The same tokens are computed again in the next step.",
    "update(output) has to add each item's num_new_tokens to request.num_computed_tokens, once, and schedule() must "
    "leave it alone but for preemption and cached prefixes.",
)
TOO_MANY: Hints = (
    "A request computes tokens that it doesn't have.",
    "Only num_tokens - num_computed_tokens are missing. schedule() counts nothing as computed; that's for update() to "
    "do, when the step is over.",
)
TWICE: Hints = (
    "A request has two places in one step.",
    "Take a request out of the waiting ones before it joins the running ones, and don't go through the running ones "
    "again after admitting.",
)
GONE: Hints = (
    "A request is scheduled that the scheduler was told to forget.",
    "finish(request) has to remove it from the waiting and from the running requests, whichever it's in.",
)
NO_ROOM: Hints = (
    "A request's block table is too short for its tokens.",
    "Call kv.allocate_slots(request, num_new_tokens) with the number that you schedule, before you schedule it, and "
    "look at what it returns: False means that there's no room.",
)
CONTENTS: Hints = (
    "A block doesn't hold the keys and values that the request's num_computed_tokens promises.",
    "num_computed_tokens may only count tokens that a step has computed or that a cached prefix holds. Cached blocks "
    "have to be handed to kv.allocate_slots(request, num_new_tokens, blocks).",
)
CONTENTS_PREEMPTED: Hints = (
    "A preempted request goes on as if it still had its old blocks.",
    "With its blocks its keys and values are gone: kv.free(request.request_id), request.num_computed_tokens = 0.",
)
KEPT: Hints = (
    "A request gave way and still holds blocks, so that nobody gains anything by it.",
    "Preemption has to call kv.free(request.request_id), and then allocate_slots is asked again.",
)
LOST: Hints = (
    "Preemption costs a request its keys and values, not the tokens that it has generated: its reader has seen those.",
    "Leave request.token_ids alone. With num_computed_tokens = 0, prompt and output are computed again, as one long "
    "prompt.",
)
CONTENTS_FORKED: Hints = (
    "Two forks share a block that one of them writes to, and the copy was not made.",
    "End schedule() with output.block_copies = kv.take_block_copies(): the engine makes these copies before the step.",
)
STUCK: Hints = (
    "There's work, but nothing is scheduled.",
    "While anything is unfinished, each step has to get somewhere. With nothing running the whole pool is free, so "
    "the first waiting request can always start; the oldest running one can always get on by preempting younger ones. "
    "And the last token is missing as well until it's computed: num_tokens - request.num_computed_tokens.",
)
FORGOTTEN: Hints = (
    "A request that isn't finished is neither among the waiting nor among the running ones.",
    "Preemption has to put the request back into the queue, at its front. And whoever was admitted stays among the "
    "running ones until finish(request).",
)
ENDLESS: Hints = (
    "Steps go by, but requests don't get to their end.",
    "Two requests may be preempting each other in turn. Only ever preempt the youngest, and admit nobody in a step in "
    "which you preempted: then the oldest always gets on.",
)


def failed(detail: str, hints: Hints) -> CheckFailed:
    """A failure whose cause is known."""
    return CheckFailed(detail, hint=hints[0], strong_hint=hints[1])


@dataclass
class _Tracked:
    """A request in the simulation; `hashes[i]` is what the slot of its token i has to hold."""

    request: Request
    hashes: list[int]
    was_preempted: bool = False
    was_forked: bool = False

    def extend(self) -> None:
        for token in self.request.token_ids[len(self.hashes) - 1 :]:
            self.hashes.append(hash((self.hashes[-1], token)))


@dataclass
class Simulation:
    """A scheduler, a pool and a pretended model, which checks each step.

    Attributes:
        maker: builds the scheduler from the configuration and the pool's manager.
        num_blocks, block_size: of the pool, block 0 included.
        unfinished: requests by name.
        steps: for each step, how many tokens each request computed.
        preempted, outgrown: names, in the order in which it happened.
    """

    maker: SchedulerMaker
    num_blocks: int = 65
    block_size: int = 4
    max_num_seqs: int = 8
    max_num_batched_tokens: int = 32
    aging_steps: int = 8
    enable_prefix_caching: bool = True
    debug: bool = False
    steps: list[dict[str, int]] = field(default_factory=list)
    preempted: list[str] = field(default_factory=list)
    outgrown: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = EngineConfig(
            num_blocks=self.num_blocks,
            block_size=self.block_size,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            aging_steps=self.aging_steps,
            enable_prefix_caching=self.enable_prefix_caching,
        )
        cache: Literal[False] | None = None if self.enable_prefix_caching else False
        self.kv = KVCacheManager(self.num_blocks, self.block_size, prefix_cache=cache, debug=self.debug)
        self.scheduler = self.maker(config, self.kv)
        self._tracked: dict[str, _Tracked] = {}
        self._contents: dict[tuple[int, int], int] = {}
        self._num_arrived = self._num_idle = 0

    @property
    def unfinished(self) -> dict[str, Request]:
        """Requests that were added and haven't ended, by name."""
        return {name: tracked.request for name, tracked in self._tracked.items()}

    @property
    def started(self) -> list[str]:
        """All requests that computed anything, in the order in which they began."""
        return list(dict.fromkeys(name for step in self.steps for name in step))

    @property
    def timeline(self) -> str:
        """The steps as text: "A 8 | A 4, B 4 | nothing"."""
        return " | ".join(", ".join(f"{name} {num}" for name, num in step.items()) or "nothing" for step in self.steps)

    def add(
        self, name: str, prompt: int | Sequence[int], num_output: int, *, tenant: str = "", keys: tuple[str, ...] = ()
    ) -> Request:
        """Adds a request: `prompt` is its tokens, or how many made-up ones."""
        if isinstance(prompt, int):
            prompt = [1000 * self._num_arrived + i for i in range(prompt)]
        request = Request(
            request_id=name,
            prompt_token_ids=list(prompt),
            params=SamplingParams(max_tokens=num_output),
            max_num_tokens=len(prompt) + num_output,
            tenant=tenant,
            extra_keys=keys,
            arrival=self._num_arrived,
        )
        self._num_arrived += 1
        self.scheduler.add(request)
        self._tracked[name] = _Tracked(request, [hash((tenant, keys))])
        return request

    def fork(self, parent: Request, name: str) -> Request:
        """Splits a running request in two, as the engine does where a request wants several outputs."""
        child = Request(
            request_id=name,
            prompt_token_ids=parent.prompt_token_ids,
            params=parent.params,
            max_num_tokens=parent.max_num_tokens,
            tenant=parent.tenant,
            extra_keys=parent.extra_keys,
            arrival=self._num_arrived,
            seed=self._num_arrived,
            token_ids=list(parent.token_ids),
            num_computed_tokens=parent.num_computed_tokens,
        )
        self._num_arrived += 1
        self.scheduler.fork(parent, child)
        own, root = self._tracked[parent.request_id], hash((parent.tenant, parent.extra_keys))
        own.was_forked = True
        self._tracked[name] = _Tracked(child, [root], was_forked=True)
        return child

    def finish(self, request: Request) -> None:
        """Ends a request, as the engine does when it's complete, aborted or outgrown."""
        self.scheduler.finish(request)
        request.status = RequestStatus.FINISHED
        del self._tracked[request.request_id]

    def run(self, max_steps: int = 1000) -> None:
        """Steps until every request is finished.

        Raises:
            CheckFailed: if that takes more than `max_steps`.
        """
        for _ in range(max_steps):
            if not self._tracked:
                return
            self.step()
        names = ", ".join(self._tracked)
        raise failed(f"after {max_steps} steps not finished: {names}; the last steps: {self._last_steps()}", ENDLESS)

    def step(self) -> SchedulerOutput:
        """Runs a step: every request whose tokens are all computed gets another one, or is finished.

        Raises:
            CheckFailed: for anything that's wrong with it.
        """
        try:
            output = self.scheduler.schedule()
        except Exception:
            self._check_given_back([each.request for each in self._tracked.values()])
            raise
        self.steps.append({item.request.request_id: item.num_new_tokens for item in output.scheduled})
        self.preempted += [request.request_id for request in output.preempted]
        self.outgrown += [request.request_id for request in output.outgrown]
        self._check_limits(output)
        self._check_given_back(output.preempted)
        for request in output.preempted:
            self._tracked[request.request_id].was_preempted = True
        self._compute(output)
        expected = {item.request: item.request.num_computed_tokens + item.num_new_tokens for item in output.scheduled}
        self.scheduler.update(output)
        for request, num_computed in expected.items():
            if request.num_computed_tokens != num_computed:
                raise failed(
                    f"step {len(self.steps)} took {request.request_id} to {num_computed} computed tokens; after update "
                    f"its num_computed_tokens is {request.num_computed_tokens}",
                    NOT_COUNTED,
                )
        self._sample([item.request for item in output.scheduled])
        for request in output.outgrown:
            self.finish(request)
        self._check_progress(output)
        return output

    def check_empty(self) -> None:
        """Raises:
        CheckFailed: if the scheduler or the pool still hold anything.
        """
        self.kv.check_integrity()
        missing = self.kv.num_usable_blocks - self.kv.num_available_blocks
        if missing:
            raise failed(
                f"all requests are finished, but {missing} of {self.kv.num_usable_blocks} blocks were not given back",
                (
                    "Somewhere a request ends without its blocks being freed.",
                    "finish(request) has to call kv.free(request.request_id) if the request holds blocks, that is, if "
                    "it's running. So does preemption.",
                ),
            )
        counts = self.scheduler.num_waiting, self.scheduler.num_running, self.scheduler.has_unfinished
        if counts != (0, 0, False):
            raise CheckFailed(
                "all requests are finished, but num_waiting, num_running and has_unfinished are "
                f"{counts[0]}, {counts[1]} and {counts[2]}; expected 0, 0 and False"
            )

    # -- what is checked in each step ---------------------------------------------------------------------------

    def _check_limits(self, output: SchedulerOutput) -> None:
        at = f"step {len(self.steps)} schedules"
        requests = [item.request for item in output.scheduled]
        for request in (*requests, *output.preempted, *output.outgrown):
            known = self._tracked.get(request.request_id)
            if known is None or known.request is not request:
                raise failed(f"step {len(self.steps)} contains {request.request_id}, which is finished", GONE)
        for request in output.outgrown:
            if output.outgrown.count(request) > 1 or request in (*requests, *output.preempted):
                name = request.request_id
                raise failed(f"step {len(self.steps)} reports {name} as outgrown, and has it a second time", TWICE)
        for item in output.scheduled:
            name, num_missing = item.request.request_id, item.request.num_tokens - item.request.num_computed_tokens
            if requests.count(item.request) > 1 or item.request in output.preempted:
                raise failed(f"{at} {name} twice, or preempts and schedules it", TWICE)
            if not 1 <= item.num_new_tokens <= num_missing:
                raise failed(f"{at} {item.num_new_tokens} tokens of {name}, which misses {num_missing}", TOO_MANY)
        if output.num_tokens > self.max_num_batched_tokens:
            raise failed(f"{at} {output.num_tokens} tokens; the budget is {self.max_num_batched_tokens}", BUDGET)
        if len(requests) > self.max_num_seqs:
            raise failed(f"{at} {len(requests)} requests; max_num_seqs is {self.max_num_seqs}", SEQS)

    def _check_given_back(self, requests: Sequence[Request]) -> None:
        """A request that waits again has no blocks, and all of its tokens."""
        tables = self.kv.block_tables()
        for request in requests:
            name = request.request_id
            if request.status is RequestStatus.WAITING and name in tables:
                raise failed(f"{name} gave way, and still holds {len(tables[name])} blocks", KEPT)
            if request.num_tokens < (before := len(self._tracked[name].hashes) - 1):
                raise failed(f"{name} gave way with {before} tokens, and has {request.num_tokens} now", LOST)

    def _compute(self, output: SchedulerOutput) -> None:
        contents, size = self._contents, self.block_size
        sources = [[contents.get((source, offset)) for offset in range(size)] for source, _ in output.block_copies]
        for (_, destination), values in zip(output.block_copies, sources, strict=True):
            contents.update({(destination, offset): value or 0 for offset, value in enumerate(values)})
        slots = [(item, self._slots(item)) for item in output.scheduled]
        for item, positions in slots:
            hashes = self._tracked[item.request.request_id].hashes
            for position in range(item.request.num_computed_tokens, len(positions)):
                contents[positions[position]] = hashes[position + 1]
        for item, positions in slots:
            self._check_contents(item, positions)

    def _slots(self, item: ScheduledRequest) -> list[tuple[int, int]]:
        """(block, offset) of each token up to the last that is computed."""
        tracked = self._tracked[item.request.request_id]
        tracked.extend()
        num_tokens, table = item.request.num_computed_tokens + item.num_new_tokens, item.block_table
        if len(table) * self.block_size < num_tokens:
            name, room = item.request.request_id, len(table) * self.block_size
            raise failed(
                f"step {len(self.steps)} takes {name} to {num_tokens} tokens; its block table has room for {room}",
                CONTENTS_PREEMPTED if tracked.was_preempted else NO_ROOM,
            )
        return [(table[position // self.block_size], position % self.block_size) for position in range(num_tokens)]

    def _check_contents(self, item: ScheduledRequest, slots: Sequence[tuple[int, int]]) -> None:
        name = item.request.request_id
        tracked = self._tracked[name]
        for position, slot in enumerate(slots):
            if self._contents.get(slot) == tracked.hashes[position + 1]:
                continue
            own = position >= item.request.num_computed_tokens
            what = "was written by another request in the same step" if own else "doesn't hold its keys and values"
            hints = CONTENTS_PREEMPTED if tracked.was_preempted else CONTENTS
            raise failed(
                f"in step {len(self.steps)} {name} goes on from {item.request.num_computed_tokens} computed tokens, "
                f"but the slot of its token {position} {what}",
                CONTENTS_FORKED if tracked.was_forked else hints,
            )

    def _sample(self, requests: Sequence[Request]) -> None:
        for request in requests:
            if request.num_computed_tokens == request.num_tokens:
                request.token_ids.append((sum(request.token_ids[-3:]) + request.seed) % 50)
                self._tracked[request.request_id].extend()
                if request.num_tokens >= request.max_num_tokens:
                    self.finish(request)

    def _check_progress(self, output: SchedulerOutput) -> None:
        idle = self._tracked and not (output.scheduled or output.outgrown)
        self._num_idle = self._num_idle + 1 if idle else 0
        if self._num_idle > 3:
            missing = ", ".join(
                f"{name} misses {request.num_tokens - request.num_computed_tokens} of {request.num_tokens} tokens"
                for name, request in self.unfinished.items()
            )
            known = self.scheduler.num_waiting + self.scheduler.num_running
            hints = FORGOTTEN if known < len(self.unfinished) else STUCK
            raise failed(f"{missing}, but the last {self._num_idle} steps scheduled nothing", hints)

    def _last_steps(self) -> str:
        return " | ".join(self.timeline.split(" | ")[-6:])
