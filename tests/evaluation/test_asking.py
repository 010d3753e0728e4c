"""Many requests to a real server: in order, as many as it takes, again after an interruption."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest
from torch import Tensor

from minillm.engine import LLM
from minillm.evaluation import (
    Connection,
    DatasetError,
    EvaluationError,
    Example,
    Journal,
    Prompt,
    Reply,
    ServerError,
    ask_all,
    ask_all_and_wait,
    evaluate,
    read_result,
    wait_for,
)
from minillm.evaluation.connection import LOCAL
from minillm.evaluation.journal import partial_path
from minillm.evaluation.limiting import AdaptiveLimit
from minillm.sampling import FilteringSampler, SamplingMetadata
from minillm.server import LocalServer
from minillm.server.tenants import Tenant, Tenants

MODEL = "tiny-random"


def prompts(number: int, **options: object) -> list[Prompt]:
    return [
        Prompt(f"p{index}", [{"role": "user", "content": f"Tell me about {index}."}], {"max_tokens": 4, **options})
        for index in range(number)
    ]


class HeldSampler(FilteringSampler):
    """The engine's sampler, which counts its steps and stops at a gate after some of them."""

    def __init__(self, *, stops_after: int | None = None) -> None:
        self.num_steps, self.stops_after, self.gate = 0, stops_after, threading.Event()

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        self.num_steps += 1
        if self.stops_after is not None and self.num_steps > self.stops_after:
            self.gate.wait(timeout=60)
        return super().sample(logits, metadata)


class SlowSampler(FilteringSampler):
    """The engine's sampler, which takes its time."""

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        time.sleep(0.02)
        return super().sample(logits, metadata)


def test_replies_come_in_order_and_are_those_of_single_requests(connection: Connection) -> None:
    asked = prompts(9, temperature=0)
    told: list[tuple[int, int, int]] = []
    replies = ask_all_and_wait(connection, asked, start=2, progress=lambda *numbers: told.append(numbers))
    assert [reply.id for reply in replies] == [prompt.id for prompt in asked]
    alone = [ask_all_and_wait(connection, [prompt])[0].text for prompt in asked[:2]]
    assert [reply.text for reply in replies[:2]] == alone
    assert all(reply.error is None and reply.completion_tokens and reply.prompt_tokens for reply in replies)
    assert [done for done, _, _ in told] == list(range(10)) and {total for _, total, _ in told} == {9}
    assert told[0][2] == 2 < told[-1][2]  # it dared more as answers came


def test_it_works_where_a_loop_runs_already(connection: Connection) -> None:
    async def as_in_a_notebook() -> tuple[list[Reply], list[Reply]]:
        return await ask_all(connection, prompts(1)), ask_all_and_wait(connection, prompts(1))

    awaited, waited = asyncio.run(as_in_a_notebook())
    assert awaited[0].id == waited[0].id == "p0"

    async def fails_where_a_loop_runs() -> None:
        wait_for(ask_all(connection, [*prompts(1), *prompts(1)]))

    with pytest.raises(EvaluationError, match="Two prompts have one id"):
        asyncio.run(fails_where_a_loop_runs())


def test_an_overloaded_server_gets_fewer_at_once_and_answers_all() -> None:
    """Two may wait and one runs, while sixteen are sent at once: most get a 429 first."""
    llm = LLM(MODEL, device="cpu", max_num_seqs=1, max_num_waiting=2)
    limits: list[int] = []
    with LocalServer(llm) as server:
        connection = Connection(server.base_url, MODEL, through_proxy=False)
        replies = ask_all_and_wait(
            connection, prompts(16), start=16, maximum=16, progress=lambda _done, _total, limit: limits.append(limit)
        )
    assert [reply.id for reply in replies] == [f"p{index}" for index in range(16)]
    assert all(reply.error is None and reply.text is not None for reply in replies)
    assert limits[0] == 16 and min(limits) < 16


def test_a_tenants_limit_counts_as_full() -> None:
    tenants = Tenants({"sk-ann": Tenant("ann", max_requests=2)})
    with LocalServer(LLM(MODEL, device="cpu"), tenants=tenants) as server:
        connection = Connection(server.base_url, MODEL, "sk-ann", through_proxy=False)
        replies = ask_all_and_wait(connection, prompts(5), start=5)
        assert [reply.error for reply in replies] == [None] * 5
        with pytest.raises(ServerError, match="wants another key: set OPENAI_API_KEY"):
            ask_all_and_wait(Connection(server.base_url, MODEL, "sk-bob", through_proxy=False), prompts(1))


def test_a_server_that_stays_full_isnt_waited_for_for_ever() -> None:
    llm = LLM(MODEL, device="cpu", sampler=SlowSampler(), max_num_seqs=1, max_num_waiting=1)
    long = prompts(6, max_tokens=1000, extra_body={"ignore_eos": True})
    with LocalServer(llm) as server:
        connection = Connection(server.base_url, MODEL, through_proxy=False)
        with pytest.raises(ServerError, match=r"no answer for \d+ s, only: .* requests are waiting"):
            ask_all_and_wait(connection, long, start=6, patience=0.5)


def test_a_request_of_its_own_fault_becomes_a_reply_with_the_error(connection: Connection) -> None:
    replies = ask_all_and_wait(connection, [*prompts(1), Prompt("bad", [{"role": "user", "content": "x" * 200_000}])])
    assert [reply.error is None for reply in replies] == [True, False]
    assert replies[1].finish_reason == "error" and "token" in str(replies[1].error)


