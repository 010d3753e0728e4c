"""The scheduler suite: right schedulers pass, each typical mistake fails the right lines with the right hint."""

from __future__ import annotations

import pytest

from minillm.engine.config import EngineConfig
from minillm.engine.request import Request, RequestStatus
from minillm.engine.scheduler import FairScheduler, ScheduledRequest, SchedulerOutput
from minillm.errors import RequestTooLargeError
from minillm.kv import KVCacheManager
from minillm.testing import check_scheduler

METHODS = "is built with (config, kv) and has the scheduler's methods"
LONE = "a lone request computes its prompt, and then a token per step"
FREES = "a finished request gives all of its blocks back"
BUDGET = "a step never has more than max_num_batched_tokens tokens"
CHUNKS = "a prompt longer than the budget is computed in chunks"
SEQS = "a step never has more than max_num_seqs requests"
SHARE = "requests share a step"
BESIDE = "who is being answered goes on beside a long prompt"
ORDER = "first come, first served"
SHORT = "a long request isn't overtaken for ever by short ones"
TENANTS = "a request isn't overtaken for ever by those of new tenants"
YOUNGEST = "when the pool is full, the youngest gives way"
BACK = "a preempted request comes back and ends"
OUTGROWS = "a request that outgrows the whole pool is reported"
REFUSES = "a prompt that can never fit is refused at once, and others go on"
HITS = "a prompt that was computed before comes from the prefix cache"
FORKS = "a fork goes on from its parent's tokens"
MANY_FORKS = "forks don't take a step beyond max_num_seqs either"
ABORTS = "an aborted request is gone at once, wherever it was"
DOUBLE = "finishing a request twice does nothing the second time"
MIXES = "random mixes all finish, and nothing is left behind"


class Plain:
    """A right scheduler the way a student might write it: one queue, first come first served.

    The mutants below each change one method.
    """

    def __init__(self, config: EngineConfig, kv: KVCacheManager) -> None:
        self.config, self.kv = config, kv
        self.waiting: list[Request] = []
        self.running: list[Request] = []

    @property
    def num_waiting(self) -> int:
        return len(self.waiting)

    @property
    def num_running(self) -> int:
        return len(self.running)

    @property
    def has_unfinished(self) -> bool:
        return bool(self.waiting or self.running)

    def add(self, request: Request) -> None:
        if self.blocks(request.num_tokens + 1) > self.kv.num_usable_blocks:
            raise RequestTooLargeError("too large")
        self.waiting.append(request)

    def blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.kv.block_size)

    def schedule(self) -> SchedulerOutput:
        output = SchedulerOutput()
        for request in sorted(self.running, key=lambda request: request.arrival):
            self.go_on(request, output)
        if not output.preempted:
            self.admit(output)
        output.block_copies = self.kv.take_block_copies()
        return output

    def budget(self, output: SchedulerOutput) -> int:
        assert self.config.max_num_batched_tokens is not None
        return self.config.max_num_batched_tokens - output.num_tokens

    def may_schedule(self, output: SchedulerOutput) -> bool:
        assert self.config.max_num_seqs is not None
        return len(output.scheduled) < self.config.max_num_seqs

    def may_admit(self, output: SchedulerOutput) -> bool:
        assert self.config.max_num_seqs is not None
        return len(self.running) < self.config.max_num_seqs and self.budget(output) > 0

    def go_on(self, request: Request, output: SchedulerOutput) -> None:
        num_new = min(request.num_tokens - request.num_computed_tokens, self.budget(output))
        if request not in self.running or num_new <= 0 or not self.may_schedule(output):
            return
        if self.blocks(request.num_tokens) > self.kv.num_usable_blocks:
            output.outgrown.append(request)
            return
        while not self.kv.allocate_slots(request, num_new):
            victim = self.victim(output)
            self.preempt(victim, output)
            if victim is request:
                return
        self.put(request, num_new, output)

    def victim(self, output: SchedulerOutput) -> Request:
        return max(self.running, key=lambda request: request.arrival)

    def preempt(self, victim: Request, output: SchedulerOutput) -> None:
        self.running.remove(victim)
        self.kv.free(victim.request_id)
        victim.status, victim.num_computed_tokens = RequestStatus.WAITING, 0
        self.waiting.insert(0, victim)
        output.preempted.append(victim)

    def choose(self) -> Request:
        return self.waiting[0]

    def admit(self, output: SchedulerOutput) -> None:
        while self.waiting and self.may_admit(output):
            request = self.choose()
            if not self.start(request, output):
                return

    def start(self, request: Request, output: SchedulerOutput) -> bool:
        blocks, num_cached = self.kv.get_computed_blocks(request)
        num_new = min(request.num_tokens - num_cached, self.budget(output))
        if not self.kv.allocate_slots(request, num_new, blocks):
            return False
        request.num_computed_tokens, request.status = num_cached, RequestStatus.RUNNING
        if request.num_cached_tokens is None:
            request.num_cached_tokens = num_cached
        self.waiting.remove(request)
        self.running.append(request)
        self.put(request, num_new, output)
        return True

    def put(self, request: Request, num_new: int, output: SchedulerOutput) -> None:
        output.scheduled.append(ScheduledRequest(request, num_new, self.kv.block_table(request.request_id)))

    def update(self, output: SchedulerOutput) -> None:
        for item in output.scheduled:
            item.request.num_computed_tokens += item.num_new_tokens
            self.kv.cache_blocks(item.request)

    def fork(self, parent: Request, child: Request) -> None:
        self.kv.fork(parent.request_id, child.request_id)
        child.status, child.num_computed_tokens = RequestStatus.RUNNING, parent.num_computed_tokens
        self.running.append(child)

    def finish(self, request: Request) -> None:
        if request in self.running:
            self.running.remove(request)
            self.kv.free(request.request_id)
        elif request in self.waiting:
            self.waiting.remove(request)


