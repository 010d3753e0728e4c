"""Lesson 05's exercises: the stub fails, the solution passes, and typical wrong answers are told what's wrong."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from notebooks import run_cells

from minillm import SamplingParams
from minillm.engine.request import OutputChunk, RequestStatus
from minillm.engine.scheduler import FairScheduler, ScheduledRequest, SchedulerOutput
from minillm.errors import RequestTooLargeError
from minillm.lab import Checker
from minillm.testing import Report

STEM = "05-batching-and-evaluation"
EXERCISES = {"warm-up": ("percentile", "goodput"), "core": ("MyScheduler",), "stretch": ("MyPolicy",)}

# From the notebook's first cell, which the cells below need.
IMPORTED = {
    "math": math,
    "deque": deque,
    "SamplingParams": SamplingParams,
    "OutputChunk": OutputChunk,
    "RequestStatus": RequestStatus,
    "ScheduledRequest": ScheduledRequest,
    "SchedulerOutput": SchedulerOutput,
    "RequestTooLargeError": RequestTooLargeError,
}


def answer(folder: str, exercise: str) -> tuple[Any, ...]:
    cells = run_cells(folder, STEM, "warm-up", "core-given", "core", "stretch")
    cells.update(IMPORTED)
    return tuple(cells[name] for name in EXERCISES[exercise])


def failures(report: Report) -> dict[str, str]:
    """The failed behaviors, each with all that the student is told in the end."""
    return {b.name: f"{b.detail} {b.hint} {b.strong_hint}" for b in report.failed}


def told(report: Report, behavior: str) -> str:
    """What the student is told about the behavior whose name begins like this."""
    [text] = [text for name, text in failures(report).items() if name.startswith(behavior)]
    return text


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_stub_fails(exercise: str) -> None:
    report = Checker("05")(exercise, *answer("exercises", exercise))
    assert len(report.failed) == len(report.behaviors)
    assert all("NotImplementedError" in behavior.detail for behavior in report.behaviors)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_solution_passes(exercise: str) -> None:
    Checker("05")(exercise, *answer("solutions", exercise)).raise_if_failed()


# -- warm-up ----------------------------------------------------------------------------------------------------

percentile, goodput = answer("solutions", "warm-up")


def interpolated(values: list[float], percent: int) -> float:
    position = (len(values) - 1) * percent / 100
    low = math.floor(position)
    ordered = sorted(values)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def sorts_in_place(values: list[float], percent: int) -> float:
    values.sort()
    return percentile(values, percent)


EXACT = "percentile: counts exactly"
TAKES, SORTS, ENDS = "percentile: takes one", "percentile: takes values", "percentile: knows"

WRONG_PERCENTILES: dict[str, tuple[Callable[[list[float], int], float], str, str]] = {
    "interpolated": (interpolated, TAKES, "lies between two"),
    "median of two": (
        lambda values, percent: statistics.median(values) if percent == 50 else percentile(values, percent),
        TAKES,
        "No mean of two values",
    ),
    "counted from 0": (
        lambda values, percent: sorted(values)[min(math.ceil(percent * len(values) / 100), len(values) - 1)],
        TAKES,
        "a list counts from 0",
    ),
    "one past the end": (
        lambda values, percent: sorted(values)[math.ceil(percent * len(values) / 100)],
        ENDS,
        "the index is one less",
    ),
    "rounded down": (
        lambda values, percent: sorted(values)[max(0, percent * len(values) // 100 - 1)],
        TAKES,
        "rounded up",
    ),
    "not sorted": (
        lambda values, percent: values[math.ceil(percent * len(values) / 100) - 1],
        SORTS,
        "Sort them first",
    ),
    "largest first": (
        lambda values, percent: sorted(values, reverse=True)[math.ceil(percent * len(values) / 100) - 1],
        SORTS,
        "from small to large",
    ),
    "divided first": (
        lambda values, percent: sorted(values)[min(math.ceil(percent / 100 * len(values)), len(values)) - 1],
        EXACT,
        "Multiply first",
    ),
    "sorted in place": (sorts_in_place, "percentile: leaves", "values.sort() sorts the caller's list"),
}


@pytest.mark.parametrize("mistake", WRONG_PERCENTILES)
def test_a_wrong_percentile_is_explained(mistake: str) -> None:
    function, behavior, words = WRONG_PERCENTILES[mistake]
    assert words in told(Checker("05")("warm-up", function, goodput), behavior)


def wrong_goodput(
    requests: list[tuple[float, list[float]]],
    ttft_limit: float,
    tpot_limit: float,
    *,
    from_arrival: bool = True,
    both: str = "both",
    gaps: Callable[[list[float]], float] = lambda times: (times[-1] - times[0]) / (len(times) - 1),
    single: bool = True,
    empty: str = "missed",
    strict: bool = False,
    per: str = "second",
    begin: str = "arrival",
    end: str = "all",
    count: str = "requests",
) -> float:
    """Goodput; each option leaves a step out or does it wrong."""
    good = []
    for arrival, times in requests:
        if not times and empty == "missed":
            continue
        if not times and empty == "good":
            good.append((arrival, times))
            continue
        first = times[0] - (arrival if from_arrival else 0)
        per_token = 0.0 if single and len(times) == 1 else gaps(times)
        is_first = first < ttft_limit if strict else first <= ttft_limit
        is_quick = per_token < tpot_limit if strict else per_token <= tpot_limit
        if {"both": is_first and is_quick, "one": is_first or is_quick, "first": is_first, "gaps": is_quick}[both]:
            good.append((arrival, times))
    begins = min(arrival for arrival, _ in requests) if begin == "arrival" else 0.0
    if begin == "first token":
        begins = min(times[0] for _, times in requests if times)
    ends = max(times[-1] for _, times in (requests if end == "all" else good or requests) if times)
    number = sum(len(times) for _, times in good) if count == "tokens" else len(good)
    return number / {"second": ends - begins, "request": len(requests), "nothing": 1}[per]


def judges_the_average(requests: list[tuple[float, list[float]]], ttft_limit: float, tpot_limit: float) -> float:
    served = [(arrival, times) for arrival, times in requests if times]
    first = statistics.fmean(times[0] - arrival for arrival, times in served)
    slow = [(times[-1] - times[0]) / (len(times) - 1) for _, times in served if len(times) > 1]
    is_good = first <= ttft_limit and statistics.fmean(slow or [0.0]) <= tpot_limit
    begin, end = min(arrival for arrival, _ in requests), max(times[-1] for _, times in served)
    return len(served) * is_good / (end - begin)


RATE, ARRIVAL, BOTH, GAPS, LIMIT, SINGLE, EMPTY = (
    f"goodput: {words}"
    for words in (
        "counts requests per second",
        "measures the first token",
        "wants both",
        "takes the mean gap",
        "allows what's exactly",
        "takes a request with a single",
        "counts a request without",
    )
)

WRONG_GOODPUTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a share": ({"per": "request"}, RATE, "a share of the requests, not a rate"),
    "a count": ({"per": "nothing"}, RATE, "that's a count"),
    "the good ones' time": ({"end": "good"}, RATE, "the time that the good ones took"),
    "the clock's time": ({"begin": "zero"}, RATE, "the clock doesn't begin at the first arrival"),
    "from the first token": ({"begin": "first token"}, RATE, "begin the smallest arrival"),
    "tokens": ({"count": "tokens"}, RATE, "those are tokens per second"),
    "a time for a wait": ({"from_arrival": False}, ARRIVAL, "10.5 is a time on the clock"),
    "either": ({"both": "one"}, BOTH, "all three were counted"),
    "first token only": ({"both": "first"}, BOTH, "met one objective and missed the other"),
    "gaps only": ({"both": "gaps"}, BOTH, "met one objective and missed the other"),
    "per token": ({"gaps": lambda times: (times[-1] - times[0]) / len(times)}, GAPS, "4 tokens, but only 3 gaps"),
    "largest gap": (
        {"gaps": lambda times: max((b - a for a, b in pairwise(times)), default=0)},
        GAPS,
        "not the largest gap",
    ),
    "strictly less": ({"strict": True}, LIMIT, "still within the limit"),
    "division by zero": ({"single": False}, SINGLE, "ZeroDivisionError"),
    "no first token": ({"empty": "crash"}, EMPTY, "IndexError"),
    "empty is good": ({"empty": "good"}, EMPTY, "got no token wasn't served well"),
}


@pytest.mark.parametrize("mistake", WRONG_GOODPUTS)
def test_a_wrong_goodput_is_explained(mistake: str) -> None:
    options, behavior, words = WRONG_GOODPUTS[mistake]
    report = Checker("05")("warm-up", percentile, lambda *args: wrong_goodput(*args, **options))
    assert words in told(report, behavior)


def test_an_average_over_all_requests_is_explained() -> None:
    report = Checker("05")("warm-up", percentile, judges_the_average)
    assert "on average they miss an objective" in told(report, "goodput: judges each")


def test_the_right_goodput_of_this_file_passes() -> None:
    """Otherwise the tests above would prove nothing."""
    Checker("05")("warm-up", percentile, wrong_goodput).raise_if_failed()


# -- core -------------------------------------------------------------------------------------------------------

(Right,) = answer("solutions", "core")


class BudgetExceededByOne(Right):
    def share(self, request: Any, num_missing: int, output: Any) -> int:
        left = self.config.max_num_batched_tokens + 1 - output.num_tokens
        return 0 if len(output.scheduled) >= self.config.max_num_seqs else min(num_missing, left)


class EachItsOwnBudget(Right):
    def share(self, request: Any, num_missing: int, output: Any) -> int:
        full = len(output.scheduled) >= self.config.max_num_seqs
        return 0 if full else min(num_missing, self.config.max_num_batched_tokens)


class WholePromptsOnly(Right):
    def share(self, request: Any, num_missing: int, output: Any) -> int:
        num_new = super().share(request, num_missing, output)
        return num_new if num_new == num_missing else 0


class OneRequestTooMany(Right):
    def __init__(self, config: Any, kv: Any) -> None:
        super().__init__(replace(config, max_num_seqs=config.max_num_seqs + 1), kv)


class LeavesTheLastToken(Right):
    def share(self, request: Any, num_missing: int, output: Any) -> int:
        return super().share(request, max(num_missing - 1, 0), output)


class LastChunkNotCounted(Right):
    def update(self, output: Any) -> None:
        for item in output.scheduled:
            if item.request.num_computed_tokens + item.num_new_tokens < item.request.num_tokens:
                item.request.num_computed_tokens += item.num_new_tokens
                self.kv.cache_blocks(item.request)


class CountsAtOnce(Right):
    def schedule(self) -> Any:
        output = super().schedule()
        for item in output.scheduled:
            item.request.num_computed_tokens += item.num_new_tokens
        return output

    def update(self, output: Any) -> None:
        for item in output.scheduled:
            self.kv.cache_blocks(item.request)


class OneBatchAfterTheOther(Right):
    def schedule(self) -> Any:
        later = deque[Any]()
        if self.running:
            self.waiting, later = later, self.waiting
        output = super().schedule()
        self.waiting.extend(later)
        return output


class OneNewPerStep(Right):
    def admit(self, request: Any, output: Any) -> bool:
        super().admit(request, output)
        return False


class PromptsFirst(Right):
    def schedule(self) -> Any:
        output = SchedulerOutput()
        while self.waiting and self.admit(self.waiting[0], output):
            pass
        started = [item.request for item in output.scheduled]
        prompts_first = lambda each: (each.num_computed_tokens >= each.num_prompt_tokens, each.arrival)  # noqa: E731
        for request in sorted(self.running, key=prompts_first):
            if request in self.running and request not in started:
                self.go_on(request, output)
        output.block_copies = self.kv.take_block_copies()
        return output


class LastInFirstOut(Right):
    def schedule(self) -> Any:
        self.waiting.reverse()
        try:
            return super().schedule()
        finally:
            self.waiting.reverse()


class ShortestFirst(Right):
    def schedule(self) -> Any:
        for request in sorted(self.waiting, key=lambda each: each.num_tokens):
            self.waiting.remove(request)
            self.waiting.append(request)
        return super().schedule()


class SkipsWhatDoesNotFit(Right):
    def schedule(self) -> Any:
        output = SchedulerOutput()
        for request in sorted(self.running, key=lambda each: each.arrival):
            if request in self.running:
                self.go_on(request, output)
        if not output.preempted:
            for request in list(self.waiting):
                self.admit(request, output)
        output.block_copies = self.kv.take_block_copies()
        return output


class KeepsFinishedBlocks(Right):
    def finish(self, request: Any) -> None:
        for requests in (self.running, self.waiting):
            if request in requests:
                requests.remove(request)


class DropsRunningOnesOnly(Right):
    def finish(self, request: Any) -> None:
        if request in self.running:
            super().finish(request)


class FreesWaitingOnes(Right):
    def finish(self, request: Any) -> None:
        for requests in (self.running, self.waiting):
            if request in requests:
                requests.remove(request)
                self.kv.free(request.request_id)


class FinishesTwice(Right):
    def finish(self, request: Any) -> None:
        if request in self.waiting:
            self.waiting.remove(request)
        else:
            if request in self.running:
                self.running.remove(request)
            self.kv.free(request.request_id)


class RefusesNothing(Right):
    def add(self, request: Any) -> None:
        self.waiting.append(request)


class RefusesByThePromptAlone(Right):
    def add(self, request: Any) -> None:
        if self.num_blocks(request.num_tokens) > self.kv.num_usable_blocks:
            raise RequestTooLargeError("This prompt is too long.")
        self.waiting.append(request)


class RefusesWhatJustFits(Right):
    def add(self, request: Any) -> None:
        if self.num_blocks(request.num_tokens + 1) >= self.kv.num_usable_blocks:
            raise RequestTooLargeError("This prompt is too long.")
        self.waiting.append(request)


class RefusesButQueues(Right):
    def add(self, request: Any) -> None:
        self.waiting.append(request)
        if self.num_blocks(request.num_tokens + 1) > self.kv.num_usable_blocks:
            raise RequestTooLargeError("This prompt is too long.")


class PreemptsTheOldest(Right):
    def go_on(self, request: Any, output: Any) -> None:
        num_new = self.share(request, request.num_tokens - request.num_computed_tokens, output)
        while num_new and not self.kv.allocate_slots(request, num_new):
            oldest = min(self.running, key=lambda each: each.arrival)
            output.scheduled = [item for item in output.scheduled if item.request is not oldest]
            self.preempt(oldest, output)
            if oldest is request:
                return
        if num_new:
            output.scheduled.append(ScheduledRequest(request, num_new, self.kv.block_table(request.request_id)))


class IgnoresTheAnswer(Right):
    def go_on(self, request: Any, output: Any) -> None:
        num_new = self.share(request, request.num_tokens - request.num_computed_tokens, output)
        if num_new:
            self.kv.allocate_slots(request, num_new)
            output.scheduled.append(ScheduledRequest(request, num_new, self.kv.block_table(request.request_id)))


class PreemptedKeepsItsBlocks(Right):
    def preempt(self, request: Any, output: Any) -> None:
        self.running.remove(request)
        request.status, request.num_computed_tokens = RequestStatus.WAITING, 0
        request.num_preemptions += 1
        self.waiting.appendleft(request)
        output.preempted.append(request)


class PreemptedLosesItsOutput(Right):
    def preempt(self, request: Any, output: Any) -> None:
        super().preempt(request, output)
        request.token_ids = list(request.prompt_token_ids)


class PreemptedKeepsItsCount(Right):
    def preempt(self, request: Any, output: Any) -> None:
        count = request.num_computed_tokens
        super().preempt(request, output)
        request.num_computed_tokens = count

    def admit(self, request: Any, output: Any) -> bool:
        count = request.num_computed_tokens
        admitted = super().admit(request, output)
        if admitted and count:
            request.num_computed_tokens = count
            item = output.scheduled.pop()
            num_new = min(item.num_new_tokens, request.num_tokens - count)
            output.scheduled.append(ScheduledRequest(request, num_new, item.block_table))
        return admitted


class PreemptedIsForgotten(Right):
    def preempt(self, request: Any, output: Any) -> None:
        super().preempt(request, output)
        self.waiting.remove(request)


class PreemptedGoesToTheEnd(Right):
    def preempt(self, request: Any, output: Any) -> None:
        super().preempt(request, output)
        self.waiting.remove(request)
        self.waiting.append(request)


class PreemptsInSecret(Right):
    def preempt(self, request: Any, output: Any) -> None:
        super().preempt(request, output)
        output.preempted.remove(request)


class NeverOutgrows(Right):
    def go_on(self, request: Any, output: Any) -> None:
        super().go_on(request, output)
        output.outgrown.clear()


class ForgetsTheCache(Right):
    def update(self, output: Any) -> None:
        for item in output.scheduled:
            item.request.num_computed_tokens += item.num_new_tokens


class ForgetsCopies(Right):
    def schedule(self) -> Any:
        output = super().schedule()
        output.block_copies = []
        return output


class RoomForTheFirstChunkOnly(Right):
    def admit(self, request: Any, output: Any) -> bool:
        blocks, num_cached = self.kv.get_computed_blocks(request)
        num_new = self.share(request, request.num_tokens - num_cached, output)
        if not num_new or len(self.running) >= self.config.max_num_seqs:
            return False
        if not self.kv.allocate_slots(request, num_new, blocks):
            return False
        self.waiting.remove(request)
        self.running.append(request)
        request.status, request.num_computed_tokens = RequestStatus.RUNNING, num_cached
        if request.num_cached_tokens is None:
            request.num_cached_tokens = num_cached
        output.scheduled.append(ScheduledRequest(request, num_new, self.kv.block_table(request.request_id)))
        return True


class PreemptsAndAdmits(RoomForTheFirstChunkOnly):
    def schedule(self) -> Any:
        output = SchedulerOutput()
        for request in sorted(self.running, key=lambda each: each.arrival):
            if request in self.running:
                self.go_on(request, output)
        while self.waiting and self.admit(self.waiting[0], output):
            pass
        output.block_copies = self.kv.take_block_copies()
        return output


class ForgetsTheStatus(Right):
    def admit(self, request: Any, output: Any) -> bool:
        admitted = super().admit(request, output)
        request.status = RequestStatus.WAITING
        return admitted


class StaysRunningWhenPreempted(Right):
    def preempt(self, request: Any, output: Any) -> None:
        super().preempt(request, output)
        request.status = RequestStatus.RUNNING


class CountsNoPreemptions(Right):
    def preempt(self, request: Any, output: Any) -> None:
        super().preempt(request, output)
        request.num_preemptions -= 1


class CountsEndedOnes(Right):
    def update(self, output: Any) -> None:
        for item in output.scheduled:
            item.request.num_computed_tokens += item.num_new_tokens
            self.kv.cache_blocks(item.request)


BUDGET = "a step never has more than max_num_batched_tokens"
SEQS = "a step never has more than max_num_seqs"
LONE = "a lone request computes"
SHARE = "requests share a step"
BESIDE = "who is being answered goes on beside"
SHORT = "a long request isn't overtaken"
YOUNGEST = "when the pool is full, the youngest"
BACK = "a preempted request comes back and ends"
ABORTS = "an aborted request is gone at once"
JUST_FITS = "takes a prompt that just fits"
STATUS = "says what each request is doing"

# Wrong answer, the behavior that catches it, words that name the cause.
WRONG_SCHEDULERS: list[tuple[type, str, str]] = [
    (BudgetExceededByOne, BUDGET, "take what you gave off the budget"),
    (EachItsOwnBudget, BUDGET, "Running requests count as well"),
    (WholePromptsOnly, "a prompt longer than the budget", "min(missing tokens, budget)"),
    (OneRequestTooMany, SEQS, "admit only while there are fewer than max_num_seqs"),
    (LeavesTheLastToken, LONE, "num_tokens - request.num_computed_tokens"),
    (LastChunkNotCounted, LONE, "add each item's num_new_tokens"),
    (CountsAtOnce, LONE, "that's for update() to do"),
    (OneBatchAfterTheOther, SHARE, "not only when nothing is running"),
    (OneNewPerStep, SHARE, "in a loop until the budget is used up"),
    (PromptsFirst, BESIDE, "Schedule the running requests first"),
    (LastInFirstOut, "first come, first served", "the order C, B, A"),
    (ShortestFirst, SHORT, "Choosing by length"),
    (SkipsWhatDoesNotFit, SHORT, "going on to the next when one doesn't fit"),
    (KeepsFinishedBlocks, "a finished request gives all", "has to call kv.free"),
    (DropsRunningOnesOnly, ABORTS, "remove it from the waiting and from the running"),
    (FreesWaitingOnes, ABORTS, "Only a running request holds blocks"),
    (FinishesTwice, "finishing a request twice", "neither waiting nor running"),
    (RefusesNothing, "a prompt that can never fit", "Such a request would wait for ever, and everybody behind it"),
    (RefusesButQueues, "a prompt that can never fit", "don't queue it"),
    (RefusesByThePromptAlone, JUST_FITS, "without room for its first output"),
    (RefusesWhatJustFits, "random mixes", "RequestTooLargeError"),
    (PreemptsTheOldest, YOUNGEST, "the highest arrival"),
    (IgnoresTheAnswer, YOUNGEST, "look at what it returns"),
    (PreemptedKeepsItsBlocks, YOUNGEST, "still holds 2 blocks"),
    (PreemptedLosesItsOutput, YOUNGEST, "Leave request.token_ids alone"),
    (PreemptedKeepsItsCount, YOUNGEST, "request.num_computed_tokens = 0"),
    (PreemptedIsForgotten, BACK, "put the request back into the queue"),
    (PreemptedGoesToTheEnd, "a preempted request comes back before", "waiting.appendleft(request)"),
    (PreemptsInSecret, YOUNGEST, "preempted was nobody"),
    (PreemptsAndAdmits, "random mixes", "two places in one step"),
    (NeverOutgrows, "a request that outgrows", "put the request in output.outgrown"),
    (ForgetsTheCache, "a prompt that was computed before", "kv.cache_blocks(request)"),
    (ForgetsCopies, "a fork goes on", "kv.take_block_copies()"),
    (RoomForTheFirstChunkOnly, "starts a prompt only if all of it", "all of its missing tokens"),
    (ForgetsTheStatus, STATUS, "RUNNING in admit"),
    (StaysRunningWhenPreempted, STATUS, "WAITING in preempt"),
    (CountsNoPreemptions, STATUS, "request.num_preemptions += 1"),
    (CountsEndedOnes, "leaves a request alone that ended", "only what's still among the running ones"),
]


@pytest.mark.parametrize(
    ("scheduler", "behavior", "words"), WRONG_SCHEDULERS, ids=lambda each: getattr(each, "__name__", "")
)
def test_a_wrong_scheduler_is_explained(scheduler: type, behavior: str, words: str) -> None:
    assert words in told(Checker("05")("core", scheduler), behavior)


@pytest.mark.parametrize(
    ("method", "held", "behavior"),
    [("update", 1, LONE), ("finish", 1, LONE), ("go_on", 1, LONE), ("preempt", 11, YOUNGEST)],
)
def test_whoever_stops_half_way_is_told_what_is_missing(method: str, held: int, behavior: str) -> None:
    """A method that isn't written is named where it's needed; what holds already is shown; more is announced."""
    (stub,) = answer("exercises", "core")
    half_way = type("HalfWay", (Right,), {method: getattr(stub, method)})
    report = Checker("05")("core", half_way)
    assert sum(each.passed for each in report.behaviors) >= held
    assert f"in {method}" in told(report, behavior) and "not written yet" in told(report, behavior)
    assert "then come" in report.title or "more lines follow" in report.title


# -- stretch ----------------------------------------------------------------------------------------------------

(Policy,) = answer("solutions", "stretch")


class FirstComeFirstServed(Right):
    pass


class LongestFirst(Right):
    def schedule(self) -> Any:
        for request in sorted(self.waiting, key=lambda each: -each.num_tokens):
            self.waiting.remove(request)
            self.waiting.append(request)
        return super().schedule()


class TinyChunks(Policy):
    def __init__(self, config: Any, kv: Any) -> None:
        super().__init__(config, kv)
        self.largest_chunk = max(1, config.max_num_batched_tokens // 32)


class LargeChunks(Policy):
    def __init__(self, config: Any, kv: Any) -> None:
        super().__init__(config, kv)
        self.largest_chunk = config.max_num_batched_tokens


def _is_long(request: Any) -> bool:
    return request.num_tokens - request.num_computed_tokens > 64


class ShortsOnlyWhileThereAreAny(Right):
    """Long ones get something only in steps in which no short one waits or runs."""

    def schedule(self) -> Any:
        output = SchedulerOutput()
        for request in sorted(self.running, key=lambda each: (_is_long(each), each.arrival)):
            busy = bool(output.scheduled) or any(not _is_long(each) for each in self.waiting)
            if request in self.running and not (_is_long(request) and busy):
                self.go_on(request, output)
        if not output.preempted:
            for request in sorted(self.waiting, key=lambda each: (_is_long(each), each.arrival)):
                if _is_long(request) and output.scheduled:
                    break
                if not self.admit(request, output):
                    break
        output.block_copies = self.kv.take_block_copies()
        return output


class DropsLongOnes(Right):
    def add(self, request: Any) -> None:
        if request.num_tokens > 1000:
            raise RequestTooLargeError("Long requests aren't served here.")
        super().add(request)


class BreaksTheBudget(Policy):
    def share(self, request: Any, num_missing: int, output: Any) -> int:
        return num_missing


class ShortestFirstWithAging(Right):
    """Whoever misses least goes first, and whoever has been there for aging_steps steps before all others."""

    waits_for_room = True

    def __init__(self, config: Any, kv: Any) -> None:
        super().__init__(config, kv)
        self.num_steps, self.since = 0, dict[Any, int]()

    def schedule(self) -> Any:
        output, self.num_steps = SchedulerOutput(), self.num_steps + 1
        for request in sorted(
            self.running, key=lambda each: (each.num_tokens - each.num_computed_tokens > 1, each.arrival)
        ):
            if request in self.running and request.num_tokens - request.num_computed_tokens == 1:
                self.go_on(request, output)
        is_blocked = bool(output.preempted)
        done = {item.request for item in output.scheduled} | {*output.outgrown}
        for request in sorted({*self.running, *self.waiting} - done, key=self.rank):
            if request in self.running:
                self.go_on(request, output)
            elif not is_blocked and not self.admit(request, output):
                is_blocked = self.rank(request)[0] == 0
                if is_blocked and not self.waits_for_room:
                    break
        output.block_copies = self.kv.take_block_copies()
        return output

    def rank(self, request: Any) -> tuple[int, int, int]:
        is_old = self.num_steps - self.since.setdefault(request, self.num_steps) > self.config.aging_steps
        num_missing = request.num_tokens - request.num_computed_tokens
        return (0, request.arrival, 0) if is_old else (1, num_missing, request.arrival)


class AgedOneBlocksTheRunning(ShortestFirstWithAging):
    """It waits for room, and those that hold the room don't get on."""

    waits_for_room = False