def test_what_would_fail_for_all_is_raised(connection: Connection, server: LocalServer) -> None:
    with pytest.raises(ServerError, match="doesn't have the model 'nobody'"):
        ask_all_and_wait(Connection(server.base_url, "nobody", through_proxy=False), prompts(3))
    nowhere = Connection("http://127.0.0.1:1/v1", MODEL, through_proxy=False)
    with pytest.raises(
        ServerError, match=r"No server answers at http://127\.0\.0\.1:1/v1\. Start one with: minillm ser"
    ):
        ask_all_and_wait(nowhere, prompts(3))


def test_the_environment_names_the_server(monkeypatch: pytest.MonkeyPatch, server: LocalServer) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "MINILLM_MODEL"):
        monkeypatch.delenv(name, raising=False)
    assert Connection.from_environment("mine") == Connection(LOCAL, "mine", through_proxy=False)
    monkeypatch.setattr("minillm.evaluation.connection.LOCAL", server.base_url)
    assert Connection.from_environment().model == MODEL  # the server's first
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere.example/v1")
    with pytest.raises(ServerError, match="MINILLM_MODEL isn't set"):
        Connection.from_environment()
    monkeypatch.setenv("MINILLM_MODEL", "big")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    assert Connection.from_environment() == Connection("http://elsewhere.example/v1", "big", "sk-1")


def test_the_limit_grows_by_one_a_round_and_halves_once() -> None:
    async def scenario() -> list[float]:
        limit, seen = AdaptiveLimit(4, 6), []
        for _ in range(2):  # two rounds of as many as may be in flight
            places = [await limit.acquire() for _ in range(int(limit.value))]
            for place in places:
                await limit.release(place, succeeded=True)
            seen.append(limit.value)
        places = [await limit.acquire() for _ in range(6)]
        for place in places:  # one overload, told six times
            await limit.release(place, retry_after=0.0)
        seen.append(limit.value)
        for _ in range(4):
            await limit.release(await limit.acquire(), retry_after=0.0)
        return [*seen, limit.value, limit.in_flight, limit.num_overloads]

    first, second, halved, last, in_flight, num_overloads = asyncio.run(scenario())
    assert 4.9 <= first <= 5 and 5.8 <= second <= 6 and halved == second / 2
    assert (last, in_flight, num_overloads) == (1.0, 0, 10)


def test_everyone_waits_as_long_as_the_server_asks() -> None:
    async def scenario() -> float:
        limit = AdaptiveLimit(2, 2)
        await limit.release(await limit.acquire(), retry_after=0.2)
        began = time.monotonic()
        await limit.acquire()
        return time.monotonic() - began

    assert asyncio.run(scenario()) >= 0.19  # a wait that was asked for, not a speed


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """The engine holds in the middle of the run, which is given up; the second run asks for the rest only."""
    examples = [Example(f"e{index}", f"Is {index} even?", ("yes",)) for index in range(8)]
    output, sampler = tmp_path / "result.json", HeldSampler(stops_after=10)
    options = {"max_tokens": 2, "extra_body": {"ignore_eos": True}}
    with LocalServer(LLM(MODEL, device="cpu", sampler=sampler)) as server:
        connection = Connection(server.base_url, MODEL, through_proxy=False)

        async def interrupted() -> None:
            run = asyncio.create_task(evaluate(connection, examples, ["f1"], options=options, output=output, maximum=1))
            while sampler.num_steps <= 10:
                await asyncio.sleep(0.01)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run

        asyncio.run(interrupted())
        # Ten steps made five answers of two tokens.
        assert not output.exists() and len(partial_path(output).read_text().splitlines()) == 5
        with partial_path(output).open("a") as journal:
            journal.write('{"key": "torn')
        sampler.stops_after = None
        sampler.gate.set()
        before, told = sampler.num_steps, list[int]()
        again = evaluate(
            connection, examples, ["f1"], options=options, output=output, progress=lambda done, *_: told.append(done)
        )
        result = asyncio.run(again)
        assert told == [5, 6, 7, 8]
        assert sampler.num_steps - before <= 2 * 3 + 2  # three answers, and the end of the one that was given up
    assert [each.id for each in result.examples] == [f"e{index}" for index in range(8)]
    assert read_result(output) == result and not partial_path(output).exists()


def test_a_server_that_dies_leaves_what_it_answered(tmp_path: Path) -> None:
    server = LocalServer(LLM(MODEL, device="cpu"))
    connection = Connection(server.base_url, MODEL, through_proxy=False)

    def stop(done: int, _total: int, _limit: int) -> None:
        if done == 2:
            server.stop()

    with Journal(tmp_path / "journal.jsonl") as journal:
        with pytest.raises(ServerError, match="No server answers"):
            ask_all_and_wait(connection, prompts(5), start=1, maximum=1, journal=journal, progress=stop)
        kept = [journal.path.read_text()]
    assert kept[0].count("\n") == 2


def test_a_journal_of_other_requests_isnt_used(tmp_path: Path, connection: Connection) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        ask_all_and_wait(connection, prompts(2), journal=journal)
    with Journal(tmp_path / "journal.jsonl") as journal:
        same, other = prompts(1)[0], prompts(1, max_tokens=5)[0]
        assert journal.get(same.key(connection)) is not None
        assert journal.get(other.key(connection)) is None
        assert journal.get(same.key(Connection(connection.base_url, "another"))) is None
        journal.add("key", Reply("p", "", "error", error="it broke"))
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == 2  # an error is asked for again


def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"id": "mine"}\n')
    with pytest.raises(DatasetError, match=r"journal\.jsonl, line 1: not what a run leaves"):
        Journal(path)
    assert path.read_text() == '{"id": "mine"}\n'
    with pytest.raises(DatasetError, match="can't be used"):
        Journal(tmp_path)
