"""What is inside the engine at one moment: its requests, their blocks, and what the prefix cache holds.

A trace tells what the steps did; a view tells where everything is now, whether there are steps or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from minillm.engine.metrics import MetricsSnapshot
from minillm.engine.request import Request, RequestStatus
from minillm.kv import KVCacheStats


class RequestView(NamedTuple):
    """One request. No tokens, so that a view can be shown to others.

    Attributes:
        request_id, tenant: whose it is.
        is_running: whether it holds blocks; else it waits.
        num_prompt_tokens: of the prompt.
        num_cached_tokens: of those, the ones that the prefix cache had when it was admitted.
        num_computed_tokens: whose keys and values are in its blocks.
        num_tokens: of prompt and output.
        num_preemptions: how often it had to give up its blocks.
        arrived_at, first_token_at: on the clock of `time.perf_counter`; None if it has no token yet.
        block_ids: its KV blocks, in order.
        adapter: name of the LoRA adapter that it's computed with; empty for the model alone.
    """

    request_id: str
    tenant: str
    is_running: bool
    num_prompt_tokens: int
    num_cached_tokens: int
    num_computed_tokens: int
    num_tokens: int
    num_preemptions: int
    arrived_at: float
    first_token_at: float | None
    block_ids: tuple[int, ...]
    adapter: str = ""

    @classmethod
    def of(
        cls, request: Request, arrived_at: float, first_token_at: float | None, block_ids: tuple[int, ...]
    ) -> RequestView:
        """The view of a request as it is now."""
        return cls(
            request.request_id,
            request.tenant,
            request.status is RequestStatus.RUNNING,
            request.num_prompt_tokens,
            request.num_cached_tokens or 0,
            request.num_computed_tokens,
            request.num_tokens,
            request.num_preemptions,
            arrived_at,
            first_token_at,
            block_ids,
            request.adapter,
        )


@dataclass(frozen=True)
class EngineView:
    """The engine between two steps.

    Attributes:
        time: when, on the clock of `time.perf_counter`.
        requests: all of them, oldest first; each of n outputs is one.
        cached: for each tenant, the blocks that the prefix cache holds, in use or evictable, with their hashes.
        kv: the pool, counted.
        metrics: what the engine has measured.
    """

    time: float
    requests: tuple[RequestView, ...]
    cached: Mapping[str, Mapping[int, bytes]]
    kv: KVCacheStats
    metrics: MetricsSnapshot
