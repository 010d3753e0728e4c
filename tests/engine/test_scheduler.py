"""The scheduler, with a pretended model: limits, order, fair shares, preemption, and that nothing leaks.

`Simulation` checks every step: the token budget, max_num_seqs, and that each block holds what its request believes.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.engine.config import EngineConfig
from minillm.engine.fair_queue import FairQueue
from minillm.engine.request import Request, RequestStatus
from minillm.engine.scheduler import FairScheduler
from minillm.errors import InvalidRequestError, MinillmError, RequestTooLargeError
from minillm.kv import KVCacheManager
from minillm.sampling import SamplingParams
from minillm.testing.simulation import Simulation


def simulation(**settings: Any) -> Simulation:
    return Simulation(FairScheduler, debug=True, **settings)


def computed(sim: Simulation, tenant: str) -> int:
    """Tokens that a tenant has been given; its requests' names begin with its own."""
    return sum(num for step in sim.steps for name, num in step.items() if name.startswith(tenant))


# -- budget and chunks ------------------------------------------------------------------------------------------


def test_a_long_prompt_is_chunked_beside_who_is_being_answered() -> None:
    sim = simulation(max_num_batched_tokens=8)
    sim.add("A", 3, 6)
    sim.step()
    sim.add("B", 20, 2)
    sim.run(20)
    assert sim.timeline == "A 3 | A 1, B 7 | A 1, B 7 | A 1, B 6 | A 1, B 1 | A 1"


def test_only_the_last_chunk_yields_a_token() -> None:
    sim = simulation(max_num_batched_tokens=8)
    request = sim.add("A", 20, 2)
    sizes = []
    for _ in range(4):
        sim.step()
        sizes.append(request.num_tokens)
    assert sizes == [20, 20, 21, 22]


def test_settings_that_are_none_have_defaults() -> None:
    scheduler = FairScheduler(EngineConfig(), KVCacheManager(8))
    assert (scheduler.max_num_seqs, scheduler.max_num_batched_tokens) == (64, 512)


def test_a_request_without_missing_tokens_is_left_out() -> None:
    sim = simulation()
    request = sim.add("A", 3, 6)
    sim.step()
    request.token_ids.pop()
    assert sim.scheduler.schedule().scheduled == []


# -- order ------------------------------------------------------------------------------------------------------


def test_first_come_first_served_within_a_tenant() -> None:
    sim = simulation(max_num_seqs=2, max_num_batched_tokens=8)
    names = [f"A{index}" for index in range(10)]
    for index, name in enumerate(names):
        sim.add(name, 1 + index * 7 % 11, 1 + index % 3)
    sim.run()
    assert sim.started == names


def test_a_tenant_with_one_request_does_not_wait_behind_a_hundred_of_another() -> None:
    sim = simulation(max_num_seqs=2)
    for index in range(100):
        sim.add(f"A{index}", 5, 3, tenant="A")
    for _ in range(4):
        sim.step()
    sim.add("B", 5, 3, tenant="B")
    sim.run()
    assert sim.started.index("B") <= 4


@pytest.mark.parametrize("sizes", [(5, 5), (5, 20), (30, 3)])
def test_tenants_get_equal_shares_of_tokens_whatever_their_requests_are_like(sizes: tuple[int, int]) -> None:
    sim = simulation(max_num_seqs=3, max_num_batched_tokens=16, enable_prefix_caching=False)
    for index in range(200):
        for tenant, size in zip("AB", sizes, strict=True):
            sim.add(f"{tenant}{index}", size, 4, tenant=tenant)
    for _ in range(150):
        sim.step()
    a, b = computed(sim, "A"), computed(sim, "B")
    assert abs(a - b) <= 4 * (max(sizes) + 4), (a, b)


def test_a_tenant_that_stayed_away_has_saved_up_nothing() -> None:
    sim = simulation(max_num_seqs=1, enable_prefix_caching=False)
    for index in range(60):
        sim.add(f"A{index}", 8, 2, tenant="A")
    for _ in range(40):
        sim.step()
    for index in range(30):
        sim.add(f"B{index}", 8, 2, tenant="B")
    before = computed(sim, "A")
    for _ in range(40):
        sim.step()
    assert abs(computed(sim, "A") - before - computed(sim, "B")) <= 20


