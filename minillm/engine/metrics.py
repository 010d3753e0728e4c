"""What the engine measures of itself: counters, gauges, and latencies over a sliding window.

The names of the Prometheus metrics are vLLM's where it has the same one, with `minillm_` in place of `vllm:`. Each
output of a request with n > 1 counts as a request of its own; its prompt counts once.
"""

from __future__ import annotations

import statistics
import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from minillm.engine.request import Request
from minillm.engine.trace import StepTrace
from minillm.kv import KVCacheStats

if TYPE_CHECKING:
    from prometheus_client import Metric

REASONS = ("stop", "length", "abort", "error")
"""Why requests end."""

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)
_POWERS = tuple(float(2**power) for power in range(14))


class TimedRequest(Protocol):
    """What the metrics read of a request that is over; times are in seconds on the engine's clock.

    Attributes:
        request: its tokens.
        index: which of a request's n outputs it is.
        arrived_at: when it was added.
        first_scheduled_at: when the first step that worked on it was scheduled; None if none did.
        first_token_at: when it got its first token; None if it got none.
    """

    request: Request
    index: int
    arrived_at: float
    first_scheduled_at: float | None
    first_token_at: float | None


@dataclass(frozen=True)
class Percentiles:
    """Of a sample, with linear interpolation between neighbours, as numpy does."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Percentiles | None:
        """None for an empty sample."""
        if len(values) < 2:
            return cls(values[0], values[0], values[0]) if values else None
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        return cls(cuts[49], cuts[94], cuts[98])


@dataclass(frozen=True)
class MetricsSnapshot:
    """The metrics at one moment. Gauges are as of the end of the last step; latencies are in seconds.

    Attributes:
        num_running, num_waiting: requests.
        num_finished: requests so far, by reason: "stop", "length", "abort", "error".
        num_preemptions: so far.
        num_steps: so far.
        batch_size: requests in the last step.
        mean_batch_size: over all steps that computed something.
        prompt_tokens, cached_tokens, generated_tokens: of the finished requests; cached ones are part of the prompts.
        computed_tokens: that went through the model so far.
        prefix_hit_rate: the share of all tokens looked up in the prefix cache so far that it had; 0 if there were none.
        kv_total, kv_used, kv_cached, kv_free: blocks.
        kv_fragmentation: the share of the used blocks' room that holds no token.
        time_to_first_token: (TTFT) from arrival to first token, waiting included.
        time_per_output_token: (TPOT) between tokens after the first, the mean of each request.
        queue_time: from arrival to the first step that worked on the request.
        total_time: from arrival to the last token.
    """

    num_running: int
    num_waiting: int
    num_finished: dict[str, int]
    num_preemptions: int
    num_steps: int
    batch_size: int
    mean_batch_size: float
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    computed_tokens: int
    prefix_hit_rate: float
    kv_total: int
    kv_used: int
    kv_cached: int
    kv_free: int
    kv_fragmentation: float
    time_to_first_token: Percentiles | None
    time_per_output_token: Percentiles | None
    queue_time: Percentiles | None
    total_time: Percentiles | None


class _Series:
    """One quantity: a histogram since the start, and the last values for percentiles."""

    def __init__(self, help: str, bounds: Sequence[float], window: int = 0) -> None:
        self.help, self.bounds = help, bounds
        self.counts, self.sum = [0] * (len(bounds) + 1), 0.0
        self.recent: deque[tuple[float, float]] = deque(maxlen=window)  # (when, value)

    def observe(self, value: float, now: float = 0.0) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1  # a bucket includes its upper bound
        self.sum += value
        self.recent.append((now, value))

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, values up to it) of each bucket, as Prometheus wants them."""
        total, buckets = 0, []
        for bound, count in zip([*self.bounds, float("inf")], self.counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(bound), float(total)))
        return buckets


