"""Metrics agree with numpy, with Prometheus' own parser and with what the engine really did."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from traced import simulate

from minillm.engine import Request
from minillm.engine.metrics import EngineMetrics, Percentiles
from minillm.kv import KVCacheStats
from minillm.sampling import SamplingParams

STEPS = simulate().steps
LATENCIES = {
    "minillm_time_to_first_token_seconds",
    "minillm_time_per_output_token_seconds",
    "minillm_request_queue_time_seconds",
    "minillm_e2e_request_latency_seconds",
}


@dataclass
class Done:
    """A request that is over."""

    request: Request
    arrived_at: float = 0.0
    first_scheduled_at: float | None = 1.0
    first_token_at: float | None = 2.0
    index: int = 0


def done(prompt: int = 10, output: int = 5, cached: int = 0, **times: float | None) -> Done:
    request = Request("r", [1] * prompt, SamplingParams(), 100, num_cached_tokens=cached)
    request.token_ids += [2] * output
    return Done(request, **times)  # type: ignore[arg-type]


class Clock:
    """A clock that stands still until it is set."""

    now = 6.0

    def __call__(self) -> float:
        return self.now


def samples(text: str) -> dict[str, float]:
    """Everything in an exposition, by name and labels."""
    return {
        sample.name + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_percentiles_are_numpys(values: list[float]) -> None:
    found = Percentiles.of(values)
    assert found is not None
    assert [found.p50, found.p95, found.p99] == pytest.approx(np.percentile(values, [50, 95, 99]), abs=1e-9)


def test_nothing_measured_has_no_percentiles() -> None:
    assert Percentiles.of([]) is None
    snapshot = EngineMetrics().snapshot()
    assert snapshot.time_to_first_token is None
    assert (snapshot.prefix_hit_rate, snapshot.mean_batch_size, snapshot.kv_fragmentation) == (0, 0, 0)


def test_times_of_a_request_run_from_its_arrival() -> None:
    metrics = EngineMetrics(clock=Clock())
    metrics.on_request_finished(done(cached=4, arrived_at=0.5), "stop")
    snapshot = metrics.snapshot()
    assert snapshot.queue_time == Percentiles(0.5, 0.5, 0.5)
    assert snapshot.time_to_first_token == Percentiles(1.5, 1.5, 1.5)
    assert snapshot.time_per_output_token == Percentiles(1.0, 1.0, 1.0)  # four tokens in the four seconds after
    assert snapshot.total_time == Percentiles(5.5, 5.5, 5.5)
    assert (snapshot.prompt_tokens, snapshot.generated_tokens, snapshot.cached_tokens) == (10, 5, 4)
    assert snapshot.num_finished == {"stop": 1, "length": 0, "abort": 0, "error": 0}


def test_what_a_request_never_reached_is_not_measured() -> None:
    metrics = EngineMetrics(clock=Clock())
    metrics.on_request_finished(done(output=0, first_scheduled_at=None, first_token_at=None), "abort")
    assert metrics.snapshot().queue_time is None
    metrics.on_request_finished(done(), "abort")
    snapshot = metrics.snapshot()
    assert snapshot.time_to_first_token is not None
    assert snapshot.total_time is snapshot.time_per_output_token is None
    metrics.on_request_finished(done(output=1), "length")
    snapshot = metrics.snapshot()
    assert snapshot.total_time is not None
    assert snapshot.time_per_output_token is None
    assert snapshot.num_finished == {"stop": 0, "length": 1, "abort": 2, "error": 0}


def test_the_prompt_of_several_outputs_counts_once() -> None:
    metrics = EngineMetrics()
    for index in range(3):
        metrics.on_request_finished(done(cached=4, index=index), "stop")
    snapshot = metrics.snapshot()
    assert (snapshot.prompt_tokens, snapshot.cached_tokens, snapshot.generated_tokens) == (10, 4, 15)


def test_old_requests_leave_the_window() -> None:
    clock = Clock()
    metrics = EngineMetrics(window_seconds=60, window_requests=3, clock=clock)
    for first_token_at in (1.0, 2.0, 3.0, 4.0):
        metrics.on_request_finished(done(first_token_at=first_token_at), "stop")
    assert metrics.snapshot().time_to_first_token == Percentiles.of([2.0, 3.0, 4.0])
    clock.now += 40
    metrics.on_request_finished(done(first_token_at=9.0), "stop")
    clock.now += 30
    assert metrics.snapshot().time_to_first_token == Percentiles(9.0, 9.0, 9.0)
    clock.now += 60
    assert metrics.snapshot().time_to_first_token is None
    assert metrics.snapshot().num_finished["stop"] == 5  # counters remember everything
    assert samples(metrics.prometheus())["minillm_time_to_first_token_seconds_count"] == 5


def test_steps_are_counted_and_the_gauges_are_the_last_ones() -> None:
    metrics, steps = EngineMetrics(), STEPS[:-5]
    for step in steps:
        metrics.on_step(step)
    snapshot, last = metrics.snapshot(), steps[-1]
    assert snapshot.num_steps == len(steps)
    assert snapshot.num_preemptions == sum(len(step.preempted) for step in steps) > 0
    assert snapshot.computed_tokens == sum(step.num_tokens for step in steps)
    assert snapshot.batch_size == last.batch_size
    assert snapshot.mean_batch_size == pytest.approx(np.mean([step.batch_size for step in steps]))
    assert (snapshot.num_running, snapshot.num_waiting) == (last.num_running, last.num_waiting)
    assert snapshot.kv_used + snapshot.kv_cached + snapshot.kv_free == snapshot.kv_total == 15
    assert snapshot.kv_used == last.kv_after.referenced > 0
    assert snapshot.kv_fragmentation == last.kv_after.fragmentation > 0
    assert snapshot.prefix_hit_rate == last.kv.hit_tokens / last.kv.queried_tokens > 0


def test_gauges_can_change_between_two_steps() -> None:
    metrics = EngineMetrics()
    metrics.on_step(STEPS[10])
    metrics.set_gauges(0, 0, KVCacheStats(15, 12, 3, 0, 0, 10, 5, 16))
    snapshot = metrics.snapshot()
    assert (snapshot.num_running, snapshot.kv_used, snapshot.kv_cached, snapshot.num_steps) == (0, 0, 3, 1)


def test_prometheus_parses_the_exposition() -> None:
    metrics = EngineMetrics(clock=Clock())
    for step in STEPS[:-5]:
        metrics.on_step(step)
    for first_token_at in (0.003, 0.2, 5.0):
        metrics.on_request_finished(done(cached=4, first_token_at=first_token_at), "stop")
    text, snapshot = metrics.prometheus(), metrics.snapshot()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(name.startswith("minillm_") and family.documentation for name, family in families.items())
    assert {name for name, family in families.items() if family.type == "histogram"} > LATENCIES
    found = samples(text)
    assert found["minillm_num_requests_running"] == snapshot.num_running
    assert found["minillm_num_requests_waiting"] == snapshot.num_waiting
    assert found["minillm_num_preemptions_total"] == snapshot.num_preemptions
    assert found["minillm_kv_blocks[used]"] == snapshot.kv_used
    assert found["minillm_kv_cache_usage_perc"] == pytest.approx(snapshot.kv_used / 15)
    assert found["minillm_request_success_total[stop]"] == 3
    assert found["minillm_request_success_total[error]"] == 0
    assert found["minillm_prompt_tokens_total"] == 30
    assert found["minillm_generation_tokens_total"] == 15
    assert found["minillm_prefix_cache_hits_total"] > 0
    first_token = "minillm_time_to_first_token_seconds"
    assert found[f"{first_token}_count"] == found[f"{first_token}_bucket[+Inf]"] == 3
    assert found[f"{first_token}_sum"] == pytest.approx(5.203)
    buckets = [found[f"{first_token}_bucket[{le}]"] for le in ("0.0025", "0.005", "0.1", "0.25", "2.5", "5.0", "60.0")]
    assert buckets == [0, 1, 1, 2, 2, 3, 3]  # a bucket includes its upper bound


def test_metrics_live_in_no_global_registry() -> None:
    before = list(REGISTRY.collect())
    assert EngineMetrics().prometheus() == EngineMetrics().prometheus()
    assert not [family for family in REGISTRY.collect() if family.name.startswith("minillm")]
    assert len(before) == len(list(REGISTRY.collect()))


def test_metrics_are_a_collector_for_ones_own_registry() -> None:
    registry, metrics = CollectorRegistry(), EngineMetrics()
    registry.register(metrics)
    metrics.on_step(STEPS[0])
    assert registry.get_sample_value("minillm_engine_steps_total") == 1


def test_readers_see_whole_steps_while_the_engine_writes() -> None:
    """In every exposition, the number of steps is that of the histograms: nobody sees half of an update."""
    metrics = EngineMetrics()
    wrong: list[dict[str, float]] = []
    busy = [step for step in STEPS if step.scheduled] * 300

    def write() -> None:
        for step in busy:
            metrics.on_step(step)

    def read() -> None:
        while writer.is_alive():
            found = samples(metrics.prometheus())
            if found["minillm_engine_steps_total"] != found["minillm_iteration_tokens_count"]:
                wrong.append(found)
            metrics.snapshot()

    writer = threading.Thread(target=write)
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in (writer, *readers):
        thread.start()
    for thread in (writer, *readers):
        thread.join()
    assert not wrong
    assert metrics.snapshot().num_steps == len(busy)
