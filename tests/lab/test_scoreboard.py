"""The scoreboard: the workload, what counts as a row, the file, the table and the figure."""

from __future__ import annotations

import json
import math
import mmap
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.lab.scoreboard import (
    OUTPUT_TOKENS,
    QUESTIONS,
    Metrics,
    Record,
    Row,
    Scoreboard,
    ScoreboardError,
    ScoreboardWarning,
    Workload,
    WorkloadRequest,
    WrongTokensError,
    percentile,
)


class Letters:
    """A tokenizer whose tokens are code points."""

    has_chat_template = True

    def encode(self, text: str) -> list[int]:
        return [ord(c) for c in text]

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        return "".join(chr(i) for i in token_ids)

    def apply_chat_template(self, messages: Sequence[Mapping[str, Any]], /) -> list[int]:
        return self.encode("".join(f"<{m['role']}>{m['content']}" for m in messages) + "<assistant>")


class Alphabet:
    """A model whose next token is the next letter."""

    tokenizer = Letters()
    model_name = "alphabet"
    fingerprint = "abc"


def next_letter(tokens: Sequence[int]) -> int:
    return ord("a") + (tokens[-1] + 1) % 26


def serve(requests: Sequence[WorkloadRequest], record: Record) -> None:
    for request in requests:
        tokens = request.prompt_token_ids
        for _ in range(request.max_tokens):
            tokens.append(next_letter(tokens))
            record(request.index, tokens[-1])


def serve_batched(requests: Sequence[WorkloadRequest], record: Record) -> None:
    for _ in range(requests[0].max_tokens):
        for request in requests:
            request.prompt_token_ids.append(next_letter(request.prompt_token_ids))
            record(request.index, request.prompt_token_ids[-1])


@pytest.fixture
def board(tmp_path: Path) -> Scoreboard:
    return Scoreboard(tmp_path / "home" / "scoreboard.jsonl")


def measure(board: Scoreboard, lesson: str = "01", name: str = "naive loop", **options: Any) -> Row:
    arguments: dict[str, Any] = {"serve": serve, "llm": Alphabet()} | options
    return board.measure(lesson=lesson, name=name, **arguments)


# -------------------------------------------------------------------------------------------------- workload


def test_the_workload_is_eight_requests_with_one_beginning() -> None:
    workload = Workload.for_tokenizer(Letters())
    prompts = [request.prompt_token_ids for request in workload.requests]
    assert [request.index for request in workload.requests] == list(range(8))
    assert {request.max_tokens for request in workload.requests} == {OUTPUT_TOKENS}
    assert len(set(QUESTIONS)) == 8
    beginning = [tokens for tokens in zip(*prompts, strict=False) if len(set(tokens)) == 1]
    assert len(beginning) > 100
    assert len({len(prompt) for prompt in prompts}) == 8
    assert workload == Workload.for_tokenizer(Letters())


def test_a_model_without_a_chat_template_gets_plain_text() -> None:
    class Plain(Letters):
        has_chat_template = False

    workload = Workload.for_tokenizer(Plain())
    assert Letters().decode(workload.requests[0].prompt_token_ids).endswith("How long may I keep a book?\nAnswer:")
    assert workload.digest != Workload.for_tokenizer(Letters()).digest


# --------------------------------------------------------------------------------------------------- measure


def test_a_row_has_everything_that_is_needed_to_compare_it(board: Scoreboard) -> None:
    row = measure(board)
    assert board.rows() == [row]
    assert [len(tokens) for tokens in row.token_ids] == [OUTPUT_TOKENS] * 8
    assert [len(times) for times in row.token_times] == [OUTPUT_TOKENS] * 8
    assert all(times == sorted(times) for times in row.token_times)
    assert (row.model, row.fingerprint, row.lesson, row.name) == ("alphabet", "abc", "01", "naive loop")
    assert row.hardware["cores"] >= 1
    assert row.hardware["cpu"]
    assert set(row.versions) == {"python", "torch", "minillm"}
    assert row.metrics.peak_rss_bytes is not None
    assert row.metrics.peak_rss_bytes > 1_000_000


