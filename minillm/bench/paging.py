"""What paging costs: the same decode steps over blocks, and over one stretch of memory per request."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from minillm.attention import Attention, ContiguousKVCache, PagedAttention
from minillm.bench.measure import Progress, synchronize
from minillm.bench.workloads import SEED, Part, Workload
from minillm.engine.engine import Engine
from minillm.engine.request import Request
from minillm.engine.runner import ForwardBatch
from minillm.engine.scheduler import ScheduledRequest
from minillm.kv.cache import PagedKVCache
from minillm.sampling import SamplingParams

PAGED = "paged"
ONE_BLOCK = "contiguous, same kernel"
PYTORCH = "contiguous, PyTorch's attention"


@dataclass(frozen=True)
class PagingResult:
    """What a batch's decode steps took.

    Attributes:
        part: its requests.
        step_seconds: of each way to keep keys and values, the time of every step.
        same_tokens: whether all ways came to the same tokens.
    """

    part: Part
    step_seconds: dict[str, list[float]]
    same_tokens: bool

    @property
    def tokens_per_second(self) -> dict[str, float]:
        """Of each way, by its median step."""
        return {name: len(self.part.requests) / statistics.median(times) for name, times in self.step_seconds.items()}

    @property
    def ratio(self) -> float:
        """Paged speed over the faster of the contiguous ones: 1 if paging costs nothing."""
        speeds = self.tokens_per_second
        return speeds[PAGED] / max(speeds[ONE_BLOCK], speeds[PYTORCH])

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "name": self.part.name,
            "num_requests": len(self.part.requests),
            "tokens_per_second": self.tokens_per_second,
            "ratio": self.ratio,
            "same_tokens": self.same_tokens,
            "samples": {name: [round(each, 6) for each in times] for name, times in self.step_seconds.items()},
        }


@torch.inference_mode()
def measure_paging(
    engine: Engine, workload: Workload, *, repeat: int = 1, progress: Progress = lambda _: None
) -> list[PagingResult]:
    """Decodes every part with the engine's model and kernels in three ways.

    - over the paged cache, its blocks scattered over the pool as after long use;
    - over a paged cache with one block per request, so the same kernel reads one stretch of memory;
    - over a `ContiguousKVCache` per request, with PyTorch's attention.

    They take turns step by step, so that whatever else the machine does meets all of them alike.
    """
    results = []
    for part in workload.parts:
        times: dict[str, list[float]] = {PAGED: [], ONE_BLOCK: [], PYTORCH: []}
        same = True
        for _ in range(repeat):
            same &= _decode_in_turns(engine, part, times, progress)
        results.append(PagingResult(part, times, same))
    return results


def _decode_in_turns(engine: Engine, part: Part, times: dict[str, list[float]], progress: Progress) -> bool:
    """Adds to `times`; returns whether all ways came to the same tokens."""
    ways: dict[str, _Decoding] = {
        PAGED: _Paged(engine, part, engine.config.block_size),
        ONE_BLOCK: _Paged(engine, part, _longest(part)),
        PYTORCH: _Contiguous(engine, part),
    }
    for name, way in ways.items():
        progress(f"paging, {part.name}: prompts, {name}")
        for index in range(len(part.requests)):  # one by one, as all at once might take much memory
            way.advance([index])
    num_steps = part.requests[0].max_tokens - 1
    for step in range(num_steps):
        progress(f"paging, {part.name}: step {step + 1} of {num_steps}")
        for name, way in ways.items():
            synchronize(engine.model.device)
            begin = time.perf_counter()
            way.advance(range(len(part.requests)))
            if step > 0:  # the first one warms up
                times[name].append(time.perf_counter() - begin)
    outputs = [way.outputs() for way in ways.values()]
    return all(each == outputs[0] for each in outputs)


def _longest(part: Part) -> int:
    """Tokens of the longest request at its end, rounded up to whole blocks of 16."""
    longest = max(len(request.prompt_token_ids) + request.max_tokens for request in part.requests)
    return -(-longest // 16) * 16


class _Decoding:
    """A batch of requests without an engine around it."""

    def __init__(self, engine: Engine, part: Part) -> None:
        self.model, self.backend = engine.model, engine.runner.backend
        self.requests = [
            Request(str(index), list(each.prompt_token_ids), SamplingParams(), max_num_tokens=_longest(part))
            for index, each in enumerate(part.requests)
        ]

    def advance(self, who: Sequence[int]) -> None:
        """Computes what isn't computed yet of these requests, in one forward pass, and appends a token to each."""
        requests = [self.requests[index] for index in who]
        logits = self.logits(requests)
        for request, token in zip(requests, logits.argmax(-1).tolist(), strict=True):
            request.num_computed_tokens = request.num_tokens
            request.token_ids.append(token)

    def logits(self, requests: Sequence[Request]) -> Tensor:
        """[len(requests), vocab_size]."""
        raise NotImplementedError

    def outputs(self) -> list[list[int]]:
        return [request.output_token_ids for request in self.requests]


