"""Checks of lesson 05's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from minillm.engine import LLM
from minillm.engine.request import RequestStatus
from minillm.engine.scheduler import FairScheduler
from minillm.errors import MinillmError, RequestTooLargeError
from minillm.lab.load import LoadRequest, ServedRequest, mixed_load, serve_load
from minillm.sampling import SamplingParams
from minillm.testing import Case, CheckFailed, Report, check_scheduler, run_cases
from minillm.testing.simulation import SchedulerMaker, Simulation

# -- warm-up ----------------------------------------------------------------------------------------------------

Percentile: TypeAlias = Callable[[list[float], int], Any]
Served: TypeAlias = tuple[float, list[float]]
Goodput: TypeAlias = Callable[[list[Served], float, float], Any]


def nearest_rank(values: Sequence[float], percent: int) -> float:
    """The smallest of the values such that at least `percent` % of them are no larger than it."""
    return sorted(values)[math.ceil(percent * len(values) / 100) - 1]


def check_percentiles_and_goodput(percentile: Percentile, goodput: Goodput) -> Report:
    """`percentile(values, percent)` and `goodput(requests, ttft_limit, tpot_limit)`."""
    cases = [*_percentile_cases(percentile), *_goodput_cases(goodput)]
    return run_cases("Warm-up: percentiles and goodput from raw times", cases)


def _percentile_cases(percentile: Percentile) -> list[Case]:
    def ask(values: list[float], percent: int, why: str = "") -> None:
        found, right = percentile(list(values), percent), nearest_rank(values, percent)
        if found != right:
            raise CheckFailed(f"p{percent} of {values} is {right}; it returned {found}{why}")

    def takes_a_value() -> None:
        found = percentile([1.0, 2.0, 4.0, 8.0], 50)
        if found == 3.0:
            raise CheckFailed(
                "p50 of [1, 2, 4, 8] by nearest rank is 2, one of the values; it returned 3.0, which lies between two"
            )
        for percent in (50, 60, 75, 99):
            ask([1.0, 2.0, 4.0, 8.0], percent)

    def sorts() -> None:
        for percent in (20, 50, 80):
            ask([5.0, 1.0, 4.0, 2.0, 3.0], percent)

    def knows_the_ends() -> None:
        ask([3.0, 7.0], 1)
        ask([3.0, 7.0], 100)
        ask([7.0], 50)

    def counts_exactly() -> None:
        values = [float(number) for number in range(1, 101)]
        for percent in range(1, 101):
            found = percentile(list(values), percent)
            if found != percent:
                raise CheckFailed(f"of the values 1 to 100, p{percent} is {percent}; it returned {found}")

    def leaves_its_input() -> None:
        values = [5.0, 1.0, 4.0]
        percentile(values, 50)
        if values != [5.0, 1.0, 4.0]:
            raise CheckFailed(f"the list was [5.0, 1.0, 4.0]; afterwards it's {values}")

    return [
        Case(
            "percentile: takes one of the values, by nearest rank",
            takes_a_value,
            "The rank is ⌈percent · n / 100⌉, counted from 1.",
            "sorted(values)[math.ceil(percent * len(values) / 100) - 1]: rounded up, then one less, for a list counts "
            "from 0. No mean of two values: the median of four is the second.",
        ),
        Case(
            "percentile: takes values in any order",
            sorts,
            "Raw times come in the order in which requests end.",
            "Sort them first, from small to large: sorted(values).",
        ),
        Case(
            "percentile: knows the smallest, the largest and a single value",
            knows_the_ends,
            "p100 is the largest value, and p1 of a few values is the smallest.",
            "With ⌈percent · n / 100⌉ the rank lies between 1 and n; the index is one less, so between 0 and n - 1.",
        ),
        Case(
            "percentile: counts exactly",
            counts_exactly,
            "What does Python say for 7 / 100 * 100?",
            "7 / 100 * 100 is 7.000000000000001, and rounded up that's 8. Multiply first: percent * n / 100.",
        ),
        Case(
            "percentile: leaves its input as it was",
            leaves_its_input,
            "The list belongs to the caller.",
            "values.sort() sorts the caller's list; sorted(values) makes a new one.",
        ),
    ]


def _goodput_cases(goodput: Goodput) -> list[Case]:
    # One good request in a second, unless a case says otherwise. All numbers are exact in binary.
    good: Served = (10.0, [10.5, 10.75, 11.0])

    def ask(requests: list[Served], right: float, told: Mapping[float, str], limits: tuple[float, float]) -> None:
        found = goodput([(arrival, list(times)) for arrival, times in requests], *limits)
        if not isinstance(found, int | float) or abs(found - right) > 1e-9:
            meaning = next((f": {why}" for value, why in told.items() if found == value), "")
            raise CheckFailed(
                f"for {requests} with at most {limits[0]} s to the first token and {limits[1]} s per token it's "
                f"{right:g} requests per second; it returned {found!r}{meaning}"
            )

    def divides() -> None:
        requests = [good, (10.0, [10.25, 10.5, 14.0])]
        told = {
            0.5: "that's a share of the requests, not a rate",
            1.0: "that's a count, or divided by the time that the good ones took; the last token came 4 s after the "
            "first arrival",
            1 / 14: "that's divided by the last token's time; the clock doesn't begin at the first arrival",
            0.75: "those are tokens per second; requests are counted",
        }
        ask(requests, 0.25, told, (1.0, 0.5))

    def counts_from_arrival() -> None:
        told = {0.0: "10.5 is a time on the clock; the wait is 10.5 - 10"}
        ask([good], 1.0, told, (0.5, 0.25))
        late = (10.0, [12.0, 12.25, 12.5])
        ask([late], 0.0, {0.4: "the first token came after 2 s"}, (1.0, 0.25))

    def wants_both() -> None:
        slow_start, slow_tokens = (10.0, [13.0, 13.5, 14.0]), (10.0, [10.5, 12.0, 14.0])
        told = {
            0.75: "all three were counted; one came too late, and one's tokens are too slow",
            0.5: "one of them met one objective and missed the other",
        }
        ask([good, slow_start, slow_tokens], 0.25, told, (1.0, 0.5))

    def means_over_gaps() -> None:
        # Gaps of 0.25, 0.25 and 1: 0.5 on average over the gaps; 0.375 over the tokens, 0.625 from the arrival on.
        uneven = (10.0, [10.5, 10.75, 11.0, 12.0])
        told = {
            0.0: "its gaps are 0.25, 0.25 and 1 s, and their mean is 0.5 s; the time up to the first token is no gap"
        }
        ask([uneven], 0.5, told, (0.5, 0.5))
        told = {0.5: "3 gaps took 1.5 s, which is 0.5 s each; there are 4 tokens, but only 3 gaps"}
        ask([uneven], 0.0, told, (0.5, 0.4375))

    def judges_each() -> None:
        quick, slow = (10.0, [10.25, 10.5, 10.75]), (10.0, [10.25, 12.0, 14.0])
        told = {0.0: "on average they miss an objective, but one of them meets both", 0.5: "one of them is too slow"}
        ask([quick, slow], 0.25, told, (1.0, 0.5))

    def allows_the_limit() -> None:
        ask(
            [good],
            1.0,
            {0.0: "its first token came after exactly 0.5 s, and that's still within the limit"},
            (0.5, 1.0),
        )
        ask([good], 1.0, {0.0: "its gaps are exactly 0.25 s, and that's still within the limit"}, (1.0, 0.25))

    def takes_single_tokens() -> None:
        ask([(10.0, [10.5])], 2.0, {0.0: "with one token there is no gap that could be too long"}, (1.0, 0.25))

    def takes_empty_ones() -> None:
        told = {2.0: "a request that got no token wasn't served well"}
        ask([(10.0, []), (9.5, [10.5])], 1.0, told, (1.0, 0.25))

    return [
        Case(
            "goodput: counts requests per second, from the first arrival to the last token",
            divides,
            "Goodput is a rate: good requests, divided by the time that all of them took.",
            "end - begin, with begin the smallest arrival and end the largest of all token times, also those of "
            "bad requests.",
        ),
        Case(
            "goodput: measures the first token from the arrival on",
            counts_from_arrival,
            "Token times are times on a clock, not waits.",
            "token_times[0] - arrival.",
        ),
        Case(
            "goodput: wants both objectives met",
            wants_both,
            "A request that begins quickly and then crawls isn't good, nor the other way round.",
            "first <= ttft_limit and per_token <= tpot_limit, for one and the same request.",
        ),
        Case(
            "goodput: takes the mean gap between tokens",
            means_over_gaps,
            "n tokens have n - 1 gaps between them.",
            "(token_times[-1] - token_times[0]) / (len(token_times) - 1): not by the number of tokens, not from the "
            "arrival on, and not the largest gap.",
        ),
        Case(
            "goodput: judges each request by itself",
            judges_each,
            "An average over all requests hides who was served badly, and who well.",
            "Go through the requests, compute both times for one, and count it or not.",
        ),
        Case(
            "goodput: allows what's exactly at the limit",
            allows_the_limit,
            "At most means that the limit itself is still good.",
            "Compare with <=, not with <.",
        ),
        Case(
            "goodput: takes a request with a single token",
            takes_single_tokens,
            "One token, no gap: a division by len(token_times) - 1 fails.",
            "Treat one token apart: its time per output token counts as 0.",
        ),
        Case(
            "goodput: counts a request without a token as missed",
            takes_empty_ones,
            "An empty list has no first token and no last one.",
            "Look whether token_times is empty before token_times[0], and leave it out of the largest token time. Its "
            "arrival counts.",
        ),
    ]


# -- core -------------------------------------------------------------------------------------------------------

_TITLE = "Core: a scheduler"


def check_my_scheduler(scheduler: SchedulerMaker) -> Report:
    """The conformance suite, then what this exercise asks beyond it, then the engine."""
    suite = check_scheduler(scheduler)
    if not suite.passed:
        more = (
            "; more lines follow once these hold"
            if "follows" in suite.title
            else "; then come admission and the engine"
        )
        return Report(f"{_TITLE} (the conformance suite{more})", suite.behaviors)
    own = run_cases(_TITLE, _own_cases(scheduler))
    if not own.passed:
        return Report(f"{_TITLE} (then comes the engine)", suite.behaviors + own.behaviors)
    return Report(_TITLE, suite.behaviors + own.behaviors + run_cases(_TITLE, _engine_cases(scheduler)).behaviors)


def _own_cases(scheduler: SchedulerMaker) -> list[Case]:
    def simulate(**options: Any) -> Simulation:
        return Simulation(scheduler, enable_prefix_caching=False, **options)

    def takes_what_fits() -> None:
        sim = simulate(num_blocks=5)
        try:
            sim.add("A", 15, 1)
        except RequestTooLargeError:
            raise CheckFailed(
                "a prompt of 15 tokens and one more are 16, as many as the pool has; it was refused"
            ) from None
        sim.run(20)
        try:
            simulate(num_blocks=5).add("A", 16, 1)
        except RequestTooLargeError:
            return
        raise CheckFailed("a prompt of 16 tokens in a pool for 16, so without room for its first output, was taken")

    def waits_for_room() -> None:
        # 8 blocks of 4. A has 5, and 3 are free: enough for B's first chunk of 7, not for all of its 20.
        sim = simulate(num_blocks=9, max_num_batched_tokens=8)
        sim.add("A", 16, 4)
        for _ in range(2):
            sim.step()
        sim.add("B", 20, 2)
        while "A" in sim.unfinished:
            sim.step()
            if "B" in sim.started:
                raise CheckFailed(
                    f"A has 17 of the pool's 32 tokens when B comes with a prompt of 20; B was started beside it: "
                    f"{sim.timeline}"
                )
        sim.run(20)

    def comes_back_first() -> None:
        sim = simulate(num_blocks=9, max_num_seqs=2)
        for name, num_output in (("A", 11), ("B", 14), ("C", 2)):
            sim.add(name, 8, num_output)
        while "B" not in sim.preempted:
            sim.step()
            if not sim.unfinished:
                raise CheckFailed(f"two requests outgrow the pool together, and nobody gave way: {sim.timeline}")
        at = len(sim.steps)
        sim.run(60)
        later = [name for step in sim.steps[at:] for name in step if name != "A"]
        if later[0] != "B":
            raise CheckFailed(
                f"B gave way in step {at}, and C hasn't begun; then {later[0]} ran before B: {sim.timeline}"
            )

    def says_what_they_do() -> None:
        sim = simulate(num_blocks=9, max_num_seqs=2)
        requests = [sim.add(name, 8, 14) for name in "ABC"]
        while not sim.preempted and sim.unfinished:
            sim.step()
            running = sim.steps[-1]
            for request in requests:
                expected = RequestStatus.RUNNING if request.request_id in running else RequestStatus.WAITING
                if request.request_id in sim.unfinished and request.status is not expected:
                    doing = "is in the step" if request.request_id in running else "waits"
                    raise CheckFailed(
                        f"{request.request_id} {doing}, and its status is {request.status.value!r}: {sim.timeline}"
                    )
        if [request.num_preemptions for request in requests] != [0, 1, 0]:
            counts = ", ".join(f"{request.request_id} {request.num_preemptions}" for request in requests)
            raise CheckFailed(
                f"B was preempted once, the others never; num_preemptions says {counts}",
                hint="request.num_preemptions is what a user is shown of it.",
                strong_hint="Count it in preempt: request.num_preemptions += 1.",
            )

    def leaves_ended_ones() -> None:
        sim = simulate()
        requests = [sim.add(name, 4, 4) for name in "AB"]
        output = sim.scheduler.schedule()
        sim.finish(requests[0])
        sim.scheduler.update(output)
        if requests[0].num_computed_tokens:
            raise CheckFailed(f"A ended during its step, and has {requests[0].num_computed_tokens} computed tokens")
        if requests[1].num_computed_tokens != 4:
            raise CheckFailed(
                f"A ended during the step that it shared with B; B has {requests[1].num_computed_tokens} computed "
                "tokens, not 4"
            )
        sim.finish(requests[1])
        sim.check_empty()

    return [
        Case(
            "takes a prompt that just fits, and none that doesn't",
            takes_what_fits,
            "What has to fit is the prompt and one token more.",
            "In add: refuse if num_blocks(request.num_tokens + 1) > kv.num_usable_blocks. That many exactly is fine.",
        ),
        Case(
            "starts a prompt only if all of it has room",
            waits_for_room,
            "Room for the first chunk isn't enough.",
            "In admit: kv.allocate_slots(request, all of its missing tokens, blocks), and schedule only its share. The "
            "blocks for later chunks are then its own already.",
        ),
        Case(
            "a preempted request comes back before those that haven't begun",
            comes_back_first,
            "Whoever has been running came earlier than all that wait.",
            "Put it at the front of the queue: waiting.appendleft(request). append sends it to the end.",
        ),
        Case(
            "says what each request is doing",
            says_what_they_do,
            "request.status is RequestStatus.RUNNING or RequestStatus.WAITING, and the scheduler sets it.",
            "RUNNING in admit, WAITING in preempt.",
        ),
        Case(
            "leaves a request alone that ended during its step",
            leaves_ended_ones,
            "Between schedule() and update() the engine may call finish(request), when a user hangs up, say.",
            "In update: only what's still among the running ones is counted and cached; the others hold no blocks.",
        ),
    ]


def _engine_cases(scheduler: SchedulerMaker) -> list[Case]:
    params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
    prompts = ["The cat", "The dog and the cat " * 6, "A", "One, two, three, four", "The dog"]

    def generate(**options: Any) -> tuple[LLM, list[list[int]]]:
        llm = LLM("tiny-random", device="cpu", **options)
        return llm, [output.token_ids for output in llm.generate(prompts, params)]

    @cache
    def expected() -> list[list[int]]:
        return generate()[1]

    def compare(found: list[list[int]], where: str) -> None:
        for index, (mine, right) in enumerate(zip(found, expected(), strict=True)):
            if mine != right:
                at = next((i for i, pair in enumerate(zip(mine, right, strict=False)) if pair[0] != pair[1]), len(mine))
                raise CheckFailed(f"{where}, request {index}: token {at} isn't that of the engine's own scheduler")

    def serves() -> None:
        compare(generate(scheduler=scheduler, max_num_batched_tokens=16)[1], "with a budget of 16")

    def serves_in_small_pools() -> None:
        llm, found = generate(scheduler=scheduler, num_blocks=8)
        compare(found, "in a pool of 7 blocks")
        if not llm.engine.metrics.snapshot().num_preemptions:
            raise CheckFailed("five requests that need 18 blocks in the end shared a pool of 7, and nobody gave way")

    def survives_aborts() -> None:
        engine = LLM("tiny-random", device="cpu", scheduler=scheduler, num_blocks=8).engine
        prompt = list(range(1, 40))
        names = [engine.add_request(prompt[: 10 + 5 * index], params, lambda event: None) for index in range(5)]
        for name in names:
            engine.step()
            engine.abort(name)
        left = engine.scheduler
        if engine.has_unfinished or left.has_unfinished or engine.kv.usage().referenced:
            raise CheckFailed(
                f"all five requests were aborted; {left.num_waiting} wait, {left.num_running} run, and "
                f"{engine.kv.usage().referenced} blocks are held"
            )

    return [
        Case(
            "serves in the engine, with the tokens of its own scheduler",
            serves,
            "If all the lines above hold, so should this one.",
            "The engine reads the block tables and counts of the output; they have to be those of this step.",
            time_limit=60,
        ),
        Case(
            "serves from a pool that's too small for all, with the same tokens",
            serves_in_small_pools,
            "A preempted request computes its tokens again and goes on from there.",
            "Its output must neither be lost nor sampled twice: request.token_ids stays as it is.",
            time_limit=60,
        ),
        Case(
            "lets go of requests that are aborted, in the engine",
            survives_aborts,
            "Aborted requests may be running, waiting or preempted.",
            "finish(request) removes it from where it is, and frees its blocks only if it's running.",
            time_limit=60,
        ),
    ]


# -- stretch ----------------------------------------------------------------------------------------------------

_SHARE_OF_WAIT, _LONGER, _LATER = 0.25, 1.5, 2.5

# What a policy may do in another way than the suite expects.
_FREE = ("first come, first served", "a prompt longer than the budget is computed in chunks")
_FLOOD_SECONDS, _LONG_COMES_AT = 20.0, 2.0


def flood() -> list[LoadRequest]:
    """Short requests come faster than they can be served, for a while, and one long one among them."""
    shorts = mixed_load(seconds=_FLOOD_SECONDS, shorts_per_second=60, longs_per_second=0)
    return sorted([*shorts, LoadRequest("long", _LONG_COMES_AT, 2500, 40)], key=lambda each: each.arrival)


def check_my_policy(scheduler: SchedulerMaker) -> Report:
    """A scheduler that keeps short requests' p99 flat; measured against first come, first served."""

    @cache
    def serve(policy: SchedulerMaker, load: Callable[[], list[LoadRequest]]) -> list[ServedRequest]:
        try:
            return serve_load(policy, load())
        except RequestTooLargeError as error:
            raise CheckFailed(
                f"it refused a request: {error}",
                hint="Every request of the load fits, the long ones too.",
                strong_hint="add may only refuse what could never fit: a prompt and one token more that need more "
                "blocks than kv.num_usable_blocks.",
            ) from None
        except MinillmError as error:
            raise CheckFailed(f"the load came to a halt: {error}") from None

    def of(kind: str, policy: SchedulerMaker = scheduler, load: Any = mixed_load) -> list[ServedRequest]:
        return [each for each in serve(policy, load) if each.request.kind == kind]

    def is_a_scheduler() -> None:
        failed = [behavior for behavior in check_scheduler(scheduler).failed if behavior.name not in _FREE]
        if failed:
            first = failed[0]
            raise CheckFailed(f"{first.name}: {first.detail}", hint=first.hint, strong_hint=first.strong_hint)

    def serves_all() -> None:
        lost = [each for each in serve(scheduler, mixed_load) if not each.is_finished]
        if lost:
            kinds = " and ".join(
                f"{count} {kind} ones"
                for kind in ("short", "long")
                if (count := sum(each.request.kind == kind for each in lost))
            )
            raise CheckFailed(f"when the load was over, {kinds} hadn't got all of their tokens")

    def keeps_waits_flat() -> None:
        mine, theirs = (
            nearest_rank([each.time_to_first_token for each in of("short", policy)], 99)
            for policy in (scheduler, FairScheduler)
        )
        if mine > _SHARE_OF_WAIT * theirs:
            raise CheckFailed(
                f"p99 of the short ones' time to first token is {mine:.2f} s; first come, first served has "
                f"{theirs:.2f} s, so at most {_SHARE_OF_WAIT * theirs:.2f} s are asked for"
            )

    def ends_long_ones() -> None:
        mine, theirs = (max(each.total_time for each in of("long", policy)) for policy in (scheduler, FairScheduler))
        if mine > _LONGER * theirs:
            raise CheckFailed(
                f"the slowest long one took {mine:.1f} s; first come, first served takes {theirs:.1f} s, so at most "
                f"{_LONGER * theirs:.1f} s are asked for"
            )

    def starves_nobody() -> None:
        ((mine,), (theirs,)) = (of("long", policy, flood) for policy in (scheduler, FairScheduler))
        if mine.time_to_first_token > _LATER * theirs.time_to_first_token:
            raise CheckFailed(
                f"in a flood of short ones of {_FLOOD_SECONDS:.0f} s, a long one got its first token after "
                f"{mine.time_to_first_token:.1f} s; first come, first served takes {theirs.time_to_first_token:.1f} s"
            )

    return run_cases(
        "Stretch: short ones beside long ones",
        [
            Case("is still a scheduler", is_a_scheduler, time_limit=60),
            Case(
                "serves every request of the load to its end",
                serves_all,
                "Long requests must come to their end as well.",
                "Some rule has to give a long prompt its turn, also while short ones are there.",
                time_limit=60,
            ),
            Case(
                "keeps p99 of the short ones' time to first token flat",
                keeps_waits_flat,
                "While a long prompt takes all that's left of the budget, nobody new gets a token.",
                "Give no prompt more than a part of the budget in a step, a quarter, say, while others are there; and "
                "let short prompts pass long ones that wait, or read only one long prompt at a time.",
                time_limit=60,
            ),
            Case(
                "lets the long ones end in time",
                ends_long_ones,
                "A step costs a constant, whatever is in it; small chunks mean many steps.",
                "Make the long ones' chunk larger, and give them their chunk in each step, not only when no short one "
                "is there.",
                time_limit=60,
            ),
            Case(
                "lets a long one through a flood of short ones",
                starves_nobody,
                "Shortest first lets a stream of short ones pass for ever.",
                "Aging: the oldest gets a part of each step, or goes first once it has waited for so many steps. "
                "And if it waits for room in the pool, nobody may take that room.",
                time_limit=60,
            ),
        ],
    )


CHECKS: Mapping[str, Callable[..., Report]] = {
    "warm-up": check_percentiles_and_goodput,
    "core": check_my_scheduler,
    "stretch": check_my_policy,
}