def test_a_tenant_that_was_served_more_keeps_its_place_when_it_comes_back() -> None:
    """One at a time with long prompts, against a crowd of short ones: tokens count, not requests."""
    sim = simulation(max_num_seqs=1, max_num_batched_tokens=64, enable_prefix_caching=False)
    for index in range(100):
        sim.add(f"B{index}", 4, 2, tenant="B")
    for index in range(60):
        if not any(name.startswith("A") for name in sim.unfinished):
            sim.add(f"A{index}", 39, 2, tenant="A")
        sim.step()
    assert computed(sim, "A") <= computed(sim, "B") + 3 * 40


def test_aging_bounds_the_wait_under_a_stream_of_long_prompts_from_new_tenants() -> None:
    sim = simulation(max_num_seqs=1, max_num_batched_tokens=8, aging_steps=10)
    sim.add("old", 40, 2, tenant="tenant")
    sim.add("other", 17, 2, tenant="other")
    while "old" in sim.unfinished:
        sim.step()
    sim.add("waits", 3, 2, tenant="tenant")
    first = len(sim.steps)
    for index in range(60):
        sim.add(f"new{index}", 17, 2, tenant=f"new{index}")
        sim.step()
    start = next(number for number, step in enumerate(sim.steps) if "waits" in step)
    # After ten steps it's next, but who is running is not thrown out: a prompt of three chunks and a second token.
    assert 10 < start - first <= 10 + 5


def test_of_those_that_aged_the_one_that_waited_longest_goes_first() -> None:
    sim = simulation(max_num_seqs=1, aging_steps=2)
    for tenant in "ABCD":
        sim.add(tenant, 3, 4, tenant=tenant)
        sim.step()
    sim.run()
    assert sim.started == ["A", "B", "C", "D"]


@pytest.mark.parametrize("others", [[], [Request("stays", [1], SamplingParams(), 2, tenant="stays")]])
def test_the_queue_forgets_tenants_that_are_gone(others: list[Request]) -> None:
    queue = FairQueue(aging_steps=64)
    for other in others:
        queue.activate(other.tenant, [])
    for index in range(5000):
        params = SamplingParams()
        request = Request(f"{index}", [1], params, 2, tenant=f"tenant{index}", arrival=index)
        for other in others:
            queue.charge(other.tenant, 2)
        queue.activate(request.tenant, others)
        queue.append(request)
        assert queue.first() is request
        queue.charge(request.tenant, 3)
        queue.remove(request)
        queue.deactivate(request.tenant)
    assert len(queue) == 0
    assert queue.first() is None
    assert len(queue._tenants) < 200


@pytest.mark.parametrize("num_tenants", [1, 20_000])
def test_a_step_looks_at_few_of_the_waiting_requests(num_tenants: int) -> None:
    """Counted, not timed: how often a step asks a request for anything while twenty thousand wait."""

    class Counting(Request):
        num_reads = 0

        def __getattribute__(self, name: str) -> Any:
            Counting.num_reads += 1
            return super().__getattribute__(name)

    kv = KVCacheManager(65, 4)
    scheduler = FairScheduler(EngineConfig(max_num_seqs=4, max_num_batched_tokens=64), kv)
    params = SamplingParams()
    for index in range(20_000):
        tenant = str(index % num_tenants)
        scheduler.add(Counting(f"{index}", [index, 1, 2], params, 99, tenant=tenant, arrival=index))
    output = scheduler.schedule()
    scheduler.update(output)
    for item in output.scheduled:
        item.request.token_ids.append(5)
    Counting.num_reads = 0
    scheduler.update(scheduler.schedule())
    assert Counting.num_reads < 500


# -- a full pool ------------------------------------------------------------------------------------------------


