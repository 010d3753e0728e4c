"""Runs workloads on an engine and works out what they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from minillm.bench.workloads import BenchRequest, Part, Workload
from minillm.engine.engine import Engine, Event
from minillm.engine.metrics import Percentiles
from minillm.engine.request import OutputChunk, RequestOutput
from minillm.engine.trace import StepTrace
from minillm.errors import MinillmError
from minillm.kernels import QuantizedTensor
from minillm.lab.scoreboard import peak_memory
from minillm.models.decoder import Decoder, Embedding
from minillm.sampling import SamplingParams

Progress = Callable[[str], object]


@dataclass
class RequestTimes:
    """When a request's tokens came, in seconds on one clock.

    Attributes:
        arrived: when it was added.
        tokens: one time for each output token.
        token_ids: the output.
        cached_tokens: of the prompt, those that the prefix cache had.
        error: what it got in place of an output.
    """

    arrived: float
    tokens: list[float] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    cached_tokens: int = 0
    error: MinillmError | None = None


@dataclass(frozen=True)
class Step:
    """One step of the engine.

    Attributes:
        seconds: from its beginning to its end.
        scheduling_seconds: of them, the scheduler's and the books'.
        num_tokens: how many were computed.
        num_requests: how many they belong to.
        num_context_tokens: whose keys and values were read, summed over the requests.
    """

    seconds: float
    scheduling_seconds: float
    num_tokens: int
    num_requests: int
    num_context_tokens: int

    @classmethod
    def of(cls, trace: StepTrace) -> Step:
        """From what the engine's tracer keeps of a step."""
        return cls(
            seconds=trace.total_seconds,
            scheduling_seconds=trace.total_seconds - trace.forward_seconds - trace.sample_seconds,
            num_tokens=trace.num_tokens,
            num_requests=trace.batch_size,
            num_context_tokens=sum(item.num_computed_before + item.num_new_tokens for item in trace.scheduled),
        )

    @property
    def is_decode(self) -> bool:
        """Whether every request got one token, so that no prompt was worked on."""
        return self.num_tokens == self.num_requests


@dataclass(frozen=True)
class Metrics:
    """What a part of a workload took. Times are in seconds; what couldn't be measured is None.

    Attributes:
        tokens_per_second: all output tokens over the time from the first arrival to the last token.
        decode_tokens_per_second: of the steps in which no prompt was worked on.
        prefill_tokens_per_second: of the steps in which a prompt was; requests that decode in them count as well.
        time_to_first_token: from a request's arrival, waiting included.
        time_per_output_token: between two tokens of a request.
        total_seconds: from the first arrival to the last token.
        gb_per_second: bytes of weights and of keys and values that decode steps read, over their time, / 1e9.
        bandwidth_share: of the memory bandwidth that was measured in the same run.
        scheduling_share: of the steps' time, what scheduling and bookkeeping took.
        cached_tokens: of all prompts, the tokens that the prefix cache had.
        peak_rss_bytes: most memory of the process while it ran.
        peak_gpu_bytes: most memory of tensors on the GPU while it ran.
    """

    tokens_per_second: float
    decode_tokens_per_second: float | None
    prefill_tokens_per_second: float | None
    time_to_first_token: Percentiles
    time_per_output_token: Percentiles | None
    total_seconds: float
    gb_per_second: float | None
    bandwidth_share: float | None
    scheduling_share: float | None
    cached_tokens: int
    peak_rss_bytes: int | None = None
    peak_gpu_bytes: int | None = None


@dataclass(frozen=True)
class Traffic:
    """What a decode step reads, and how fast this machine can read.

    Attributes:
        weight_bytes: once per step.
        kv_bytes_per_token: for each token of each request's context.
        bandwidth: bytes per second of a plain read.
    """

    weight_bytes: int
    kv_bytes_per_token: int
    bandwidth: float

    @classmethod
    def measure(cls, engine: Engine) -> Traffic:
        """Of this engine, on its device."""
        cache = engine.runner.cache
        per_token = 2 * cache.keys.nbytes // (cache.keys.shape[1] * cache.block_size)
        return cls(weight_bytes(engine.model), per_token, memory_bandwidth(engine.model.device))


