"""Requests that share a server, clients that go away, and a server that stops."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any, ClassVar

import openai
import pytest
from serving import MODEL, WatchedSampler, connect, wait_until
from torch import Tensor

from minillm.engine import LLM, AsyncEngine, OutputChunk, RequestOutput
from minillm.errors import MinillmError
from minillm.sampling import SamplingMetadata, SamplingParams
from minillm.server import LocalServer

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
LONG: dict[str, Any] = {
    "model": MODEL,
    "messages": HELLO,
    "max_tokens": 1900,
    "logprobs": True,  # so that every token sends something
    "extra_body": {"ignore_eos": True},
}
SHORT: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 2}


def comes_to_rest(sampler: WatchedSampler) -> bool:
    """Whether no token has been sampled for a while."""
    seen = [-1]

    def still() -> bool:
        before, seen[0] = seen[0], sampler.num_calls
        return before == seen[0] and not wait_until(lambda: sampler.num_calls > seen[0], 0.3)

    return wait_until(still)


# -- sharing ----------------------------------------------------------------------------------------------------


def test_requests_advance_together_token_by_token() -> None:
    class Counting(WatchedSampler):
        num_rows: ClassVar[list[int]] = []

        def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
            self.num_rows.append(len(logits))
            return super().sample(logits, metadata)

    sampler = Counting()
    sampler.gate.clear()  # no token before all of them are there
    engine = AsyncEngine(LLM(MODEL, sampler=sampler).engine)

    async def run(index: int) -> RequestOutput:
        params = SamplingParams(seed=index, max_tokens=3 + index, ignore_eos=True)
        async for event in engine.generate([65 + index], params):
            if isinstance(event, RequestOutput):
                return event
        raise AssertionError("the stream ended without an output")

    async def run_all() -> list[RequestOutput]:
        tasks = [asyncio.create_task(run(index)) for index in range(8)]
        await asyncio.sleep(0.05)
        sampler.gate.set()
        return await asyncio.gather(*tasks)

    outputs = asyncio.run(run_all())
    engine.close()
    assert [len(output.token_ids) for output in outputs] == [3 + index for index in range(8)]
    # The first step may have begun with only some of them; from the second on, nobody is left out.
    late = sampler.num_rows[1:]
    assert late[0] in (7, 8)
    assert late == sorted(late, reverse=True) or late[:2] == [7, 8]
    assert len(sampler.num_rows) <= 11


def test_a_seeded_answer_does_not_depend_on_who_shares_the_server() -> None:
    tiny = LLM(MODEL)
    alone = tiny.generate([65, 66], SamplingParams(seed=5, max_tokens=12, ignore_eos=True)).token_ids
    engine = AsyncEngine(tiny.engine)

    async def tokens(seed: int) -> list[int]:
        params = SamplingParams(seed=seed, max_tokens=12, ignore_eos=True)
        events = [event async for event in engine.generate([65, 66], params)]
        return [token for event in events if isinstance(event, OutputChunk) for token in event.token_ids]

    async def together() -> list[list[int]]:
        return await asyncio.gather(*(tokens(seed) for seed in (3, 5, 8)))

    assert asyncio.run(together())[1] == alone
    engine.close()


def test_two_servers_at_once() -> None:
    tiny = LLM(MODEL)
    with LocalServer(tiny) as first, LocalServer(tiny) as second:
        assert first.base_url != second.base_url
        with connect(first) as one, connect(second) as other:
            answers = [client.chat.completions.create(**SHORT, temperature=0) for client in (one, other)]
        assert answers[0].choices == answers[1].choices
        first.stop()
        with connect(second) as other:
            assert other.chat.completions.create(**SHORT).choices


# -- clients that go away ---------------------------------------------------------------------------------------


def test_a_stream_that_is_closed_stops_computing() -> None:
    sampler = WatchedSampler(delay=0.002)
    with LocalServer(LLM(MODEL, sampler=sampler)) as server, connect(server) as client:
        stream = client.chat.completions.create(**LONG, stream=True)
        for _, _ in zip(range(4), stream, strict=False):
            pass
        stream.close()
        assert comes_to_rest(sampler)
        assert sampler.num_calls < 1900
        assert client.chat.completions.create(**SHORT).choices


def test_a_whole_request_that_is_given_up_stops_computing() -> None:
    sampler = WatchedSampler(delay=0.002)
    with LocalServer(LLM(MODEL, sampler=sampler)) as server:
        with connect(server, timeout=0.3) as hasty, pytest.raises(openai.APITimeoutError):
            hasty.chat.completions.create(**LONG)
        assert comes_to_rest(sampler)
        assert sampler.num_calls < 1900
        with connect(server) as client:
            assert client.chat.completions.create(**SHORT).choices


def test_one_that_goes_away_does_not_disturb_the_others() -> None:
    sampler = WatchedSampler(delay=0.002)
    with LocalServer(LLM(MODEL, sampler=sampler)) as server, connect(server) as client:
        request: Any = LONG | {"max_tokens": 40, "seed": 1}
        alone = client.chat.completions.create(**request).choices[0].message.content
        leaving = client.chat.completions.create(**LONG, stream=True)
        staying = client.chat.completions.create(**request, stream=True)
        next(iter(leaving))
        leaving.close()
        assert "".join(chunk.choices[0].delta.content or "" for chunk in staying) == alone


# -- stopping ---------------------------------------------------------------------------------------------------


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("minillm-")}


def test_stopping_is_clean_and_can_be_repeated() -> None:
    before = threading.active_count()
    server = LocalServer(LLM(MODEL))
    with connect(server) as client:
        client.chat.completions.create(**SHORT)
        server.stop()
        server.stop()
        with pytest.raises(openai.APIConnectionError):
            client.chat.completions.create(**SHORT)
    assert wait_until(lambda: threading.active_count() <= before)


def test_a_stopped_server_lets_go_of_its_engine() -> None:
    llm = LLM(MODEL)
    engine = weakref.ref(llm.engine)
    with LocalServer(llm) as server, connect(server) as client:
        client.chat.completions.create(**SHORT)
    del llm, client

    def is_gone() -> bool:
        gc.collect()
        return engine() is None

    assert wait_until(is_gone)  # and with it a gigabyte of keys and values


def test_the_port_is_free_again() -> None:
    tiny = LLM(MODEL)
    with LocalServer(tiny) as first, connect(first) as client:
        client.chat.completions.create(**SHORT)
        port = int(first.base_url.removesuffix("/v1").rpartition(":")[2])
    with LocalServer(tiny, port=port) as second, connect(second) as client:
        assert client.chat.completions.create(**SHORT).choices


def test_stopping_ends_a_running_stream_with_an_error() -> None:
    sampler = WatchedSampler(delay=0.005)
    server = LocalServer(LLM(MODEL, sampler=sampler))
    with connect(server) as client:
        stream = iter(client.chat.completions.create(**LONG, stream=True))
        for _ in range(3):
            next(stream)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        with pytest.raises(openai.APIError, match="The server was stopped"):
            for _ in stream:
                pass
        stopping.join(timeout=30)
    assert not stopping.is_alive()
    assert sampler.num_calls < 1900


def test_a_closed_engine_refuses_at_once() -> None:
    engine = AsyncEngine(LLM(MODEL).engine)
    engine.close()
    engine.close()

    async def ask() -> None:
        async for _ in engine.generate([65], SamplingParams()):
            pass

    with pytest.raises(MinillmError, match="The server was stopped"):
        asyncio.run(asyncio.wait_for(ask(), 10))