def test_the_youngest_is_preempted_and_resumes_from_the_prefix_cache() -> None:
    sim = simulation(num_blocks=9)
    victim = [sim.add(name, 8, num_output) for name, num_output in (("A", 4), ("B", 4), ("C", 9))][-1]
    while not sim.preempted:
        sim.step()
    assert sim.preempted == ["C"]
    assert (victim.status, victim.num_computed_tokens, victim.num_preemptions) == (RequestStatus.WAITING, 0, 1)
    assert (sim.scheduler.num_waiting, sim.scheduler.num_running) == (1, 2)
    while "C" not in sim.steps[-1]:
        sim.step()
    assert sim.steps[-1]["C"] == victim.num_computed_tokens - 8 == 1
    assert victim.num_cached_tokens == 0  # of the prompt, when it first came
    sim.run()
    sim.check_empty()


def test_nobody_is_admitted_in_a_step_that_preempts() -> None:
    sim = simulation(num_blocks=9)
    for name in "ABCDE":
        sim.add(name, 8, 9)
    for _ in range(60):
        running = set(sim.steps[-1]) if sim.steps else set()
        output = sim.step()
        if output.preempted:
            assert {item.request.request_id for item in output.scheduled} <= running


def test_preempted_requests_come_back_in_the_order_of_their_arrival() -> None:
    sim = simulation(num_blocks=9, enable_prefix_caching=False)
    for name in "ABCDE":
        sim.add(name, 4, 20)
    returned: list[str] = []
    for _ in range(150):
        waiting = set(sim.preempted) & {name for name, r in sim.unfinished.items() if r.status is RequestStatus.WAITING}
        sim.step()
        returned += [name for name in sim.steps[-1] if name in waiting] if sim.steps else []
    assert len(sim.preempted) >= 3
    assert returned[:2] == sorted(returned[:2])


def test_a_lone_request_that_outgrows_the_pool_is_reported() -> None:
    sim = simulation(num_blocks=5)
    request = sim.add("A", 4, 100)
    sim.run(30)
    assert sim.outgrown == ["A"]
    assert request.num_tokens == 17  # sixteen in the pool, and the one that they led to
    sim.check_empty()


def test_who_outgrows_the_pool_ends_with_as_many_tokens_beside_others() -> None:
    sim = simulation(num_blocks=9)
    request = sim.add("A", 4, 100)
    for index in range(5):
        sim.add(f"B{index}", 6, 8)
    sim.run(200)
    assert sim.outgrown == ["A"]
    assert request.num_tokens == 33
    sim.check_empty()


def test_what_can_never_fit_is_refused_while_others_go_on() -> None:
    sim = simulation(num_blocks=5)
    sim.add("A", 4, 4)
    with pytest.raises(RequestTooLargeError, match=r"16 tokens and one more need 5 blocks .* it has 4") as caught:
        sim.add("B", 16, 1)
    assert isinstance(caught.value, InvalidRequestError)
    assert caught.value.param == "prompt"
    sim.add("C", 15, 1)
    sim.run(30)
    assert sim.started == ["A", "C"]
    sim.check_empty()


def test_a_request_is_admitted_when_all_of_its_prompt_fits_not_just_a_chunk() -> None:
    sim = simulation(num_blocks=9, max_num_batched_tokens=8, enable_prefix_caching=False)
    sim.add("A", 8, 12)
    sim.step()
    sim.add("B", 28, 2)
    sim.run()
    assert sim.preempted == []


def test_a_large_request_is_not_overtaken_by_small_ones_that_would_fit() -> None:
    sim = simulation(num_blocks=9, enable_prefix_caching=False)
    sim.add("A", 8, 6)
    sim.step()
    sim.add("large", 28, 2)
    for index in range(5):
        sim.add(f"small{index}", 2, 2)
    sim.run()
    assert sim.started[:2] == ["A", "large"]


# -- endings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_steps", range(12))
@pytest.mark.parametrize("victim", ["A", "B", "C"])
def test_an_abort_at_any_time_frees_the_blocks_exactly_once(victim: str, num_steps: int) -> None:
    sim = simulation(num_blocks=9, max_num_batched_tokens=10)
    requests = {name: sim.add(name, 8, 12) for name in "ABC"}
    for _ in range(num_steps):
        sim.step()
    sim.finish(requests[victim])
    sim.scheduler.finish(requests[victim])
    sim.run()
    sim.check_empty()