def test_the_metrics_are_those_of_the_raw_samples() -> None:
    metrics = Metrics.from_times([[1.0, 2.0, 4.0], [3.0, 3.5, 5.0]])
    assert metrics.total_seconds == 5.0
    assert metrics.tokens_per_second == pytest.approx(6 / 5)
    assert metrics.ttft_p50 == pytest.approx(2.0)
    assert metrics.ttft_p95 == pytest.approx(2.9)
    assert metrics.tpot_p50 == pytest.approx(1.25)
    assert metrics.tpot_p95 == pytest.approx(1.475)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), st.sampled_from([0, 50, 95, 99, 100]))
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)))
    assert math.isnan(percentile([], percent))


def test_times_count_from_the_start_of_all_requests(board: Scoreboard) -> None:
    def slow_second(requests: Sequence[WorkloadRequest], record: Record) -> None:
        serve(requests[:1], record)
        time.sleep(0.05)
        serve(requests[1:], record)

    row = measure(board, serve=slow_second)
    assert row.token_times[1][0] >= 0.05 > row.token_times[0][0]
    assert row.metrics.total_seconds >= 0.05


def test_memory_that_is_given_back_within_the_run_is_seen(board: Scoreboard) -> None:
    resident: list[int] = []

    def hungry(requests: Sequence[WorkloadRequest], record: Record) -> None:
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        # Not through malloc, which may have as much memory left from a test before.
        with mmap.mmap(-1, 200_000_000) as block:
            block.write(b"x" * 200_000_000)
        serve(requests, record)

    peak = measure(board, serve=hungry, warm_up=False).metrics.peak_rss_bytes
    assert peak is not None
    assert peak >= resident[0] + 190_000_000


def test_the_warm_up_is_unrelated_and_not_measured(board: Scoreboard) -> None:
    served: list[list[WorkloadRequest]] = []

    def watched(requests: Sequence[WorkloadRequest], record: Record) -> None:
        served.append([replace(r, prompt_token_ids=list(r.prompt_token_ids)) for r in requests])
        serve(requests, record)

    measure(board, serve=watched)
    assert [len(requests) for requests in served] == [1, 8]
    warm, first = served[0][0].prompt_token_ids, served[1][0].prompt_token_ids
    assert warm[:5] != first[:5]
    measure(board, serve=watched, warm_up=False)
    assert [len(requests) for requests in served] == [1, 8, 8]


def test_another_order_of_work_with_the_same_tokens_is_fine(board: Scoreboard) -> None:
    measure(board)
    measure(board, "05", "batched", serve=serve_batched)
    assert [row.name for row in board.rows()] == ["naive loop", "batched"]


def test_other_tokens_get_no_row(board: Scoreboard) -> None:
    measure(board)

    def wrong(requests: Sequence[WorkloadRequest], record: Record) -> None:
        def change(index: int, token: int) -> None:
            counts[index] = counts.get(index, 0) + 1
            record(index, ord("!") if (index, counts[index]) == (3, 6) else token)

        counts: dict[int, int] = {}
        serve(requests, change)

    with pytest.raises(WrongTokensError, match="request 3 differs at output token 5 ") as caught:
        measure(board, "02", "KV cache", serve=wrong)
    assert "produced 33 ('!')" in str(caught.value)
    assert "'01 naive loop', row 1" in str(caught.value)
    assert len(board.rows()) == 1


def test_a_given_reference_goes_before_the_first_row(board: Scoreboard) -> None:
    row = measure(board)
    other = [[0] * OUTPUT_TOKENS for _ in row.token_ids]
    with pytest.raises(WrongTokensError, match=r"request 0 differs at output token 0 .*the given reference"):
        measure(board, reference=other)
    with pytest.raises(ScoreboardError, match=f"the given reference does not have {OUTPUT_TOKENS} tokens"):
        measure(board, reference=row.token_ids[:7])
    measure(board, reference=row.token_ids)


