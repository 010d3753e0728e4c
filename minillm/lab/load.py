"""A mixed load without a model: short and long requests go through any scheduler, on a clock that's only pretended.

    served = serve_load(FairScheduler, mixed_load())
    waits = [each.time_to_first_token for each in served if each.request.kind == "short"]

What a step costs is a model of a machine (`StepCost`), and so is what a request asks for; the scheduler and the books
of the KV cache are real. So minutes of load take seconds, and give the same numbers on every machine.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from minillm.engine.config import EngineConfig
from minillm.engine.request import Request, RequestStatus
from minillm.engine.scheduler import Scheduler, SchedulerOutput
from minillm.errors import MinillmError
from minillm.kv import KVCacheManager
from minillm.sampling import SamplingParams

SchedulerMaker: TypeAlias = Callable[[EngineConfig, KVCacheManager], Scheduler]
Kind: TypeAlias = Literal["short", "long"]

LOAD_CONFIG = EngineConfig(
    num_blocks=769, block_size=16, max_num_seqs=32, max_num_batched_tokens=256, enable_prefix_caching=False
)
"""The engine's settings under load: steps of up to 256 tokens, and a KV cache for 12,288."""

_MAX_STEPS = 20_000
_MAX_IDLE_STEPS = 3


class LoadError(MinillmError):
    """A scheduler did what no engine could carry out, or nothing at all."""


@dataclass(frozen=True)
class LoadRequest:
    """One request of a load.

    Attributes:
        kind: "short" or "long", for whoever reads the results. The scheduler isn't told.
        arrival: when it comes, in seconds since the start.
        num_prompt_tokens: tokens of its prompt.
        num_output_tokens: tokens that it wants.
    """

    kind: Kind
    arrival: float
    num_prompt_tokens: int
    num_output_tokens: int


@dataclass(frozen=True)
class StepCost:
    """What a step takes: a constant, for reading the weights, and so much per token, for the arithmetic; in seconds."""

    constant: float = 0.010
    per_token: float = 0.0005

    def seconds(self, num_tokens: int) -> float:
        """The time of a step with this many tokens."""
        return self.constant + self.per_token * num_tokens


@dataclass(frozen=True)
class ServedRequest:
    """What became of a request.

    Attributes:
        request: what was asked.
        token_times: when each of its tokens was there, in seconds since the start; fewer than were asked for if the
            scheduler refused it, or didn't get it to its end.
        num_preemptions: how often it had to give up its blocks.
    """

    request: LoadRequest
    token_times: list[float] = field(default_factory=list)
    num_preemptions: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether it got all of its tokens."""
        return len(self.token_times) == self.request.num_output_tokens

    @property
    def time_to_first_token(self) -> float:
        """Seconds from its arrival to its first token; infinite if there was none."""
        return self.token_times[0] - self.request.arrival if self.token_times else float("inf")

    @property
    def total_time(self) -> float:
        """Seconds from its arrival to its last token; infinite if it wasn't finished."""
        return self.token_times[-1] - self.request.arrival if self.is_finished else float("inf")


def mixed_load(
    *, seconds: float = 60.0, shorts_per_second: float = 5.0, longs_per_second: float = 0.25, seed: int = 5
) -> list[LoadRequest]:
    """Requests that come at random times (Poisson), in the order in which they come.

    A short one has a prompt of 20 to 60 tokens and wants 10 to 30; a long one has 2,000 to 3,000 and wants 30 to 60.

    Args:
        seconds: how long requests come.
        shorts_per_second, longs_per_second: how many on average. Each kind has random numbers of its own, so the short
            ones are the same whether long ones come or not.
        seed: of the random numbers.
    """
    load: list[LoadRequest] = []
    kinds: tuple[tuple[Kind, float, tuple[int, int], tuple[int, int]], ...] = (
        ("short", shorts_per_second, (20, 60), (10, 30)),
        ("long", longs_per_second, (2000, 3000), (30, 60)),
    )
    for kind, rate, prompt, output in kinds:
        chance = random.Random(f"{seed} {kind}")
        at = chance.expovariate(rate) if rate else seconds
        while at < seconds:
            load.append(LoadRequest(kind, at, chance.randint(*prompt), chance.randint(*output)))
            at += chance.expovariate(rate)
    return sorted(load, key=lambda each: each.arrival)