@pytest.mark.parametrize("scheduler", [FairScheduler, Plain])
def test_right_schedulers_pass(scheduler: type) -> None:
    assert check_scheduler(scheduler).raise_if_failed().passed


# -- mistakes ---------------------------------------------------------------------------------------------------


class IgnoresTheBudget(Plain):
    def budget(self, output: SchedulerOutput) -> int:
        return 10_000


class ForgetsRunningOnesInTheBudget(Plain):
    def admit(self, output: SchedulerOutput) -> None:
        new = SchedulerOutput(preempted=output.preempted)
        super().admit(new)
        output.scheduled += new.scheduled


class WaitsForAWholePromptsBudget(Plain):
    def start(self, request: Request, output: SchedulerOutput) -> bool:
        return self.budget(output) >= request.num_tokens and super().start(request, output)


class IgnoresMaxNumSeqs(Plain):
    def may_admit(self, output: SchedulerOutput) -> bool:
        return self.budget(output) > 0


class ForgetsForksInMaxNumSeqs(Plain):
    def may_schedule(self, output: SchedulerOutput) -> bool:
        return True


class OneBatchAfterTheOther(Plain):
    def admit(self, output: SchedulerOutput) -> None:
        if not output.scheduled:
            super().admit(output)


class PromptsFirst(Plain):
    def schedule(self) -> SchedulerOutput:
        output = SchedulerOutput()
        self.admit(output)
        by_missing = lambda request: request.num_computed_tokens - request.num_tokens  # noqa: E731
        for request in sorted(self.running, key=by_missing):
            if all(item.request is not request for item in output.scheduled):
                self.go_on(request, output)
        output.block_copies = self.kv.take_block_copies()
        return output

    def preempt(self, victim: Request, output: SchedulerOutput) -> None:
        output.scheduled = [item for item in output.scheduled if item.request is not victim]
        super().preempt(victim, output)


class LastInFirstOut(Plain):
    def choose(self) -> Request:
        return self.waiting[-1]


class ShortestFirst(Plain):
    def choose(self) -> Request:
        return min(self.waiting, key=lambda request: request.num_tokens)


class SkipsWhatDoesNotFit(Plain):
    def admit(self, output: SchedulerOutput) -> None:
        for request in list(self.waiting):
            if self.may_admit(output):
                self.start(request, output)

    def start(self, request: Request, output: SchedulerOutput) -> bool:
        return self.blocks(request.num_tokens) <= self.kv.num_available_blocks and super().start(request, output)


class NewTenantsFirst(FairScheduler):
    """Fair shares without aging."""

    def __init__(self, config: EngineConfig, kv: KVCacheManager) -> None:
        super().__init__(config, kv)
        self._waiting.aging_steps = 10_000


class NeverFrees(Plain):
    def finish(self, request: Request) -> None:
        self.running = [each for each in self.running if each is not request]
        self.waiting = [each for each in self.waiting if each is not request]


class PreemptsTheOldest(Plain):
    def victim(self, output: SchedulerOutput) -> Request:
        return min(self.running, key=lambda request: request.arrival)

    def preempt(self, victim: Request, output: SchedulerOutput) -> None:
        output.scheduled = [item for item in output.scheduled if item.request is not victim]
        super().preempt(victim, output)