def compute_metrics(
    requests: Sequence[RequestTimes], steps: Sequence[Step], traffic: Traffic, **memory: int | None
) -> Metrics:
    """The numbers of a run, from the times of its tokens and its steps."""
    start = min(request.arrived for request in requests)
    total = max(request.tokens[-1] for request in requests) - start
    decode = [step for step in steps if step.is_decode]
    prefill = [step for step in steps if not step.is_decode]
    decode_seconds = sum(step.seconds for step in decode)
    step_seconds = sum(step.seconds for step in steps)
    read = sum(traffic.weight_bytes + step.num_context_tokens * traffic.kv_bytes_per_token for step in decode)
    speed = read / decode_seconds if decode_seconds else None
    first = Percentiles.of([request.tokens[0] - request.arrived for request in requests])
    assert first is not None
    return Metrics(
        tokens_per_second=sum(len(request.tokens) for request in requests) / total,
        decode_tokens_per_second=_rate(decode),
        prefill_tokens_per_second=_rate(prefill),
        time_to_first_token=first,
        time_per_output_token=Percentiles.of(
            [
                later - earlier
                for request in requests
                for earlier, later in zip(request.tokens, request.tokens[1:], strict=False)
            ]
        ),
        total_seconds=total,
        gb_per_second=None if speed is None else speed / 1e9,
        bandwidth_share=None if speed is None else speed / traffic.bandwidth,
        scheduling_share=sum(step.scheduling_seconds for step in steps) / step_seconds if step_seconds else None,
        cached_tokens=sum(request.cached_tokens for request in requests),
        **memory,
    )


def _rate(steps: Sequence[Step]) -> float | None:
    return sum(step.num_tokens for step in steps) / sum(step.seconds for step in steps) if steps else None


# -- running ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PartResult:
    """What a part took.

    Attributes:
        part: what was run.
        metrics: of the repetition whose tokens/s are the median.
        repetitions: of every one, in order.
        outputs: the generated tokens of each request.
        samples: for each repetition and request the times of its tokens, in seconds from its arrival.
    """

    part: Part
    metrics: Metrics
    repetitions: list[Metrics]
    outputs: list[list[int]]
    samples: list[list[list[float]]]

    def to_json(self) -> dict[str, Any]:
        """Everything but the tokens."""
        return {
            "name": self.part.name,
            "num_requests": len(self.part.requests),
            "prompt_tokens": self.part.num_prompt_tokens,
            "output_tokens": self.part.num_output_tokens,
            **asdict(self.metrics),
            "repetitions": [asdict(metrics) for metrics in self.repetitions],
            "samples": self.samples,
        }


def run_workload(
    engine: Engine, workload: Workload, traffic: Traffic, *, repeat: int = 1, progress: Progress = lambda _: None
) -> list[PartResult]:
    """Runs every part `repeat` times. Each repetition is a tenant of its own, so it finds nothing in the prefix cache
    but what its own earlier parts left there.

    Raises:
        MinillmError: if a request can't be served, or ends before its time.
    """
    runs: list[list[tuple[Metrics, list[RequestTimes]]]] = [[] for _ in workload.parts]
    _warm_up(engine, workload)
    for repetition in range(repeat):
        for part, done in zip(workload.parts, runs, strict=True):
            title = f"{workload.name}, {part.name}" + (f", {repetition + 1} of {repeat}" if repeat > 1 else "")
            with peak_memory() as memory:
                requests, steps = run_part(engine, part, tenant=f"bench-{repetition}", title=title, progress=progress)
            done.append((compute_metrics(requests, steps, traffic, **memory), requests))
    return [_part_result(part, done) for part, done in zip(workload.parts, runs, strict=True)]