def serve_load(
    scheduler: SchedulerMaker,
    load: Sequence[LoadRequest],
    *,
    cost: StepCost = StepCost(),
    config: EngineConfig = LOAD_CONFIG,
) -> list[ServedRequest]:
    """Serves a load; a request that comes during a step is added when the step is over.

    Args:
        scheduler: a class, or another maker, that is called with the config and a `KVCacheManager`.
        load: the requests.
        cost: of a step.
        config: budget, `max_num_seqs` and the pool.

    Returns:
        What became of each request, in the order of `load`.

    Raises:
        LoadError: if a step has more than the budget or tokens that aren't there, or if nothing is scheduled.
    """
    return _Run(scheduler, load, cost, config).serve()


class _Run:
    """A scheduler, a pool, a clock, and the requests on their way."""

    def __init__(
        self, scheduler: SchedulerMaker, load: Sequence[LoadRequest], cost: StepCost, config: EngineConfig
    ) -> None:
        self.config, self.cost = config, cost
        assert config.num_blocks is not None
        cache: Literal[False] | None = None if config.enable_prefix_caching else False
        self.kv = KVCacheManager(config.num_blocks, config.block_size, prefix_cache=cache)
        self.scheduler = scheduler(config, self.kv)
        self.served = [ServedRequest(each) for each in load]
        self.to_come = deque(sorted(range(len(load)), key=lambda index: load[index].arrival))
        self.unfinished: dict[Request, int] = {}
        self.clock, self.num_idle_steps, self.num_arrived = 0.0, 0, 0

    def serve(self) -> list[ServedRequest]:
        for _ in range(_MAX_STEPS):
            if self.to_come and not self.unfinished:
                self.clock = max(self.clock, self.served[self.to_come[0]].request.arrival)
            self._take_arrivals()
            if self.unfinished:
                self._step()
            elif not self.to_come:
                break
        return self.served

    def _take_arrivals(self) -> None:
        while self.to_come and self.served[self.to_come[0]].request.arrival <= self.clock:
            index = self.to_come.popleft()
            asked = self.served[index].request
            prompt = list(range(asked.num_prompt_tokens))
            request = Request(
                request_id=f"request-{self.num_arrived}",  # which doesn't give away its kind
                prompt_token_ids=prompt,
                params=SamplingParams(max_tokens=asked.num_output_tokens),
                max_num_tokens=len(prompt) + asked.num_output_tokens,
                arrival=self.num_arrived,
            )
            self.num_arrived += 1
            self.scheduler.add(request)
            self.unfinished[request] = index

    def _step(self) -> None:
        output = self.scheduler.schedule()
        self._check(output)
        self.clock += self.cost.seconds(output.num_tokens)
        self.scheduler.update(output)
        for item in output.scheduled:
            request = item.request
            if request.num_computed_tokens == request.num_tokens:
                request.token_ids.append(0)
                self.served[self.unfinished[request]].token_times.append(self.clock)
                if request.num_tokens >= request.max_num_tokens:
                    self._finish(request)
        for request in output.outgrown:
            self._finish(request)

    def _finish(self, request: Request) -> None:
        index = self.unfinished.pop(request)
        done = self.served[index]
        self.served[index] = ServedRequest(done.request, done.token_times, request.num_preemptions)
        self.scheduler.finish(request)
        request.status = RequestStatus.FINISHED

    def _check(self, output: SchedulerOutput) -> None:
        budget = self.config.max_num_batched_tokens
        if budget is not None and output.num_tokens > budget:
            raise LoadError(f"A step has {output.num_tokens} tokens; its budget is {budget}.")
        for item in output.scheduled:
            missing = item.request.num_tokens - item.request.num_computed_tokens
            if item.request not in self.unfinished or not 1 <= item.num_new_tokens <= missing:
                raise LoadError(
                    f"A step has {item.num_new_tokens} tokens of {item.request.request_id}, which misses {missing}"
                    + ("." if item.request in self.unfinished else " and is finished.")
                )
        self.num_idle_steps = 0 if output.scheduled or output.outgrown else self.num_idle_steps + 1
        if self.num_idle_steps > _MAX_IDLE_STEPS:
            raise LoadError(
                f"{len(self.unfinished)} requests aren't finished, and {self.num_idle_steps} steps in a row schedule "
                f"nothing. {self.scheduler.num_waiting} wait, {self.scheduler.num_running} hold blocks."
            )