class KeepsTheCountOfPreempted(Plain):
    def preempt(self, victim: Request, output: SchedulerOutput) -> None:
        count = victim.num_computed_tokens
        super().preempt(victim, output)
        victim.num_computed_tokens = count

    def start(self, request: Request, output: SchedulerOutput) -> bool:
        count = request.num_computed_tokens
        if count == 0:
            return super().start(request, output)
        if not self.kv.allocate_slots(request, 1):
            return False
        self.waiting.remove(request)
        self.running.append(request)
        request.status = RequestStatus.RUNNING
        self.put(request, 1, output)
        return True


class KeepsTheBlocksOfPreempted(Plain):
    def preempt(self, victim: Request, output: SchedulerOutput) -> None:
        self.running.remove(victim)
        victim.status, victim.num_computed_tokens = RequestStatus.WAITING, 0
        self.waiting.insert(0, victim)
        output.preempted.append(victim)


class LosesTheOutputOfPreempted(Plain):
    def preempt(self, victim: Request, output: SchedulerOutput) -> None:
        super().preempt(victim, output)
        victim.token_ids = list(victim.prompt_token_ids)


class PreemptsAndStartsInOneStep(Plain):
    def schedule(self) -> SchedulerOutput:
        output = SchedulerOutput()
        for request in list(self.running):
            self.go_on(request, output)
        self.admit(output)
        output.block_copies = self.kv.take_block_copies()
        return output


class NeverOutgrows(Plain):
    def blocks(self, num_tokens: int) -> int:
        return 0 if self.running else super().blocks(num_tokens)


class OutgrowsTwice(Plain):
    def go_on(self, request: Request, output: SchedulerOutput) -> None:
        super().go_on(request, output)
        output.outgrown += [each for each in output.outgrown if each is request]


class NeverRefuses(Plain):
    def add(self, request: Request) -> None:
        self.waiting.append(request)


class ComputesTheSameTwice(Plain):
    def update(self, output: SchedulerOutput) -> None:
        for item in output.scheduled:
            self.kv.cache_blocks(item.request)


class CountsAtOnce(Plain):
    def put(self, request: Request, num_new: int, output: SchedulerOutput) -> None:
        super().put(request, num_new, output)
        request.num_computed_tokens += num_new


class NeverLooksInTheCache(Plain):
    def start(self, request: Request, output: SchedulerOutput) -> bool:
        if not self.kv.allocate_slots(request, num_new := min(request.num_tokens, self.budget(output))):
            return False
        self.waiting.remove(request)
        self.running.append(request)
        request.status, request.num_cached_tokens = RequestStatus.RUNNING, 0
        self.put(request, num_new, output)
        return True


class NeverPublishes(Plain):
    def update(self, output: SchedulerOutput) -> None:
        for item in output.scheduled:
            item.request.num_computed_tokens += item.num_new_tokens


class CountsCachedTokensAndDropsTheirBlocks(Plain):
    def start(self, request: Request, output: SchedulerOutput) -> bool:
        num_cached = self.kv.get_computed_blocks(request)[1]
        request.num_computed_tokens = num_cached
        num_new = min(request.num_tokens - num_cached, self.budget(output))
        if not self.kv.allocate_slots(request, num_new):
            return False
        self.waiting.remove(request)
        self.running.append(request)
        request.status = RequestStatus.RUNNING
        self.put(request, num_new, output)
        return True


class ForgetsCopies(Plain):
    def schedule(self) -> SchedulerOutput:
        output = super().schedule()
        output.block_copies = []
        return output


class StartsForksAnew(Plain):
    def fork(self, parent: Request, child: Request) -> None:
        child.num_computed_tokens, child.status = 0, RequestStatus.WAITING
        self.waiting.append(child)


class FinishesOnlyRunningOnes(Plain):
    def finish(self, request: Request) -> None:
        if request in self.running:
            self.running.remove(request)
            self.kv.free(request.request_id)


class FreesWaitingOnes(Plain):
    def finish(self, request: Request) -> None:
        for requests in (self.running, self.waiting):
            if request in requests:
                requests.remove(request)
                self.kv.free(request.request_id)


class FreesTwice(Plain):
    def finish(self, request: Request) -> None:
        if request in self.waiting:
            self.waiting.remove(request)
            return
        if request in self.running:
            self.running.remove(request)
        self.kv.free(request.request_id)


class NotWrittenYet:
    def __init__(self, config: EngineConfig, kv: KVCacheManager) -> None: ...


SHORT_ONES = "Choosing by length, or going on to the next"
GONE_BLOCKS = "kv.free(request.request_id), request.num_computed_tokens = 0"
COPIES = "output.block_copies = kv.take_block_copies()"

