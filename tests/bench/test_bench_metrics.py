"""The numbers, from times that are known exactly."""

from __future__ import annotations

import pytest
import torch

from minillm import LLM
from minillm.bench.measure import RequestTimes, Step, Traffic, compute_metrics, memory_bandwidth, weight_bytes

TRAFFIC = Traffic(weight_bytes=1000, kv_bytes_per_token=10, bandwidth=50_000)
# One prompt of 20 and one of 10 in the first step, then a decode step for both, then one for the first alone.
STEPS = [
    Step(seconds=0.5, scheduling_seconds=0.05, num_tokens=30, num_requests=2, num_context_tokens=30),
    Step(seconds=0.1, scheduling_seconds=0.01, num_tokens=2, num_requests=2, num_context_tokens=32),
    Step(seconds=0.1, scheduling_seconds=0.01, num_tokens=1, num_requests=1, num_context_tokens=22),
]
REQUESTS = [
    RequestTimes(10.0, [10.5, 10.6, 10.7], cached_tokens=16),
    RequestTimes(10.1, [10.5, 10.6]),
]


def test_speeds() -> None:
    metrics = compute_metrics(REQUESTS, STEPS, TRAFFIC, peak_rss_bytes=7)
    assert metrics.total_seconds == pytest.approx(0.7)
    assert metrics.tokens_per_second == pytest.approx(5 / 0.7)
    assert metrics.prefill_tokens_per_second == pytest.approx(30 / 0.5)
    assert metrics.decode_tokens_per_second == pytest.approx(3 / 0.2)
    assert metrics.peak_rss_bytes == 7
    assert metrics.cached_tokens == 16


def test_times_to_the_first_token_and_between_tokens() -> None:
    metrics = compute_metrics(REQUESTS, STEPS, TRAFFIC)
    assert metrics.time_to_first_token.p50 == pytest.approx(0.45)
    assert metrics.time_to_first_token.p99 == pytest.approx(0.499)
    assert metrics.time_per_output_token is not None
    assert metrics.time_per_output_token.p95 == pytest.approx(0.1)


def test_decode_steps_read_the_weights_once_and_each_context() -> None:
    metrics = compute_metrics(REQUESTS, STEPS, TRAFFIC)
    read = 2 * 1000 + (32 + 22) * 10
    assert metrics.gb_per_second == pytest.approx(read / 0.2 / 1e9)
    assert metrics.bandwidth_share == pytest.approx(read / 0.2 / 50_000)
    assert metrics.scheduling_share == pytest.approx(0.07 / 0.7)


def test_a_run_of_prompts_only_has_no_decode_numbers() -> None:
    metrics = compute_metrics([RequestTimes(0.0, [0.5])], STEPS[:1], TRAFFIC)
    assert metrics.decode_tokens_per_second is None
    assert metrics.gb_per_second is None
    assert metrics.time_per_output_token is None


def test_weights_that_share_memory_are_read_once(tiny: LLM) -> None:
    """Fused products and tied embeddings: as many numbers as the checkpoint has."""
    assert weight_bytes(tiny.model) == 4 * sum(each.numel() for each in tiny.model.parameters())
    # Eight bits and a scale per row, for all but the norms; the embedding, which then has a memory of its own, isn't.
    quantized = weight_bytes(LLM("tiny-random", device="cpu", quantization="int8").model)
    assert 1 / 4 < quantized / weight_bytes(tiny.model) < 1 / 3


def test_bandwidth_is_that_of_a_memory() -> None:
    assert 1e8 < memory_bandwidth(torch.device("cpu"), num_bytes=2**24, repeat=2) < 1e13