class EngineMetrics:
    """Counts what the engine does. The engine's thread writes, any thread may read."""

    def __init__(
        self, window_seconds: float = 60.0, window_requests: int = 1000, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Starts from nothing.

        Args:
            window_seconds, window_requests: percentiles are over the requests that finished within this time, and at
                most this many.
            clock: the one on which the requests' times are.
        """
        self.window_seconds, self._clock = window_seconds, clock
        self._lock = threading.RLock()
        self._counts: Counter[str] = Counter()
        self._finished = dict.fromkeys(REASONS, 0)
        self._by_adapter: dict[str, list[int]] = {}  # finished requests and their generated tokens
        self._gauges = {"running": 0, "waiting": 0, "batch": 0}
        self._kv = KVCacheStats(0, 0, 0, 0, 0, 0, 0, 1)
        self._batch = _Series("Requests in a step.", _POWERS)
        self._step_tokens = _Series("Tokens computed in a step.", _POWERS)
        self._step_time = _Series("Duration of a step.", _SECONDS)
        helps = {
            "time_to_first_token": "From arrival to first token.",
            "time_per_output_token": "Mean time between a request's tokens after the first.",
            "queue_time": "From arrival to the first step that worked on the request.",
            "total_time": "From arrival to last token.",
        }
        self._latencies = {name: _Series(help, _SECONDS, window_requests) for name, help in helps.items()}

    # -- for the engine ---------------------------------------------------------------------------------------------

    def on_step(self, trace: StepTrace) -> None:
        """A step is over."""
        with self._lock:
            self._counts["steps"] += 1
            self._counts["preemptions"] += len(trace.preempted)
            self._counts["computed"] += trace.num_tokens
            self._gauges["batch"] = trace.batch_size
            if trace.scheduled:
                self._batch.observe(trace.batch_size)
                self._step_tokens.observe(trace.num_tokens)
                self._step_time.observe(trace.total_seconds)
            self.set_gauges(trace.num_running, trace.num_waiting, trace.kv_after)

    def set_gauges(self, num_running: int, num_waiting: int, kv: KVCacheStats) -> None:
        """What `on_step` does for a step; for changes between steps, such as an abort."""
        with self._lock:
            self._gauges.update(running=num_running, waiting=num_waiting)
            self._kv = kv

    def on_request_finished(self, finished: TimedRequest, reason: str) -> None:
        """A request is over.

        Args:
            finished: its tokens and times. Its last token is taken to have come now.
            reason: one of `REASONS`. Of aborted and failed requests, no total time and no time per token counts.
        """
        now, request = self._clock(), finished.request
        num_output = len(request.output_token_ids)
        times: dict[str, float] = {}
        if finished.first_scheduled_at is not None:
            times["queue_time"] = finished.first_scheduled_at - finished.arrived_at
        if finished.first_token_at is not None:
            times["time_to_first_token"] = finished.first_token_at - finished.arrived_at
        if reason in ("stop", "length"):
            times["total_time"] = now - finished.arrived_at
            if finished.first_token_at is not None and num_output > 1:
                times["time_per_output_token"] = (now - finished.first_token_at) / (num_output - 1)
        with self._lock:
            self._finished[reason] = self._finished.get(reason, 0) + 1
            self._counts["generated"] += num_output
            if request.adapter:
                of_adapter = self._by_adapter.setdefault(request.adapter, [0, 0])
                of_adapter[0] += 1
                of_adapter[1] += num_output
            if finished.index == 0:
                self._counts["prompt"] += request.num_prompt_tokens
                self._counts["cached"] += request.num_cached_tokens or 0
            for name, seconds in times.items():
                self._latencies[name].observe(seconds, now)

    # -- for readers ------------------------------------------------------------------------------------------------

    def snapshot(self) -> MetricsSnapshot:
        """All of it as of now."""
        with self._lock:
            oldest = self._clock() - self.window_seconds
            recent = {
                name: [value for at, value in series.recent if at >= oldest] for name, series in self._latencies.items()
            }
            counts, gauges, finished, kv = Counter(self._counts), dict(self._gauges), dict(self._finished), self._kv
            batches, num_batches = self._batch.sum, sum(self._batch.counts)
        return MetricsSnapshot(
            num_running=gauges["running"],
            num_waiting=gauges["waiting"],
            num_finished=finished,
            num_preemptions=counts["preemptions"],
            num_steps=counts["steps"],
            batch_size=gauges["batch"],
            mean_batch_size=batches / num_batches if num_batches else 0.0,
            prompt_tokens=counts["prompt"],
            cached_tokens=counts["cached"],
            generated_tokens=counts["generated"],
            computed_tokens=counts["computed"],
            prefix_hit_rate=kv.hit_tokens / kv.queried_tokens if kv.queried_tokens else 0.0,
            kv_total=kv.total,
            kv_used=kv.referenced,
            kv_cached=kv.cached,
            kv_free=kv.free,
            kv_fragmentation=kv.fragmentation,
            **{name: Percentiles.of(values) for name, values in recent.items()},
        )

    def prometheus(self) -> str:
        """The metrics in Prometheus' text exposition format (version 0.0.4), for a `/metrics` endpoint."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()  # of this call only: nothing is registered anywhere else
        registry.register(self)
        return generate_latest(registry).decode()

    def collect(self) -> list[Metric]:
        """What a `prometheus_client` registry asks of its collectors, for those who have one of their own."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        with self._lock:
            counts, gauges, kv = self._counts, self._gauges, self._kv
            families: list[Metric] = [
                GaugeMetricFamily(f"minillm_{name}", help, value=value)
                for name, help, value in (
                    ("num_requests_running", "Requests that hold KV blocks.", gauges["running"]),
                    ("num_requests_waiting", "Requests that wait, preempted ones included.", gauges["waiting"]),
                    ("batch_size", "Requests in the last step.", gauges["batch"]),
                    ("kv_cache_usage_perc", "Share of the KV blocks in use, 0 to 1.", kv.referenced / max(kv.total, 1)),
                    ("kv_cache_fragmentation", "Share of the used blocks' room without a token.", kv.fragmentation),
                )
            ]
            blocks = GaugeMetricFamily("minillm_kv_blocks", "KV blocks by state.", labels=["state"])
            for state, number in (("used", kv.referenced), ("cached", kv.cached), ("free", kv.free)):
                blocks.add_metric([state], number)
            families += [
                CounterMetricFamily(f"minillm_{name}", help, value=value)
                for name, help, value in (
                    ("engine_steps", "Steps of the engine.", counts["steps"]),
                    ("num_preemptions", "Times that a request gave up its KV blocks.", counts["preemptions"]),
                    ("computed_tokens", "Tokens that went through the model.", counts["computed"]),
                    ("prompt_tokens", "Prompt tokens of finished requests.", counts["prompt"]),
                    ("prompt_tokens_cached", "Of them, those from the prefix cache.", counts["cached"]),
                    ("generation_tokens", "Generated tokens of finished requests.", counts["generated"]),
                    ("prefix_cache_queries", "Tokens looked up in the prefix cache.", kv.queried_tokens),
                    ("prefix_cache_hits", "Tokens that it had.", kv.hit_tokens),
                )
            ]
            done = CounterMetricFamily("minillm_request_success", "Requests by reason.", labels=["finished_reason"])
            for reason, number in self._finished.items():
                done.add_metric([reason], number)
            for index, name, help in (
                (0, "lora_requests", "Finished requests with a LoRA adapter."),
                (1, "lora_generation_tokens", "Their generated tokens."),
            ):
                family = CounterMetricFamily(f"minillm_{name}", help, labels=["lora_name"])
                for adapter, numbers in self._by_adapter.items():
                    family.add_metric([adapter], numbers[index])
                families.append(family)
            histograms = {f"minillm_{_PROMETHEUS_NAMES[name]}": series for name, series in self._latencies.items()}
            histograms["minillm_step_time_seconds"] = self._step_time
            histograms["minillm_iteration_tokens"] = self._step_tokens
            histograms["minillm_iteration_requests"] = self._batch
            families += [blocks, done]
            for name, series in histograms.items():
                families.append(HistogramMetricFamily(name, series.help, series.buckets(), series.sum))
        return families


_PROMETHEUS_NAMES = {
    "time_to_first_token": "time_to_first_token_seconds",
    "time_per_output_token": "time_per_output_token_seconds",
    "queue_time": "request_queue_time_seconds",
    "total_time": "e2e_request_latency_seconds",
}
