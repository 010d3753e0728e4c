"""Attention over the paged KV cache: what the engine hands to the decoder."""

from __future__ import annotations

from torch import Tensor

from minillm.attention.backend import AttentionBackend, AttentionMetadata
from minillm.kv.cache import PagedKVCache


class PagedAttention:
    """One forward pass over a batch: joins the cache, the batch's metadata and the backend that computes."""

    def __init__(self, backend: AttentionBackend, cache: PagedKVCache, metadata: AttentionMetadata) -> None:
        self._forward = backend.forward
        self._layers = cache.layers
        self._metadata = metadata

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """See `Attention`."""
        key_cache, value_cache = self._layers[layer]
        return self._forward(q, k, v, cos, sin, key_cache, value_cache, self._metadata)
