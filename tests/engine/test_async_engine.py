"""Coroutines on one engine: streams, aborts at every stage, overload, and the end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from minillm import LLM, AsyncEngine, SamplingParams
from minillm.engine import Engine, EngineConfig, OutputChunk, RequestOutput
from minillm.errors import EngineOverloadedError, EngineStoppedError, InvalidRequestError

LONG = SamplingParams(temperature=0, max_tokens=1500, ignore_eos=True)
SHORT = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)


@pytest.fixture
def engine() -> Iterator[AsyncEngine]:
    running = AsyncEngine(Engine("tiny-random", EngineConfig(device="cpu", max_num_batched_tokens=32, debug=True)))
    yield running
    running.close()


async def collect(engine: AsyncEngine, prompt: list[int], params: SamplingParams) -> list[Any]:
    return [event async for event in engine.generate(prompt, params)]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")


def test_streams_end_with_the_whole_output(engine: AsyncEngine) -> None:
    prompts = [[50 + i, 60, 70 + i] for i in range(6)]

    async def all_of_them() -> list[list[Any]]:
        return await asyncio.gather(*(collect(engine, prompt, SHORT) for prompt in prompts))

    plain = LLM("tiny-random", device="cpu")
    for prompt, events in zip(prompts, asyncio.run(all_of_them()), strict=True):
        *chunks, output = events
        assert isinstance(output, RequestOutput)
        assert [token for chunk in chunks for token in chunk.token_ids] == output.token_ids
        assert "".join(chunk.text for chunk in chunks) == output.text
        assert output.token_ids == plain.generate(prompt, SHORT).token_ids


def test_n_outputs_come_over_one_stream(engine: AsyncEngine) -> None:
    params = SamplingParams(seed=1, max_tokens=5, ignore_eos=True, n=3)
    events = asyncio.run(collect(engine, [50, 51], params))
    outputs = [event for event in events if isinstance(event, RequestOutput)]
    assert sorted(output.index for output in outputs) == [0, 1, 2]
    for output in outputs:
        chunks = [event for event in events if isinstance(event, OutputChunk) and event.index == output.index]
        assert [token for chunk in chunks for token in chunk.token_ids] == output.token_ids


async def leave_while_waiting(engine: AsyncEngine) -> None:
    others = [asyncio.create_task(collect(engine, [40 + i], LONG)) for i in range(3)]
    task = asyncio.create_task(collect(engine, [90] * 1000, SHORT))
    await asyncio.sleep(0)
    task.cancel()
    for other in others:
        other.cancel()


async def leave_while_prefilling(engine: AsyncEngine) -> None:
    task = asyncio.create_task(collect(engine, [90] * 1500, SHORT))
    await until(lambda: any(0 < r.num_computed_tokens < 1500 for r in requests_of(engine)))
    task.cancel()


async def leave_while_decoding(engine: AsyncEngine) -> None:
    async for event in engine.generate([90] * 10, LONG):
        assert isinstance(event, OutputChunk)
        break


async def leave_after_the_end(engine: AsyncEngine) -> None:
    async for event in engine.generate([90] * 10, SHORT):
        if isinstance(event, RequestOutput):
            break


def requests_of(engine: AsyncEngine) -> list[Any]:
    return [item.request for item in list(engine.engine._sequences.values())]


@pytest.mark.parametrize(
    "leave", [leave_while_waiting, leave_while_prefilling, leave_while_decoding, leave_after_the_end]
)
def test_who_leaves_gives_the_blocks_back_once(
    engine: AsyncEngine, leave: Callable[[AsyncEngine], Awaitable[None]]
) -> None:
    async def scene() -> None:
        await leave(engine)
        await until(lambda: not engine.engine.has_unfinished)
        await collect(engine, [50], SHORT)

    asyncio.run(scene())
    engine.engine.kv.check_integrity()
    assert engine.engine.kv.usage().referenced == 0


def test_too_many_waiting_requests_are_refused_and_the_others_served() -> None:
    config = EngineConfig(device="cpu", max_num_seqs=1, max_num_waiting=2)
    engine = AsyncEngine(Engine("tiny-random", config))

    async def scene() -> list[Any]:
        return await asyncio.gather(*(collect(engine, [40 + i], SHORT) for i in range(12)), return_exceptions=True)

    results = asyncio.run(scene())
    refused = [result for result in results if isinstance(result, EngineOverloadedError)]
    assert refused
    assert all(isinstance(result[-1], RequestOutput) for result in results if result not in refused)
    assert len(refused) < 12
    engine.close()


def test_what_cannot_be_served_is_said_before_anything_runs(engine: AsyncEngine) -> None:
    with pytest.raises(InvalidRequestError, match="empty"):
        asyncio.run(collect(engine, [], SHORT))
    assert not engine.engine.has_unfinished


def test_closing_lets_what_runs_finish() -> None:
    engine = AsyncEngine(Engine("tiny-random", EngineConfig(device="cpu")))

    async def scene() -> list[Any]:
        task = asyncio.create_task(collect(engine, [50], SamplingParams(max_tokens=40, ignore_eos=True)))
        await until(lambda: engine.engine.has_unfinished)
        left = await asyncio.to_thread(engine.close, 60.0)
        assert left == []
        return await task

    assert len(asyncio.run(scene())[-1].token_ids) == 40


def test_closing_at_once_returns_what_was_running() -> None:
    engine = AsyncEngine(Engine("tiny-random", EngineConfig(device="cpu")))

    async def scene() -> None:
        task = asyncio.create_task(collect(engine, [50, 51], LONG))
        await until(lambda: any(r.num_tokens > 4 for r in requests_of(engine)))
        (left,) = await asyncio.to_thread(engine.close)
        assert left.prompt_token_ids == [50, 51]
        assert left.num_tokens > 4
        with pytest.raises(EngineStoppedError):
            await task
        with pytest.raises(EngineStoppedError):
            await collect(engine, [50], SHORT)

    asyncio.run(scene())
    assert engine.engine.kv.usage().referenced == 0
    assert engine.close() == []