def _part_result(part: Part, done: list[tuple[Metrics, list[RequestTimes]]]) -> PartResult:
    metrics = [each for each, _ in done]
    return PartResult(
        part,
        metrics=sorted(metrics, key=lambda each: each.tokens_per_second)[(len(metrics) - 1) // 2],
        repetitions=metrics,
        outputs=[request.token_ids for request in done[0][1]],
        samples=[
            [[round(at - request.arrived, 6) for at in request.tokens] for request in requests] for _, requests in done
        ],
    )


def _warm_up(engine: Engine, workload: Workload) -> None:
    """Every part in small, so that what happens only once (compiling, first pages of memory) isn't measured."""
    for part in workload.parts:
        small = tuple(BenchRequest(request.prompt_token_ids[:16], 4) for request in part.requests)
        run_part(engine, Part(part.name, small, part.one_at_a_time), tenant="bench-warm-up")


def run_part(
    engine: Engine, part: Part, *, tenant: str, title: str = "", progress: Progress = lambda _: None
) -> tuple[list[RequestTimes], list[Step]]:
    """Serves a part's requests, greedily and past the end of text. Returns their times and the engine's steps."""
    requests: list[RequestTimes] = []
    begin = time.perf_counter()
    groups = [[each] for each in part.requests] if part.one_at_a_time else [part.requests]
    for group in groups:
        requests += [_add(engine, request, tenant) for request in group]
        while engine.has_unfinished:
            engine.step()
            progress(f"{title}: {sum(len(each.tokens) for each in requests)} of {part.num_output_tokens} tokens")
    for asked, request in zip(part.requests, requests, strict=True):
        if request.error is not None:
            raise request.error
        if len(request.tokens) != asked.max_tokens:
            raise MinillmError(
                f"A request ended after {len(request.tokens)} of {asked.max_tokens} tokens; the model's context or the "
                "KV cache is too small for this workload."
            )
    return requests, [Step.of(trace) for trace in engine.tracer.steps if trace.start >= begin and trace.scheduled]


def _add(engine: Engine, request: BenchRequest, tenant: str) -> RequestTimes:
    times = RequestTimes(time.perf_counter())
    params = SamplingParams(temperature=0, max_tokens=request.max_tokens, ignore_eos=True)

    def on_event(event: Event) -> None:
        if isinstance(event, OutputChunk):
            times.tokens.append(time.perf_counter())
            times.token_ids.extend(event.token_ids)
        elif isinstance(event, RequestOutput):
            times.cached_tokens = event.cached_tokens
        else:
            times.error = event

    engine.add_request(request.prompt_token_ids, params, on_event, tenant=tenant)
    return times


# -- the machine --------------------------------------------------------------------------------------------------


def weight_bytes(model: Decoder) -> int:
    """Bytes of weights that a decode step reads: all but the embedding, of which it reads a row per request.

    Tied weights count, since the product with the vocabulary reads them.
    """
    tensors: dict[int, int] = {}
    for module in model.modules():
        weight = None if isinstance(module, Embedding) else getattr(module, "weight", None)
        if isinstance(weight, QuantizedTensor):
            tensors[weight.data.data_ptr()] = weight.nbytes
        elif isinstance(weight, torch.Tensor):
            # The products that were fused are views into one storage; the fused one covers them all.
            storage = weight.untyped_storage().data_ptr()
            tensors[storage] = max(tensors.get(storage, 0), weight.nbytes)
    return sum(tensors.values())


def memory_bandwidth(device: torch.device, num_bytes: int = 2**28, repeat: int = 7) -> float:
    """Bytes per second of the best of a few plain passes over a buffer far larger than the caches.

    Both a sum (reads only) and a copy (reads and writes) are tried; the faster one counts.
    """
    if device.type == "cuda":
        num_bytes *= 4
    source = torch.ones(num_bytes // 4, dtype=torch.float32, device=device)
    target = torch.ones_like(source)
    return max(
        num_bytes / _best_seconds(lambda: source.sum(), device, repeat),
        2 * num_bytes / _best_seconds(lambda: target.copy_(source), device, repeat),
    )


def _best_seconds(call: Callable[[], object], device: torch.device, repeat: int) -> float:
    times = []
    for _ in range(repeat):
        synchronize(device)
        begin = time.perf_counter()
        call()
        synchronize(device)
        times.append(time.perf_counter() - begin)
    return min(times)


def synchronize(device: torch.device) -> None:
    """Waits until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