MISTAKES: list[tuple[type, dict[str, str]]] = [
    (
        IgnoresTheBudget,
        {BUDGET: "min(its missing tokens, budget)", CHUNKS: "missing tokens, budget)", BESIDE: "off the budget"},
    ),
    (ForgetsRunningOnesInTheBudget, dict.fromkeys((BUDGET, BESIDE), "Running requests count as well")),
    (WaitsForAWholePromptsBudget, {CHUNKS: "also when it's admitted", BESIDE: "what's left of the budget"}),
    (IgnoresMaxNumSeqs, {SEQS: "admit only while there are fewer than max_num_seqs"}),
    (ForgetsForksInMaxNumSeqs, {MANY_FORKS: "After forks more may be running", MIXES: "After forks"}),
    (OneBatchAfterTheOther, {SHARE: "continuous batching", BESIDE: "what's left of the budget"}),
    (PromptsFirst, {BESIDE: "Schedule the running requests first"}),
    (LastInFirstOut, {ORDER: "list.pop() takes the last", SHORT: "stays first", TENANTS: "goes before all others"}),
    (ShortestFirst, {SHORT: SHORT_ONES, TENANTS: "goes before all others"}),
    (SkipsWhatDoesNotFit, {SHORT: SHORT_ONES}),
    (NewTenantsFirst, {TENANTS: "Fair shares alone aren't enough"}),
    (NeverFrees, {FREES: "has to call kv.free(request.request_id)"}),
    (PreemptsTheOldest, {YOUNGEST: "Preempt the running request with the highest arrival"}),
    (KeepsTheCountOfPreempted, dict.fromkeys((YOUNGEST, BACK, MIXES), GONE_BLOCKS)),
    (KeepsTheBlocksOfPreempted, dict.fromkeys((YOUNGEST, BACK, ABORTS, MIXES), "has to call kv.free")),
    (LosesTheOutputOfPreempted, dict.fromkeys((YOUNGEST, BACK, ABORTS, MIXES), "Leave request.token_ids alone")),
    (PreemptsAndStartsInOneStep, {MIXES: "two places in one step"}),
    (NeverOutgrows, {OUTGROWS: "put the request in output.outgrown", MIXES: "nothing is scheduled"}),
    (OutgrowsTwice, {OUTGROWS: "put the request in output.outgrown", MIXES: "two places in one step"}),
    (NeverRefuses, {REFUSES: "raise RequestTooLargeError"}),
    (ComputesTheSameTwice, dict.fromkeys((LONE, FREES), "to add each item's num_new_tokens")),
    (CountsAtOnce, dict.fromkeys((LONE, FREES), "that's for update() to do")),
    (NeverLooksInTheCache, {HITS: "kv.get_computed_blocks(request)"}),
    (NeverPublishes, {HITS: "kv.cache_blocks(request)"}),
    (CountsCachedTokensAndDropsTheirBlocks, dict.fromkeys((HITS, MIXES), "Cached blocks have to be handed to")),
    (ForgetsCopies, dict.fromkeys((FORKS, MANY_FORKS, MIXES), COPIES)),
    (StartsForksAnew, {FORKS: "child joins the running requests"}),
    (FinishesOnlyRunningOnes, dict.fromkeys((ABORTS, MIXES), "remove it from the waiting and from the running")),
    (FreesWaitingOnes, {ABORTS: "Only a running request holds blocks", MIXES: "aborts"}),
    (FreesTwice, {DOUBLE: "neither waiting nor running"}),
    (NotWrittenYet, {METHODS: "def __init__(self, config, kv)"}),
]


@pytest.mark.parametrize(("scheduler", "hints"), MISTAKES, ids=lambda value: getattr(value, "__name__", ""))
def test_each_mistake_fails_its_behaviors_and_is_named(scheduler: type, hints: dict[str, str]) -> None:
    report = check_scheduler(scheduler)
    assert {behavior.name for behavior in report.failed} == set(hints)
    for behavior in report.failed:
        assert hints[behavior.name] in f"{behavior.hint} {behavior.strong_hint}"
        assert behavior.detail


def test_the_detail_is_the_smallest_example() -> None:
    behavior = check_scheduler(PreemptsTheOldest).failed[0]
    assert behavior.detail == (
        "A, B and C have prompts of 8 and grow to 17 tokens in a pool for 32; preempted was A; expected C first, and "
        "never A"
    )


def test_a_missing_foundation_ends_the_report_and_says_so() -> None:
    report = check_scheduler(NeverFrees)
    assert len(report.behaviors) == 3
    assert "more follows once this holds" in report.summary()


def test_what_passes_serves_requests() -> None:
    from minillm import LLM, SamplingParams

    prompts, params = ["The cat", "The dog", "A"], SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    own = LLM("tiny-random", device="cpu").generate(prompts, params)
    plugged_in = LLM("tiny-random", device="cpu", scheduler=Plain, num_blocks=5).generate(prompts, params)
    assert [output.token_ids for output in plugged_in] == [output.token_ids for output in own]
