"""Parts that raise, receivers that raise, aborts at awkward moments: one request's trouble stays its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from torch import Tensor

from minillm import LLM, AsyncEngine, SamplingParams
from minillm.engine import Engine, EngineConfig, RequestOutput
from minillm.engine.engine import Event
from minillm.engine.scheduler import FairScheduler
from minillm.errors import InvalidRequestError, MinillmError, RequestAbortedError
from minillm.kv import RefCountingBlockAllocator
from minillm.sampling import FilteringSampler, SamplingMetadata

PARAMS = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)


def engine(**parts: Any) -> Engine:
    return Engine("tiny-random", EngineConfig(device="cpu", debug=True), **parts)


def finish(running: Engine) -> None:
    for _ in range(500):
        if not running.has_unfinished:
            break
        running.step()
    assert not running.has_unfinished
    assert running.kv.usage().referenced == 0
    assert running.scheduler.num_running == running.scheduler.num_waiting == 0


def test_a_sampler_that_fails_once_ends_that_step_and_is_named() -> None:
    class FailsOnce(FilteringSampler):
        calls = 0

        def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
            self.calls += 1
            if self.calls == 2:
                raise ZeroDivisionError("no luck")
            return super().sample(logits, metadata)

    running = engine(sampler=FailsOnce())
    events: list[Event] = []
    for _ in range(3):
        running.add_request([50, 51], PARAMS, events.append)
    finish(running)
    errors = [event for event in events if isinstance(event, MinillmError)]
    assert len(errors) == 3
    assert all("ZeroDivisionError: no luck" in str(error) for error in errors)
    assert isinstance(errors[0].__cause__, ZeroDivisionError)
    running.add_request([50, 51], PARAMS, events.append)
    finish(running)
    assert isinstance(events[-1], RequestOutput)


def test_a_receiver_that_fails_loses_its_own_request_only() -> None:
    running, events = engine(), []

    def broken(event: Event) -> None:
        raise OSError("nobody there")

    running.add_request([50, 51], PARAMS, broken)
    running.add_request([60, 61], PARAMS, events.append)
    finish(running)
    assert isinstance(events[-1], RequestOutput)
    assert len(events[-1].token_ids) == 6


@pytest.mark.parametrize("n", [1, 3])
def test_an_abort_out_of_an_event_waits_for_the_end_of_the_step(n: int) -> None:
    running = engine()
    seen: dict[str, list[Event]] = {"a": [], "b": []}

    def on_event(event: Event) -> None:
        seen["a"].append(event)
        running.abort("a")
        running.abort("b")

    params = SamplingParams(seed=1, max_tokens=6, ignore_eos=True, n=n)
    running.add_request([50, 51], params, on_event, request_id="a")
    running.add_request([60, 61], params, seen["b"].append, request_id="b")
    finish(running)
    assert isinstance(seen["a"][-1], RequestAbortedError)
    assert isinstance(seen["b"][-1], RequestAbortedError)


def test_ids_cannot_be_taken_for_those_of_forks() -> None:
    running = engine()
    running.add_request([50], PARAMS, lambda event: None, request_id="a")
    with pytest.raises(InvalidRequestError, match="engine's own"):
        running.add_request([50], PARAMS, lambda event: None, request_id="a#1")
    with pytest.raises(InvalidRequestError, match="already"):
        running.add_request([50], PARAMS, lambda event: None, request_id="a")
    with pytest.raises(InvalidRequestError, match="tenant"):
        running.add_request([50], PARAMS, lambda event: None, tenant=None)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="extra_keys"):
        running.add_request([50], PARAMS, lambda event: None, extra_keys=(7,))  # type: ignore[arg-type]
    finish(running)


def test_an_allocator_that_fails_while_a_request_comes_in_leaks_nothing() -> None:
    class FailsOnce(RefCountingBlockAllocator):
        calls = 0

        def allocate(self) -> int:
            self.calls += 1
            if self.calls == 3:
                raise RuntimeError("the allocator broke")
            return super().allocate()

    running, events = engine(block_allocator=FailsOnce), []
    running.add_request([50] * 60, PARAMS, events.append)
    with pytest.raises(RuntimeError, match="the allocator broke"):
        running.step()
    running.kv.check_integrity()
    assert running.kv.usage().referenced == 0
    finish(running)
    assert isinstance(events[-1], RequestOutput)


def test_one_failure_among_n_outputs_is_one_error_and_the_last_event() -> None:
    class Leaves(FilteringSampler):
        def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
            tokens = super().sample(logits, metadata)
            tokens[-1] = 10**6
            return tokens

    running, events = engine(sampler=Leaves()), []
    running.add_request([50, 51], SamplingParams(seed=1, max_tokens=6, n=3), events.append)
    finish(running)
    assert [isinstance(event, MinillmError) for event in events] == [False] * (len(events) - 1) + [True]


def test_a_request_that_outgrows_the_pool_is_told_why_it_ends() -> None:
    llm = LLM("tiny-random", device="cpu", num_blocks=4)
    stream = llm.generate([50] * 20, SamplingParams(temperature=0, max_tokens=500, ignore_eos=True), stream=True)
    chunks = list(stream)
    assert chunks[-1].finish_reason == "length"
    assert all(chunk.finish_reason is None for chunk in chunks[:-1])


@pytest.mark.parametrize(
    "settings",
    [
        {"num_blocks": 10, "kv_cache_memory": 10**9},
        {"kv_cache_memory": 1},
        {"num_blocks": "8"},
        {"block_size": True},
        {"block_size": 12},
        {"kernels": "cpu", "dtype": "float16"},
        {"kernels": "torch", "attention_backend": "cpu", "dtype": "bfloat16"},
        {"enable_prefix_caching": False, "prefix_cache": "default"},
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_refused_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(MinillmError):
        LLM("tiny-random", device="cpu", **settings)


def test_a_list_longer_than_the_queue_is_worked_off() -> None:
    llm = LLM("tiny-random", device="cpu", max_num_waiting=1, max_num_seqs=1)
    assert len(llm.generate([[50], [51], [52]], PARAMS)) == 3


# -- coroutines -------------------------------------------------------------------------------------------------


async def collect(running: AsyncEngine, **options: Any) -> list[Event]:
    return [event async for event in running.generate([50, 51], PARAMS, **options)]


def test_a_name_that_is_taken_does_not_disturb_its_owner() -> None:
    running = AsyncEngine(engine())

    async def scene() -> list[Any]:
        tasks = [asyncio.create_task(collect(running, request_id="x")) for _ in range(2)]
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)

    first, second = asyncio.run(scene())
    assert isinstance(first[-1], RequestOutput)
    assert isinstance(second, InvalidRequestError)
    running.close()


def test_an_abort_by_somebody_else_is_told() -> None:
    running = AsyncEngine(engine())
    long = SamplingParams(temperature=0, max_tokens=1500, ignore_eos=True)

    async def scene() -> None:
        async for _ in running.generate([50], long, request_id="x"):
            running.engine.abort("x")

    with pytest.raises(RequestAbortedError):
        asyncio.run(asyncio.wait_for(scene(), 20))
    running.close()


def test_a_scheduler_that_fails_leaves_nobody_waiting() -> None:
    class Fails(FairScheduler):
        def add(self, request: Any) -> None:
            if request.prompt_token_ids == [50, 51]:
                raise ValueError("not this one")
            super().add(request)

        def finish(self, request: Any) -> None:
            super().finish(request)
            raise RuntimeError("it would not let go")

    running = AsyncEngine(engine(scheduler=Fails))

    async def scene() -> list[Event]:
        with pytest.raises(MinillmError, match="not this one"):
            await asyncio.wait_for(collect(running), 20)
        events = [event async for event in running.generate([60], PARAMS)]
        return events

    assert isinstance(asyncio.run(asyncio.wait_for(scene(), 20))[-1], RequestOutput)
    running.close()


def test_a_second_close_does_not_cut_the_first_short() -> None:
    running = AsyncEngine(engine())

    async def scene() -> list[Event]:
        task = asyncio.create_task(collect(running))
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(running.close, 30.0))
        await asyncio.sleep(0)
        await asyncio.to_thread(running.close)
        await closing
        return await task

    assert isinstance(asyncio.run(scene())[-1], RequestOutput)


@pytest.mark.parametrize("kernels", ["torch", "cpu"])
@pytest.mark.parametrize("where", [5, 40, 63, 70])
def test_no_block_that_holds_what_is_not_a_number_is_ever_found(kernels: str, where: int) -> None:
    """A long prompt comes in chunks, and only the last one has logits: by then the first blocks are published."""
    config = EngineConfig(device="cpu", debug=True, max_num_batched_tokens=32)
    running = Engine("tiny-random", config, kernels=kernels)
    running.model.embed_tokens.weight.data[41] = float("nan")
    running.model.lm_head.weight = torch.nn.Parameter(running.model.embed_tokens.weight.detach().nan_to_num())
    broken = list(range(100, 171))
    broken[where] = 41
    events: list[Event] = []
    running.add_request(broken, PARAMS, events.append)
    finish(running)
    assert [type(event) for event in events] == [MinillmError]
    assert "not numbers" in str(events[0])
    for keys in running.runner.cache.keys, running.runner.cache.values:
        cached = [block for block in range(1, keys.shape[1]) if block in running.kv.prefix_cache]  # type: ignore[operator]
        assert bool(keys[:, cached].isfinite().all())
        assert len(cached) == where // 32 * 2  # the chunks before it
    # What was sound before it is used again, and gives what it gives where nothing was broken.
    sound = broken[:where] + [171] * (71 - where)
    outputs: list[Event] = []
    running.add_request(sound, PARAMS, outputs.append)
    running.add_request(sound, PARAMS, outputs.append, tenant="another")
    finish(running)
    first, second = (event for event in outputs if isinstance(event, RequestOutput))
    assert first.token_ids == second.token_ids
    assert {first.cached_tokens, second.cached_tokens} == {where // 32 * 32, 0}