def test_an_abort_between_schedule_and_update_publishes_nothing() -> None:
    sim = simulation()
    request = sim.add("A", 9, 2)
    output = sim.scheduler.schedule()
    sim.scheduler.finish(request)
    sim.scheduler.update(output)
    assert request.num_computed_tokens == 0
    assert len(sim.kv.prefix_cache or ()) == 0
    sim.check_empty()


def test_forks_go_on_at_once_and_only_running_requests_can_be_forked() -> None:
    sim = simulation(max_num_seqs=2)
    parent, late = sim.add("A", 6, 5), sim.add("B", 6, 5)
    with pytest.raises(MinillmError, match="waiting; only a running request"):
        sim.fork(parent, "A'")
    sim.step()
    for name in ("A'", "A''"):
        sim.fork(parent, name)
    assert sim.scheduler.num_running == 4
    sim.finish(late)
    sim.run()
    assert set(sim.started) == {"A", "B", "A'", "A''"}
    assert max(len(step) for step in sim.steps) == 2
    sim.check_empty()


# -- anything at all --------------------------------------------------------------------------------------------

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 24), st.integers(1, 14), st.sampled_from("xyz")),
        st.tuples(st.just("shared"), st.integers(1, 24), st.integers(1, 14), st.sampled_from("xy")),
        st.tuples(st.just("steps"), st.integers(1, 6)),
        st.tuples(st.just("abort"), st.integers(0, 9)),
        st.tuples(st.just("fork"), st.integers(0, 9)),
    ),
    max_size=40,
)


def act(sim: Simulation, number: int, action: tuple[Any, ...]) -> None:
    requests = list(sim.unfinished.values())
    match action:
        case ("add" | "shared" as kind, num_prompt, num_output, tenant):
            prompt = list(range(100, 100 + num_prompt)) if kind == "shared" else num_prompt
            try:
                sim.add(f"r{number}", prompt, num_output, tenant=tenant)
            except RequestTooLargeError:
                assert -(-(num_prompt + 1) // sim.block_size) > sim.kv.num_usable_blocks
        case ("steps", num_steps):
            for _ in range(num_steps):
                sim.step()
        case ("abort", index) if index < len(requests):
            sim.finish(requests[index])
        case ("fork", index) if index < len(requests) and requests[index].status is RequestStatus.RUNNING:
            sim.fork(requests[index], f"r{number}")


@settings(max_examples=150, deadline=None)
@given(
    actions=ACTIONS,
    num_blocks=st.integers(2, 24),
    block_size=st.sampled_from([1, 2, 4]),
    max_num_seqs=st.integers(1, 6),
    max_num_batched_tokens=st.sampled_from([1, 2, 3, 8, 40]),
    enable_prefix_caching=st.booleans(),
    aging_steps=st.sampled_from([1, 5, 64]),
)
def test_whatever_comes_every_request_finishes_and_nothing_leaks(actions: list[Any], **settings: Any) -> None:
    sim = simulation(**settings)
    for number, action in enumerate(actions):
        act(sim, number, action)
        requests = sim.unfinished.values()
        assert sim.scheduler.num_running == sum(r.status is RequestStatus.RUNNING for r in requests)
        assert sim.scheduler.num_waiting == sum(r.status is RequestStatus.WAITING for r in requests)
    sim.run(5000)
    sim.check_empty()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), num_blocks=st.integers(6, 20))
def test_pools_of_any_size_lead_to_the_same_tokens(seed: int, num_blocks: int) -> None:
    """The pretended model's tokens depend on the text only, so lost or repeated ones would show."""
    chance = random.Random(seed)
    sizes = [(chance.randrange(1, 16), chance.randrange(1, 8)) for _ in range(6)]
    results = []
    for blocks, budget in ((200, 512), (num_blocks, chance.choice([1, 5, 16]))):
        sim = simulation(num_blocks=blocks, max_num_batched_tokens=budget)
        requests = [sim.add(f"r{index}", *size) for index, size in enumerate(sizes) if sum(size) <= 20]
        sim.run(2000)
        results.append([request.token_ids for request in requests])
    assert results[0] == results[1]
