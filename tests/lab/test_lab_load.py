"""The load without a model: what's in it, what the clock says, and what a scheduler may not do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from minillm.engine.scheduler import FairScheduler, ScheduledRequest, SchedulerOutput
from minillm.lab.load import LOAD_CONFIG, LoadError, LoadRequest, StepCost, mixed_load, serve_load

COST = StepCost(constant=1.0, per_token=0.25)


def test_a_load_is_the_same_each_time_and_in_order() -> None:
    load = mixed_load()
    assert load == mixed_load() and load != mixed_load(seed=6)
    assert [each.arrival for each in load] == sorted(each.arrival for each in load)
    for kind, (low, high), rate in (("short", (20, 60), 5.0), ("long", (2000, 3000), 0.25)):
        some = [each for each in load if each.kind == kind]
        assert all(low <= each.num_prompt_tokens <= high and 0 <= each.arrival < 60 for each in some)
        assert len(some) == pytest.approx(60 * rate, rel=0.3)


def test_the_short_ones_are_the_same_without_long_ones() -> None:
    alone = mixed_load(longs_per_second=0)
    assert alone == [each for each in mixed_load() if each.kind == "short"]


def test_the_clock_follows_the_steps() -> None:
    # 4 tokens: a step of 2 s. Then one token per step: 1.25 s each. The second request comes during the first step.
    load = [LoadRequest("short", 10.0, 4, 3), LoadRequest("short", 11.0, 8, 1)]
    first, second = serve_load(FairScheduler, load, cost=COST)
    assert first.token_times == [12.0, 15.25, 16.5]  # the middle step has 1 token of the first and 8 of the second
    assert second.token_times == [15.25]
    assert (first.time_to_first_token, first.total_time) == (2.0, 6.5)
    assert first.is_finished and second.is_finished


def test_results_come_in_the_order_of_the_load() -> None:
    load = [LoadRequest("long", 5.0, 100, 2), LoadRequest("short", 0.0, 4, 2)]
    served = serve_load(FairScheduler, load, cost=COST)
    assert [each.request for each in served] == load
    assert served[1].token_times[0] < 5.0 < served[0].token_times[0]


def test_preemptions_are_counted() -> None:
    load = [LoadRequest("short", 0.0, 24, 30) for _ in range(3)]
    served = serve_load(FairScheduler, load, config=replace(LOAD_CONFIG, num_blocks=9))
    assert served[0].num_preemptions == 0 and sum(each.num_preemptions for each in served) > 0
    assert all(each.is_finished for each in served)


def test_what_outgrows_the_pool_is_not_finished() -> None:
    config = replace(LOAD_CONFIG, num_blocks=3)
    (served,) = serve_load(FairScheduler, [LoadRequest("short", 0.0, 20, 30)], config=config)
    assert len(served.token_times) == 13 and not served.is_finished  # 32 tokens have room, and the 33rd was sampled
    assert served.total_time == math.inf


class Greedy(FairScheduler):
    """Gives the same request once more."""

    def schedule(self) -> SchedulerOutput:
        output = super().schedule()
        output.scheduled += [ScheduledRequest(item.request, 200, item.block_table) for item in output.scheduled]
        return output


class Idle(FairScheduler):
    def schedule(self) -> SchedulerOutput:
        return SchedulerOutput()


class Excessive(FairScheduler):
    def schedule(self) -> SchedulerOutput:
        output = super().schedule()
        output.scheduled = [
            ScheduledRequest(item.request, item.num_new_tokens + 1, item.block_table) for item in output.scheduled
        ]
        return output


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [(Greedy, "its budget is 256"), (Idle, "1 wait, 0 hold blocks"), (Excessive, "which misses 100")],
)
def test_what_no_engine_could_do_is_an_error(scheduler: Any, words: str) -> None:
    with pytest.raises(LoadError, match=words):
        serve_load(scheduler, [LoadRequest("short", 0.0, 100, 2)])
