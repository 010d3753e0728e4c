"""`check_scheduler`: what a scheduler must do before it decides what the engine computes."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

from minillm.engine.request import Request
from minillm.errors import RequestTooLargeError
from minillm.testing.report import Behavior, Case, CheckFailed, Report, run_cases
from minillm.testing.simulation import BUDGET, CONTENTS_FORKED, ENDLESS, SEQS, SchedulerMaker, Simulation

METHODS = ("add", "schedule", "update", "fork", "finish")
PROPERTIES = ("num_waiting", "num_running", "has_unfinished")


def check_scheduler(scheduler: SchedulerMaker) -> Report:
    """Checks a scheduler against the protocol `minillm.engine.scheduler.Scheduler`, by what it schedules only.

    It runs small scenarios with a pretended model and a real `KVCacheManager`. Sharing between tenants is the
    scheduler's own affair; that nobody waits for ever is not.

    Args:
        scheduler: a class, or another maker, that is called with an `EngineConfig` and a `KVCacheManager`.

    Returns:
        The report, a line per behavior. `report.raise_if_failed()` raises it, `report.hint()` says more.
    """
    name = getattr(scheduler, "__name__", type(scheduler).__name__)
    suite, behaviors = _Suite(scheduler), list[Behavior]()
    # Each stage rests on the one before it. While that fails, the later lines would only mislead.
    *foundations, others = suite.stages()
    for stage in foundations:
        behaviors += run_cases(name, stage).behaviors
        if not all(behavior.passed for behavior in behaviors):
            return Report(f"scheduler {name} (more follows once this holds)", behaviors)
    return Report(f"scheduler {name}", behaviors + run_cases(name, others).behaviors)


class _Suite:
    """The behaviors."""

    def __init__(self, maker: SchedulerMaker) -> None:
        self.simulate: Callable[..., Simulation] = partial(Simulation, maker)

    def stages(self) -> list[list[Case]]:
        """All behaviors, the simple ones first."""
        others = [*self._order_cases(), *self._preemption_cases(), *self._cache_cases(), *self._ending_cases()]
        return [self._call_cases(), self._lone_cases(), self._limit_cases(), [*others, *self._mixed_cases()]]

    # -- the foundations ----------------------------------------------------------------------------------------

    def _call_cases(self) -> list[Case]:
        return [
            Case(
                "is built with (config, kv) and has the scheduler's methods",
                self._methods,
                f"A scheduler has the methods {', '.join(METHODS)} and the properties {', '.join(PROPERTIES)}.",
                "class MyScheduler: def __init__(self, config, kv): …, with config.max_num_batched_tokens, "
                "config.max_num_seqs and a KVCacheManager. schedule() returns a SchedulerOutput.",
            )
        ]

    def _methods(self) -> None:
        scheduler: Any = self.simulate().scheduler
        missing = [name for name in METHODS if not callable(getattr(scheduler, name, None))]
        missing += [name for name in PROPERTIES if not isinstance(getattr(scheduler, name, None), int)]
        if missing:
            raise CheckFailed(f"an object of the class {type(scheduler).__name__} has no {', '.join(missing)}")
        scheduler.schedule().scheduled.copy()

    def _lone_cases(self) -> list[Case]:
        return [
            Case(
                "a lone request computes its prompt, and then a token per step",
                self._lone,
                "In each step a request computes the tokens that it has and that aren't computed yet.",
                "schedule() gives request.num_tokens - request.num_computed_tokens; there's no other rule for a "
                "prompt than for the tokens after it. A request that was admitted stays among the running ones until "
                "finish(request).",
            ),
            Case(
                "a finished request gives all of its blocks back",
                self._frees,
                "Blocks that nobody gives back are lost: after a while nothing fits any more.",
                "finish(request) has to call kv.free(request.request_id).",
            ),
        ]

    def _lone(self) -> None:
        sim = self.simulate(enable_prefix_caching=False)
        sim.add("A", 5, 3)
        sim.run(20)
        if sim.steps != [{"A": 5}, {"A": 1}, {"A": 1}]:
            raise CheckFailed(
                f"a prompt of 5 tokens with an output of 3 took the steps {sim.timeline}; expected 5, 1, 1"
            )

    def _frees(self) -> None:
        sim = self.simulate()
        sim.add("A", 5, 3)
        sim.run(20)
        sim.check_empty()

    # -- the limits ---------------------------------------------------------------------------------------------

    def _limit_cases(self) -> list[Case]:
        return [
            Case("a step never has more than max_num_batched_tokens tokens", self._budget, *BUDGET),
            Case(
                "a prompt longer than the budget is computed in chunks",
                self._chunks,
                "What doesn't fit in one step is computed in several.",
                "Give a request min(missing tokens, budget), also when it's admitted; the rest follows in the next "
                "steps, while it's among the running ones.",
            ),
            Case("a step never has more than max_num_seqs requests", self._seqs, *SEQS),
            Case(
                "requests share a step",
                self._share,
                "Requests are computed together as long as budget and max_num_seqs allow it.",
                "Admit waiting requests in a loop until the budget is used up, in every step, not only when nothing "
                "is running (continuous batching).",
            ),
            Case(
                "who is being answered goes on beside a long prompt",
                self._beside,
                "Each running request should get its next token in each step, whatever else there is.",
                "Schedule the running requests first, the oldest in front, and give waiting ones what's left of the "
                "budget.",
            ),
        ]

    def _budget(self) -> None:
        for prompts in ((5, 5), (3, 3, 3, 3, 3, 3)):
            sim = self.simulate(max_num_batched_tokens=8)
            for index, prompt in enumerate(prompts):
                sim.add(_name(index), prompt, 3)
            sim.run(50)

    def _chunks(self) -> None:
        sim = self.simulate(max_num_batched_tokens=8)
        sim.add("A", 20, 2)
        try:
            sim.run(20)
        except CheckFailed as error:
            raise CheckFailed(f"with a budget of 8, a prompt of 20 tokens failed: {error}") from None
        if sim.steps != [{"A": 8}, {"A": 8}, {"A": 4}, {"A": 1}]:
            raise CheckFailed(f"with a budget of 8, a prompt of 20 took the steps {sim.timeline}; expected 8, 8, 4, 1")

    def _seqs(self) -> None:
        sim = self.simulate(max_num_seqs=2)
        for index in range(4):
            sim.add(_name(index), 3, 3)
        sim.run(50)

    def _share(self) -> None:
        sim = self.simulate()
        for name in "AB":
            sim.add(name, 3, 4)
        sim.step()
        sim.add("C", 3, 4)
        sim.step()
        if [set(step) for step in sim.steps] != [{"A", "B"}, {"A", "B", "C"}]:
            raise CheckFailed(
                f"with A and B there from the start and C from the second step on, the steps were {sim.timeline}; "
                "expected all of them in each"
            )

    def _beside(self) -> None:
        sim = self.simulate(max_num_batched_tokens=8)
        sim.add("A", 3, 6)
        sim.step()
        sim.add("B", 20, 2)
        for _ in range(3):
            sim.step()
        if any(step.get("A") != 1 or "B" not in step for step in sim.steps[1:]):
            raise CheckFailed(
                f"A is being answered when B comes with a prompt of 20; with a budget of 8 the steps were "
                f"{sim.timeline}; expected 1 token of A in each, and the rest for B"
            )

    # -- who's first --------------------------------------------------------------------------------------------

    def _order_cases(self) -> list[Case]:
        starved = "Whoever is first stays first: nobody is admitted before it, even if it doesn't fit yet."
        return [
            Case(
                "first come, first served",
                self._in_turn,
                "A tenant's requests start in the order in which they came.",
                "Append to the end of the queue and take from its front: a deque with append and popleft. list.pop() "
                "takes the last, which is the newest.",
            ),
            Case(
                "a long request isn't overtaken for ever by short ones",
                self._stream_of_short,
                "A stream of short requests keeps a long one waiting, however long it has waited already.",
                f"{starved} Choosing by length, or going on to the next when one doesn't fit, lets short ones pass.",
            ),
            Case(
                "a request isn't overtaken for ever by those of new tenants",
                self._stream_of_tenants,
                "New tenants keep coming, and each is served before one that has had its share already.",
                "Fair shares alone aren't enough: a request that has been first of its tenant for config.aging_steps "
                "steps goes before all others.",
            ),
        ]

    def _in_turn(self) -> None:
        sim = self.simulate(max_num_seqs=1)
        for name in "ABC":
            sim.add(name, 3, 2)
        sim.run(50)
        if sim.started != ["A", "B", "C"]:
            came = ", ".join(sim.started)
            raise CheckFailed(
                f"A, B and C came in this order, with max_num_seqs 1; they were started in the order {came}"
            )

    def _stream_of_short(self) -> None:
        # Two short ones always leave room for one more of them, but not for the long one.
        sim = self.simulate(num_blocks=9, max_num_seqs=3, enable_prefix_caching=False)
        for index in range(2):
            sim.add(f"short{index}", 4, 3 + index)
        sim.step()
        sim.add("long", 26, 2)
        self._stream(
            sim, "long", lambda index: sim.add(f"short{index + 2}", 4, 4), "a pool for 32 tokens, a prompt of 26"
        )

    def _stream_of_tenants(self) -> None:
        sim = self.simulate(max_num_seqs=1, aging_steps=4)

        def newcomer(index: int) -> Request:
            return sim.add(f"other{index}", 3, 2, tenant=f"other{index}")

        sim.add("first", 30, 2, tenant="tenant")
        newcomer(-1)
        sim.step()
        sim.add("second", 30, 2, tenant="tenant")
        self._stream(sim, "second", newcomer, "a tenant's second request")

    def _stream(self, sim: Simulation, name: str, add: Callable[[int], Request], what: str) -> None:
        num_steps = 100
        for index in range(num_steps):
            add(index)
            sim.step()
            if name in sim.started:
                return
        num = len(sim.started)
        raise CheckFailed(f"{what} waited for {num_steps} steps, while {num} requests that came later were started")

    # -- a full pool --------------------------------------------------------------------------------------------

    def _preemption_cases(self) -> list[Case]:
        return [
            Case(
                "when the pool is full, the youngest gives way",
                self._youngest,
                "allocate_slots returns False: somebody has to give up its blocks, and it's not the oldest.",
                "Preempt the running request with the highest arrival, the asking one itself if that's the one, and "
                "try again. Otherwise the oldest may start anew for ever.",
            ),
            Case("a preempted request comes back and ends", self._comes_back, *ENDLESS),
            Case(
                "a request that outgrows the whole pool is reported",
                self._outgrows,
                "A lone request that needs more blocks than there are can't be helped by preemption.",
                "If nobody else is running and allocate_slots says False, put the request in output.outgrown; the "
                "engine then calls finish(request).",
            ),
            Case(
                "a prompt that can never fit is refused at once, and others go on",
                self._refuses,
                "Such a request would wait for ever, and everybody behind it.",
                "In add: if the prompt and one more token need more blocks than kv.num_usable_blocks, raise "
                "RequestTooLargeError and don't queue it.",
            ),
        ]

    def _youngest(self) -> None:
        sim = self.simulate(num_blocks=9, enable_prefix_caching=False)
        for name in "ABC":
            sim.add(name, 8, 9)
        for _ in range(10):
            sim.step()
        if sim.preempted[:1] != ["C"] or "A" in sim.preempted:
            preempted = ", ".join(sim.preempted) or "nobody"
            raise CheckFailed(
                f"A, B and C have prompts of 8 and grow to 17 tokens in a pool for 32; preempted was {preempted}; "
                "expected C first, and never A"
            )

    def _comes_back(self) -> None:
        for caching in (False, True):
            sim = self.simulate(num_blocks=9, enable_prefix_caching=caching)
            for name in "ABC":
                sim.add(name, 8, 9)
            sim.run(200)
            sim.check_empty()

    def _outgrows(self) -> None:
        sim = self.simulate(num_blocks=5)
        sim.add("A", 4, 100)
        try:
            sim.run(40)
        except CheckFailed as error:
            raise CheckFailed(f"a lone request grows beyond a pool for 16 tokens: {error}") from None
        if sim.outgrown != ["A"] or sum(sim.steps[-2].values()) != 1:
            raise CheckFailed(f"a lone request grows beyond a pool for 16 tokens; outgrown was {sim.outgrown}")
        sim.check_empty()

    def _refuses(self) -> None:
        sim = self.simulate(num_blocks=5)
        sim.add("A", 4, 4)
        try:
            sim.add("B", 17, 2)
        except RequestTooLargeError:
            sim.add("C", 4, 4)
            try:
                sim.run(40)
                sim.check_empty()
            except CheckFailed as error:
                raise CheckFailed(f"a prompt of 17 tokens in a pool for 16 was refused, and then: {error}") from None
        else:
            raise CheckFailed("a prompt of 17 tokens in a pool for 16: add raised no RequestTooLargeError")

    # -- the prefix cache ---------------------------------------------------------------------------------------

    def _cache_cases(self) -> list[Case]:
        return [
            Case(
                "a prompt that was computed before comes from the prefix cache",
                self._hits,
                "Two steps are needed: publish blocks when they are computed, and look for them when a request starts.",
                "On admission: blocks, num_cached = kv.get_computed_blocks(request), allocate_slots(request, num_new, "
                "blocks), and then request.num_computed_tokens = num_cached.",
            ),
            Case("a fork goes on from its parent's tokens", self._forks, *CONTENTS_FORKED),
            Case("forks don't take a step beyond max_num_seqs either", self._many_forks, *SEQS),
        ]

    def _hits(self) -> None:
        sim, prompt = self.simulate(), list(range(100, 109))
        sim.add("A", prompt, 2)
        sim.run(10)
        second = sim.add("B", prompt, 2)
        if sim.kv.get_computed_blocks(second)[1] != 8:
            raise CheckFailed(
                "after a prompt of 9 tokens with blocks of 4, the cache holds none of its blocks",
                hint="No complete block is published.",
                strong_hint="update(output) has to call kv.cache_blocks(request) for each request of the step, after "
                "its num_computed_tokens has been raised.",
            )
        sim.step()
        if sim.steps[-1] != {"B": 1}:
            raise CheckFailed(
                f"a prompt of 9 tokens, 8 of them cached, was scheduled as {sim.timeline.split(' | ')[-1]}; expected 1"
            )
        if second.num_cached_tokens != 8:
            raise CheckFailed(
                f"8 tokens came from the cache; request.num_cached_tokens says {second.num_cached_tokens}",
                hint="The reader of a response is told how much of the prompt was cached.",
                strong_hint="On the first admission set request.num_cached_tokens = num_cached.",
            )

    def _forks(self) -> None:
        sim = self.simulate(max_num_batched_tokens=16)
        parent = sim.add("A", 6, 6)
        sim.step()
        sim.fork(parent, "B")
        sim.step()
        if sim.steps[-1] != {"A": 1, "B": 1}:
            raise CheckFailed(
                f"B is a fork of A, whose prompt is computed; the next step was {sim.timeline.split(' | ')[-1]}; "
                "expected 1 token of each",
                hint="A fork has all of its parent's computed tokens, and runs at once.",
                strong_hint="fork(parent, child): kv.fork(parent.request_id, child.request_id), "
                "child.num_computed_tokens = parent.num_computed_tokens, and child joins the running requests.",
            )
        sim.run(20)
        sim.check_empty()

    def _many_forks(self) -> None:
        sim = self.simulate(max_num_seqs=2)
        parent = sim.add("A", 3, 4)
        sim.step()
        for name in "BC":
            sim.fork(parent, name)
        sim.run(50)

    # -- endings ------------------------------------------------------------------------------------------------

    def _ending_cases(self) -> list[Case]:
        return [
            Case(
                "an aborted request is gone at once, wherever it was",
                self._aborts,
                "finish(request) is also called for requests that wait, are in the middle of their prompt, or were "
                "preempted.",
                "Only a running request holds blocks: kv.free fails for any other. And a waiting one has to leave the "
                "queue.",
            ),
            Case(
                "finishing a request twice does nothing the second time",
                self._twice,
                "An abort may come when the request has just ended.",
                "In finish: if the request is neither waiting nor running, return.",
            ),
        ]

    def _aborts(self) -> None:
        for when, num_steps, victim in (
            ("while it waited", 0, "A"),
            ("in the middle of its prompt", 1, "A"),
            ("while it was being answered", 3, "A"),
            ("while it waited behind another", 2, "B"),
        ):
            sim = self.simulate(max_num_batched_tokens=8, max_num_seqs=1)
            requests = {name: sim.add(name, 12, 6) for name in "AB"}
            for _ in range(num_steps):
                sim.step()
            self._abort(sim, requests[victim], when)
        sim = self.simulate(num_blocks=9, enable_prefix_caching=False)
        requests = {name: sim.add(name, 8, 9) for name in "ABC"}
        while sim.unfinished and not sim.preempted:
            sim.step()
        if sim.preempted:
            self._abort(sim, requests[sim.preempted[0]], "after it had been preempted")

    def _abort(self, sim: Simulation, request: Request, when: str) -> None:
        try:
            sim.finish(request)
            sim.run(60)
            sim.check_empty()
        except CheckFailed as error:
            detail = f"{request.request_id} was aborted {when}: {error}"
            raise CheckFailed(detail, hint=error.hint, strong_hint=error.strong_hint) from None

    def _twice(self) -> None:
        sim = self.simulate()
        requests = [sim.add(name, 3, 9) for name in "AB"]
        sim.step()
        sim.finish(requests[0])
        sim.scheduler.finish(requests[0])
        sim.run(20)
        sim.check_empty()

    # -- all at once --------------------------------------------------------------------------------------------

    def _mixed_cases(self) -> list[Case]:
        return [
            Case(
                "random mixes all finish, and nothing is left behind",
                self._mixes,
                "The lines above hold, but together something goes wrong. Start with the mix that's named.",
                "Mixes have aborts, forks, shared prefixes, several tenants and pools that are too small for all.",
                time_limit=30,
            )
        ]

    def _mixes(self) -> None:
        for num_requests in (2, 3, 5, 8, 13, 21):
            for seed in range(6):
                try:
                    random_mix(self.simulate, num_requests, seed)
                except CheckFailed as error:
                    detail = f"{num_requests} requests, seed {seed}: {error}"
                    raise CheckFailed(detail, hint=error.hint, strong_hint=error.strong_hint) from None


def random_mix(simulate: Callable[..., Simulation], num_requests: int, seed: int) -> Simulation:
    """Runs requests of all kinds, with aborts and forks, in a pool of random size, until all are finished."""
    chance = random.Random(1000 * num_requests + seed)
    sim = simulate(
        num_blocks=chance.choice([5, 7, 10, 20]),
        max_num_seqs=chance.choice([1, 2, 5]),
        max_num_batched_tokens=chance.choice([1, 4, 7, 32]),
        enable_prefix_caching=chance.random() < 0.7,
    )
    usable = sim.kv.num_usable_blocks * sim.block_size
    shared = list(range(100, 100 + usable))
    for index in range(num_requests):
        start = chance.choice([0, 0, 4, 9])
        own = [1000 * (index + 1) + i for i in range(chance.randrange(1, 12))]
        prompt = (shared[:start] + own)[: usable - 1]
        sim.add(_name(index), prompt, chance.randrange(1, 16), tenant=chance.choice("xy"))
        for _ in range(chance.randrange(4)):
            sim.step()
        requests = list(sim.unfinished.values())
        if requests and chance.random() < 0.15:
            sim.finish(chance.choice(requests))
        ready = [
            r for r in sim.unfinished.values() if r.num_tokens - r.num_computed_tokens == 1 < r.num_computed_tokens
        ]
        running = [request for request in ready if request.status.value == "running"]
        if running and chance.random() < 0.2:
            sim.fork(chance.choice(running), f"{_name(index)}'")
    sim.run(2000)
    sim.check_empty()
    return sim


def _name(index: int) -> str:
    """A, B, …, Z, A1, B1, …"""
    return chr(ord("A") + index % 26) + (str(index // 26) if index >= 26 else "")