def test_another_fingerprint_has_its_own_reference(board: Scoreboard) -> None:
    class Other(Alphabet):
        fingerprint = "xyz"

    def backwards(requests: Sequence[WorkloadRequest], record: Record) -> None:
        for request in requests:
            for position in range(request.max_tokens):
                record(request.index, position)

    measure(board)
    measure(board, serve=backwards, llm=Other())
    assert len(board.rows()) == 2


def test_missing_tokens_get_no_row(board: Scoreboard) -> None:
    def stops_early(requests: Sequence[WorkloadRequest], record: Record) -> None:
        serve([*requests[:4], replace(requests[4], max_tokens=3), *requests[5:]], record)

    with pytest.raises(ScoreboardError, match=f"Request 4 produced 3 of its {OUTPUT_TOKENS} tokens"):
        measure(board, serve=stops_early, warm_up=False)
    assert board.rows() == []


@pytest.mark.parametrize(
    ("index", "message"), [(8, "numbered 0 to 7"), (-1, "numbered 0 to 7"), (2, f"more than its {OUTPUT_TOKENS}")]
)
def test_records_that_cannot_be_are_refused(board: Scoreboard, index: int, message: str) -> None:
    def too_much(requests: Sequence[WorkloadRequest], record: Record) -> None:
        serve(requests, record)
        record(index, 1)

    with pytest.raises(ScoreboardError, match=message):
        measure(board, serve=too_much)


def test_an_error_of_the_system_passes_through(board: Scoreboard) -> None:
    def broken(requests: Sequence[WorkloadRequest], record: Record) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure(board, serve=broken)
    assert board.rows() == []


# ------------------------------------------------------------------------------------------------------ file


@pytest.mark.parametrize(
    "junk", ["{", "[1]", "{}", "null", '{"lesson": "01"}', "\x00\xff", '{"metrics": {"tokens_per_second": "x"}}']
)
def test_a_broken_line_is_reported_and_skipped(board: Scoreboard, junk: str) -> None:
    row = measure(board)
    with board.path.open("a") as file:
        file.write(junk + "\n")
    second = measure_quietly(board)
    with pytest.warns(ScoreboardWarning, match="line 2 is not a scoreboard row"):
        assert board.rows() == [row, second]


def measure_quietly(board: Scoreboard) -> Row:
    with pytest.warns(ScoreboardWarning):
        return measure(board)


@pytest.mark.parametrize("field", ["metrics", "hardware", "token_ids", "fingerprint", "workload"])
@pytest.mark.parametrize("value", [None, 3, "x", {"a": 1}, [1], [["x"]]])
def test_a_row_with_a_field_of_the_wrong_kind_never_breaks_the_board(
    board: Scoreboard, field: str, value: object
) -> None:
    row = measure(board)
    data = json.loads(board.path.read_text()) | {field: value}
    with board.path.open("a") as file:
        file.write(json.dumps(data) + "\n")
    if (field, type(value)) in [("fingerprint", str), ("workload", str), ("hardware", dict)]:
        assert len(board.rows()) == 2
        assert "naive loop" in str(board.table())
    else:
        with pytest.warns(ScoreboardWarning, match="line 2"):
            assert board.rows() == [row]
        with pytest.warns(ScoreboardWarning):
            assert "naive loop" in str(board.table())


def test_a_line_that_was_cut_off_does_not_spoil_the_next_row(board: Scoreboard) -> None:
    measure(board)
    whole = board.path.read_text()
    board.path.write_text(whole + whole[:100])
    second = measure_quietly(board)
    with pytest.warns(ScoreboardWarning, match="line 2"):
        assert board.rows()[-1] == second


