"""A trace says what happened in each step, in files as in memory, and never grows without end."""

from __future__ import annotations

import json
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from traced import simulate

from minillm.engine.trace import TraceError, Tracer, request_phases

TRACER = simulate(abort=1)
STEPS = TRACER.steps


def test_each_request_computes_all_of_its_tokens_once_unless_preempted() -> None:
    preempted = {name for step in STEPS for name in step.preempted}
    assert preempted  # else this run shows nothing of it
    done: dict[str, int] = {}
    for step in STEPS:
        for name in step.preempted:
            done.pop(name)
        for item in step.scheduled:
            expected = done.get(item.request_id)
            assert expected is None or item.num_computed_before == expected
            done[item.request_id] = item.num_computed_before + item.num_new_tokens
            assert done[item.request_id] <= min(item.num_tokens, 16 * len(item.block_ids))


def test_the_blocks_of_a_step_add_up_to_the_pool() -> None:
    for step in STEPS:
        held = {block for item in step.scheduled for block in item.block_ids}
        held |= {block for blocks in step.idle.values() for block in blocks}
        assert step.cached_block_ids is not None
        assert len(held) == step.kv.referenced
        assert len(step.cached_block_ids) == step.kv.cached
        assert held.isdisjoint(step.cached_block_ids)
    assert STEPS[-1].kv.referenced > 0
    assert STEPS[-1].kv_after.referenced == 0


def test_running_requests_without_a_part_in_a_step_keep_their_blocks_in_it() -> None:
    steps = simulate(budget=20, num_blocks=40, max_num_seqs=4).steps
    idle = [step for step in steps if step.idle]
    assert idle
    for step in idle:
        assert not set(step.idle) & {item.request_id for item in step.scheduled}


def test_everybody_arrives_once_and_leaves_once_with_a_reason() -> None:
    arrived = [name for step in STEPS for name in step.arrived]
    finished = {name: reason for step in STEPS for name, reason in step.finished.items()}
    assert arrived == [f"request-{i}" for i in range(8) if f"request-{i}" in finished]
    assert sum(len(step.finished) for step in STEPS) == len(finished)
    assert finished["request-1"] == "abort"
    assert set(finished.values()) == {"abort", "length"}
    assert STEPS[-1].num_running == STEPS[-1].num_waiting == 0


def test_the_parts_of_a_step_take_no_longer_than_all_of_it() -> None:
    for step in STEPS:
        parts = step.schedule_seconds + step.forward_seconds + step.sample_seconds
        assert 0 < parts < step.total_seconds
        assert step.end == pytest.approx(step.start + step.total_seconds)
    assert STEPS[0].forward_seconds == pytest.approx(0.7 * STEPS[0].total_seconds)


def test_only_the_last_steps_are_kept() -> None:
    assert simulate(limit=5, abort=1).steps == STEPS[-5:]
    with pytest.raises(TraceError, match="at least 1 step"):
        Tracer(0)


def test_tables_that_did_not_change_are_kept_once() -> None:
    tables = [item.block_ids for step in STEPS for item in step.scheduled]
    assert len({id(table) for table in tables}) < len(tables) / 4


@pytest.mark.parametrize("cached_blocks", [True, False])
def test_json_gives_back_the_same_trace(tmp_path: Path, cached_blocks: bool) -> None:
    tracer = simulate(cached_blocks=cached_blocks)
    assert (tracer.steps[9].cached_block_ids is None) is not cached_blocks
    text = tracer.to_json(tmp_path / "trace.json")
    for source in (text, tmp_path / "trace.json"):
        read = Tracer.from_json(source)
        assert read.steps == tracer.steps
        assert (read.fingerprint, read.limit) == ("simulated", 2_000)
    assert json.loads(text)["steps"][0]["scheduled"][0]["request_id"] == "request-0"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fingerprint": "", "limit": 3, "steps": [{}]}', "trace.json"])
def test_what_is_no_trace_is_refused_in_words(text: str) -> None:
    with pytest.raises(TraceError, match=r"not a trace.*to_json"):
        Tracer.from_json(text)


