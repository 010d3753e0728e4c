"""What the engine shows of its inside, and when."""

from __future__ import annotations

import asyncio

from minillm.engine import LLM, AsyncEngine, OutputChunk
from minillm.engine.engine import Event
from minillm.engine.view import EngineView
from minillm.sampling import SamplingParams

LONG = SamplingParams(max_tokens=20, ignore_eos=True)


def test_an_idle_engine_answers_at_once() -> None:
    views: list[EngineView] = []
    LLM("tiny-random").engine.inspect(views.append)
    assert [view.requests for view in views] == [()]


def test_who_asks_during_a_step_is_answered_when_it_is_over() -> None:
    llm = LLM("tiny-random")
    views: list[EngineView] = []
    seen_at: list[int] = []

    def on_event(event: Event) -> None:
        if isinstance(event, OutputChunk):
            seen_at.append(len(views))
            if len(seen_at) == 5:
                llm.engine.inspect(views.append)
                assert not views

    name = llm.engine.add_request([65] * 20, LONG, on_event, tenant="ann")
    while llm.engine.has_unfinished:
        llm.engine.step()
    assert seen_at[4:7] == [0, 1, 1]
    (request,) = views[0].requests
    assert (request.request_id, request.tenant, request.is_running) == (name, "ann", True)
    assert (request.num_prompt_tokens, request.num_tokens, request.num_computed_tokens) == (20, 25, 24)
    assert len(request.block_ids) == 2
    assert views[0].cached.keys() == {"ann"}
    assert list(views[0].cached["ann"]) == [request.block_ids[0]]
    assert views[0].kv.referenced == 2
    assert request.first_token_at is not None and request.first_token_at > request.arrived_at


def test_a_waiting_request_has_no_blocks_yet() -> None:
    engine = LLM("tiny-random").engine
    engine.add_request([65] * 20, LONG, lambda event: None)
    views: list[EngineView] = []
    engine.inspect(views.append)
    (request,) = views[0].requests
    assert (request.is_running, request.block_ids, request.first_token_at) == (False, (), None)


def test_an_observer_that_fails_disturbs_nobody() -> None:
    llm = LLM("tiny-random")
    views: list[EngineView] = []

    def broken(view: EngineView) -> None:
        raise RuntimeError("it broke")

    def on_event(event: Event) -> None:
        llm.engine.inspect(broken)
        llm.engine.inspect(views.append)

    llm.engine.add_request([65], LONG, on_event)
    while llm.engine.has_unfinished:
        llm.engine.step()
    assert len(views) == 21


def test_coroutines_can_look_while_the_engine_runs() -> None:
    engine = AsyncEngine(LLM("tiny-random").engine)

    async def run() -> list[EngineView]:
        views = []
        async for event in engine.generate([65] * 20, LONG):
            if isinstance(event, OutputChunk):
                views.append(await engine.inspect())
        return views

    views = asyncio.run(run())
    engine.close()
    assert [view.time for view in views] == sorted(view.time for view in views)
    assert len(views[0].requests) == 1
    assert asyncio.run(engine.inspect()).requests == ()  # also when its thread has ended