def _measure_many(path: Path, name: str) -> None:
    board = Scoreboard(path)
    for _ in range(5):
        measure(board, name=name, warm_up=False)


def test_two_processes_may_measure_at_once(board: Scoreboard) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_measure_many, args=(board.path, name)) for name in ("a", "b")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(row.name for row in board.rows()) == ["a"] * 5 + ["b"] * 5


def test_a_file_that_cannot_be_written_is_found_out_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    served: list[int] = []
    board = Scoreboard(tmp_path / "file" / "scoreboard.jsonl")
    with pytest.raises(ScoreboardError, match="MINILLM_HOME"):
        measure(board, serve=lambda requests, record: served.append(1))
    assert served == []


def test_the_file_lies_in_minillm_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINILLM_HOME", str(tmp_path / "elsewhere"))
    assert Scoreboard().path == tmp_path / "elsewhere" / "scoreboard.jsonl"


# -------------------------------------------------------------------------------------------- table and figure


def fabricated(lesson: str, name: str, tokens_per_second: float, **changes: Any) -> Row:
    metrics = Metrics(tokens_per_second, 0.5, 2.0, 0.02, 0.04, 192 / tokens_per_second, 10**9)
    hardware = {"cpu": "Test <CPU>", "cores": 2, "memory_bytes": 8 * 10**9, "gpu": None, "system": "Linux"}
    base: dict[str, Any] = {"time": "2026-07-01T00:00:00+00:00", "model": "alphabet", "fingerprint": "abc"}
    base |= {"workload": "w", "seed": 20, "hardware": hardware, "versions": {}, "token_ids": [], "token_times": []}
    return Row(lesson=lesson, name=name, metrics=metrics, **(base | changes))


def store(board: Scoreboard, *rows: Row) -> None:
    board.path.parent.mkdir(parents=True, exist_ok=True)
    board.path.write_text("".join(row.to_json() + "\n" for row in rows), encoding="utf-8")


def test_rows_survive_the_file(board: Scoreboard) -> None:
    row = fabricated("01", "naïve 🐢", 5.0)
    store(board, row)
    assert board.rows() == [row]


def test_measuring_again_replaces_the_place_and_keeps_the_history(board: Scoreboard) -> None:
    store(
        board,
        fabricated("02", "KV cache", 40.0),
        fabricated("01", "naive loop", 5.0),
        fabricated("02", "KV cache", 50.0),
    )
    assert [(row.label, row.metrics.tokens_per_second) for row in board.latest()] == [
        ("01 naive loop", 5.0),
        ("02 KV cache", 50.0),
    ]
    assert len(board.rows()) == 3
    alt = board.waterfall().alt
    assert "01 naive loop: 5 tokens/s; 02 KV cache: 50 tokens/s (×10 the row before)" in alt


def test_other_machines_and_models_are_not_compared(board: Scoreboard) -> None:
    other = fabricated("01", "naive loop", 900.0, hardware={"cpu": "big", "cores": 64, "gpu": "H"})
    store(board, other, fabricated("01", "naive loop", 5.0), fabricated("02", "KV cache", 50.0))
    assert [row.metrics.tokens_per_second for row in board.latest()] == [5.0, 50.0]
    assert "1 rows of other machines or models not shown" in str(board.table())


def test_the_table_shows_the_numbers_with_units(board: Scoreboard) -> None:
    store(board, fabricated("01", "naive <loop>", 5.0))
    table = board.table()
    for shown in ("500 ms", "2 s", "20 ms", "40 ms", "38.4 s", "1.00 GB", "2 cores"):
        assert shown in str(table)
        assert shown in table.html
    assert "naive &lt;loop&gt;" in table.html
    assert "Test &lt;CPU&gt;" in table.html


def test_an_empty_board_says_so(board: Scoreboard) -> None:
    assert str(board.table()) == "The scoreboard is empty."
    with pytest.raises(ScoreboardError, match="empty"):
        board.waterfall()