def chrome() -> dict[str, Any]:
    return json.loads(TRACER.to_chrome_trace())


def test_chromes_format_has_the_fields_that_viewers_need() -> None:
    content = chrome()
    assert content["displayTimeUnit"] == "ms"
    for event in content["traceEvents"]:
        assert event["ph"] in {"X", "M", "C"}
        assert isinstance(event["name"], str)
        assert {type(event["pid"]), type(event["tid"])} == {int}
        assert event["ts"] >= 0
        if event["ph"] == "X":
            assert event["dur"] >= 0
        if event["ph"] == "C":
            assert event["args"] and all(isinstance(value, int) for value in event["args"].values())


def test_chromes_trace_has_a_row_for_the_engine_and_one_per_request() -> None:
    events = chrome()["traceEvents"]
    rows = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert [rows[row] for row in sorted(rows)] == ["engine", *request_phases(STEPS)]
    slices = [event for event in events if event["ph"] == "X"]
    assert sum(event["name"].startswith("step ") for event in slices) == len(STEPS)
    assert {e["name"].split()[0] for e in slices if e["tid"]} == {"waiting", "prefill", "decode", "preempted"}
    # In one row, slices follow each other or lie within each other.
    for row in list(rows)[1:]:
        lane = sorted((e for e in slices if e["tid"] == row), key=lambda e: e["ts"])
        for one, other in pairwise(lane):
            assert one["ts"] + one["dur"] <= other["ts"] + 1e-3


def test_parts_of_a_step_lie_within_it() -> None:
    first, *parts = [e for e in chrome()["traceEvents"] if e["ph"] == "X" and e["tid"] == 0][:4]
    assert [part["name"] for part in parts] == ["schedule", "forward", "sample"]
    assert all(first["ts"] <= part["ts"] and part["ts"] + part["dur"] <= first["ts"] + first["dur"] for part in parts)


def test_an_empty_trace_can_be_written() -> None:
    assert Tracer.from_json(Tracer().to_json()).steps == []
    assert [e["ph"] for e in json.loads(Tracer().to_chrome_trace())["traceEvents"]] == ["M", "M", "M"]


def test_phases_cover_a_life_from_arrival_to_end() -> None:
    phases = request_phases(STEPS)
    arrived = {name: at for step in STEPS for name, at in step.arrived.items()}
    for name, lane in phases.items():
        assert lane[0].kind == "waiting"
        assert lane[0].start == arrived[name]
        assert all(one.end_step <= other.first_step for one, other in pairwise(lane))
        computed = sum(p.num_tokens for p in lane)
        assert computed == sum(i.num_new_tokens for s in STEPS for i in s.scheduled if i.request_id == name)
    preempted = [(name, step.step) for step in STEPS for name in step.preempted]
    found = [(name, p.first_step) for name, lane in phases.items() for p in lane if p.kind == "preempted"]
    assert sorted(found) == sorted(preempted)


def test_one_that_leaves_while_it_waits_has_waited_only_until_then() -> None:
    steps = simulate(max_num_seqs=1, abort=2).steps
    (lane,) = [request_phases(steps)["request-2"]]
    assert [(phase.kind, phase.first_step, phase.end_step) for phase in lane] == [("waiting", 4, 7)]


def test_steps_can_be_read_while_the_engine_writes() -> None:
    tracer = Tracer(limit=50)
    errors: list[BaseException] = []

    def write() -> None:
        for step in STEPS * 200:
            tracer.add(step)

    def read() -> None:
        try:
            while writer.is_alive():
                steps = [step.step for step in tracer.steps]
                assert all(other in (one + 1, 0) for one, other in pairwise(steps))  # it starts anew at 0
        except BaseException as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    reader = threading.Thread(target=read)
    for thread in (writer, reader):
        thread.start()
    for thread in (writer, reader):
        thread.join()
    assert not errors
    assert len(tracer.steps) == 50