class _Paged(_Decoding):
    def __init__(self, engine: Engine, part: Part, block_size: int) -> None:
        super().__init__(engine, part)
        config = engine.model.config
        per_request = -(-_longest(part) // block_size)
        num_blocks = 1 + per_request * len(part.requests)
        self.cache = PagedKVCache(
            num_layers=config.num_layers,
            num_blocks=num_blocks,
            block_size=block_size,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            dtype=engine.runner.cache.keys.dtype,
            device=engine.model.device,
        )
        blocks = list(range(1, num_blocks))
        random.Random(SEED).shuffle(blocks)
        self.tables = {
            request.request_id: blocks[index * per_request : (index + 1) * per_request]
            for index, request in enumerate(self.requests)
        }

    def logits(self, requests: Sequence[Request]) -> Tensor:
        scheduled = [
            ScheduledRequest(each, each.num_tokens - each.num_computed_tokens, self.tables[each.request_id])
            for each in requests
        ]
        batch = ForwardBatch.build(scheduled, self.cache.block_size, self.model.device)
        attention = PagedAttention(self.backend, self.cache, batch.attention)
        hidden = self.model(batch.token_ids, batch.positions, attention)
        return self.model.logits(hidden[batch.logits_rows])


class _Contiguous(_Decoding):
    def __init__(self, engine: Engine, part: Part) -> None:
        super().__init__(engine, part)
        config = engine.model.config
        self.caches = {
            request.request_id: ContiguousKVCache(
                num_layers=config.num_layers,
                num_kv_heads=config.num_kv_heads,
                head_dim=config.head_dim,
                max_tokens=_longest(part),
                # PyTorch's attention wants keys in the dtype of the queries.
                dtype=self.model.kernels.activation_dtype(self.model.dtype),
                device=engine.model.device,
            )
            for request in self.requests
        }

    def logits(self, requests: Sequence[Request]) -> Tensor:
        caches = [self.caches[each.request_id] for each in requests]
        counts = [each.num_tokens - each.num_computed_tokens for each in requests]
        token_ids = [token for each in requests for token in each.token_ids[each.num_computed_tokens :]]
        positions = [place for each in requests for place in range(each.num_computed_tokens, each.num_tokens)]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
            parts = zip(caches, *(each.split(counts) for each in (q, k, v, cos, sin)), strict=True)
            return torch.cat([cache(layer, *part) for cache, *part in parts])

        device = self.model.device
        attention: Attention = attend
        hidden = self.model(torch.tensor(token_ids, device=device), torch.tensor(positions, device=device), attention)
        for cache, count in zip(caches, counts, strict=True):
            cache.advance(count)
        return self.model.logits(hidden[torch.tensor(counts, device=device).cumsum(0) - 1])