class CapsEveryChunk(Right):
    def share(self, request: Any, num_missing: int, output: Any) -> int:
        return super().share(request, min(num_missing, max(1, self.config.max_num_batched_tokens // 4)), output)


FLAT, IN_TIME, FLOOD = "keeps p99", "lets the long ones end", "lets a long one through"


@pytest.mark.parametrize(
    ("policy", "behavior", "words"),
    [
        (FirstComeFirstServed, FLAT, "Give no prompt more than a part of the budget"),
        (LongestFirst, FLAT, "let short prompts pass long ones"),
        (LargeChunks, FLAT, "takes all that's left of the budget"),
        (TinyChunks, IN_TIME, "Make the long ones' chunk larger"),
        (ShortsOnlyWhileThereAreAny, IN_TIME, "give them their chunk in each step"),
        (ShortsOnlyWhileThereAreAny, FLOOD, "Aging: the oldest gets a part of each step"),
        (DropsLongOnes, "serves every request", "Every request of the load fits"),
        (AgedOneBlocksTheRunning, "is still a scheduler", "nothing is scheduled"),
        (BreaksTheBudget, "is still a scheduler", "the budget is 8"),
    ],
)
def test_a_wrong_policy_is_explained(policy: type, behavior: str, words: str) -> None:
    assert words in told(Checker("05")("stretch", policy), behavior)


@pytest.mark.parametrize(
    ("exercise", "scheduler"),
    [("core", FairScheduler), ("stretch", ShortestFirstWithAging), ("stretch", CapsEveryChunk)],
)
def test_other_right_answers_pass(exercise: str, scheduler: type) -> None:
    """The checks look at what's scheduled, not at how it's written."""
    Checker("05")(exercise, scheduler).raise_if_failed()


def test_the_engine_s_scheduler_is_first_come_first_served_under_this_load() -> None:
    """The yardstick of the check; otherwise a policy would be compared with something else."""
    from minillm.lab.load import mixed_load, serve_load

    assert serve_load(FairScheduler, mixed_load(seconds=20)) == serve_load(Right, mixed_load(seconds=20))
