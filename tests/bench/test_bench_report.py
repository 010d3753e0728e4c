"""Whole measurements, on the tiny model: what is in a report, and what its ratio is."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from minillm import LLM
from minillm.bench.baseline import Transformers
from minillm.bench.measure import run_part
from minillm.bench.paging import ONE_BLOCK, PAGED, PYTORCH
from minillm.bench.report import Report, measure
from minillm.bench.workloads import TEXT, Part, build_workload
from minillm.errors import MinillmError

ABOUT = {
    "workload", "digest", "seed", "repeat", "time", "model", "fingerprint", "dtype", "kv_cache_dtype", "quantization",
    "device", "kernels", "attention_backend", "engine", "hardware", "threads", "versions", "memory_bandwidth",
    "weight_bytes", "kv_bytes_per_token", "loading_peak_rss_bytes", "parts",
}  # fmt: skip
PART = {
    "name", "num_requests", "prompt_tokens", "output_tokens", "tokens_per_second", "decode_tokens_per_second",
    "prefill_tokens_per_second", "time_to_first_token", "time_per_output_token", "total_seconds", "gb_per_second",
    "bandwidth_share", "scheduling_share", "cached_tokens", "peak_rss_bytes", "peak_gpu_bytes", "repetitions",
    "samples",
}  # fmt: skip


def printed(report: Report) -> str:
    console = Console(file=io.StringIO(), width=120)
    report.print(console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_report_has_the_promised_fields_and_no_ratio_where_nothing_is_compared() -> None:
    content = measure("batch", "tiny-random", batch_size=3, repeat=2, device="cpu").content
    assert set(content) == ABOUT
    (part,) = content["parts"]
    assert set(part) == PART
    assert part["num_requests"] == 3
    assert part["prompt_tokens"] == part["output_tokens"] == 3 * 128
    assert [[len(times) for times in each] for each in part["samples"]] == [[128] * 3] * 2
    assert part["cached_tokens"] == 0  # neither repetition nor warm-up left anything to find
    assert part["tokens_per_second"] == min(each["tokens_per_second"] for each in part["repetitions"])
    assert 0 < part["scheduling_share"] < 1
    assert part["decode_tokens_per_second"] > 0 and part["prefill_tokens_per_second"] > 0


def test_a_shared_prefix_is_found_when_it_is_warm() -> None:
    report = measure("shared-prefix", "tiny-random", device="cpu")
    cold, warm = report.content["parts"]
    assert cold["cached_tokens"] == 0
    assert warm["cached_tokens"] == 4 * 896  # the whole blocks of 900
    ratio = cold["time_to_first_token"]["p50"] / warm["time_to_first_token"]["p50"]
    assert report.content["ratio"] == pytest.approx(ratio)
    assert "cold over warm" in printed(report)


def test_paging_compares_three_ways_that_come_to_the_same_tokens() -> None:
    report = measure("paging", "tiny-random", batch_size=2, device="cpu")
    (part,) = report.content["parts"]
    assert part["same_tokens"]
    assert set(part["tokens_per_second"]) == {PAGED, ONE_BLOCK, PYTORCH}
    speeds = part["tokens_per_second"]
    assert report.content["ratio"] == part["ratio"] == speeds[PAGED] / max(speeds[ONE_BLOCK], speeds[PYTORCH])
    assert ONE_BLOCK in printed(report)


def test_quantized_weights_are_tried_on_the_text() -> None:
    report = measure("single", "tiny-random", device="cpu", quantization="int8")
    quality = report.content["quality"]
    assert quality["perplexity"] == pytest.approx(quality["float32_perplexity"], rel=0.05)
    assert quality["perplexity"] != quality["float32_perplexity"]
    assert 0.9 < quality["greedy_agreement"] <= 1
    assert "perplexity" in printed(report)


def test_transformers_makes_the_same_tokens_of_the_same_requests_in_every_way(tiny: LLM) -> None:
    engine = tiny.engine
    mixed = build_workload("mixed", tiny.tokenizer.encode(TEXT.read_text(encoding="utf-8"))).parts[0]
    part = Part("a few of them", mixed.requests[:3])
    result = Transformers("tiny-random", engine.model.dtype, engine.model.device).run(part)
    assert {each.strategy for each in result.strategies} == {
        "one after the other",
        "padded batches of 3",
        "continuous batching",
    }
    assert not result.failed
    ours = [request.token_ids for request in run_part(engine, part, tenant="test")[0]]
    for strategy in result.strategies:
        assert strategy.outputs == ours, strategy.strategy
        assert strategy.output_tokens == part.num_output_tokens
    content = result.to_json(ours)
    assert content["tokens_per_second"] == max(each["tokens_per_second"] for each in content["strategies"])
    assert content["same_tokens"] == 1


def test_the_ratio_is_at_the_top() -> None:
    report = measure("repetitive", "tiny-random", device="cpu", against="transformers")
    (part,) = report.content["parts"]
    assert part["ratio"] == part["tokens_per_second"] / part["against"]["tokens_per_second"]
    assert report.content["ratio"] == part["ratio"]
    assert report.content["against"]["name"] == "transformers"
    assert report.content["against"]["dtype"] == report.content["dtype"]
    assert "one after the other" in printed(report)


def test_a_model_that_is_too_small_for_the_workload_is_an_error() -> None:
    with pytest.raises(MinillmError, match="1000 tokens"):
        measure("shared-prefix", "tiny-random", device="cpu", max_model_len=512)
    with pytest.raises(MinillmError, match="ended after"):
        measure("single", "tiny-random", device="cpu", max_model_len=600)


def test_the_text_is_part_of_the_package() -> None:
    assert TEXT.parent == Path(measure.__code__.co_filename).parent
    assert 500 < len(TEXT.read_text(encoding="utf-8").split()) < 900
