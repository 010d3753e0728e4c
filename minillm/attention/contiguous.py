"""A KV cache for one request: one stretch of memory, as long as the request could ever get."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from minillm.kernels.reference import rotate


class ContiguousKVCache:
    """Keeps a request's keys and values, and attends over them.

    Keys and values of a token depend on the tokens before it only, so they never change: each is computed once
    and kept. A forward pass over n new tokens then costs n tokens, not the whole text.

    `num_computed_tokens` counts the tokens whose keys and values are in. A forward pass writes behind them;
    the caller `advance`s the count when the pass is through, so a pass that fails leaves nothing half written.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        max_tokens: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        """Reserves memory: 2 * num_layers * num_kv_heads * head_dim * max_tokens numbers of `dtype`."""
        shape = (num_layers, num_kv_heads, max_tokens, head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        self.max_tokens = max_tokens
        self.num_computed_tokens = 0

    def advance(self, num_tokens: int) -> None:
        """Counts the tokens of a finished forward pass in."""
        self.num_computed_tokens += num_tokens

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """See `Attention`. The tokens follow those that are in the cache.

        Raises:
            ValueError: if they don't fit.
        """
        start, end = self.num_computed_tokens, self.num_computed_tokens + q.shape[0]
        if end > self.max_tokens:
            raise ValueError(f"The KV cache holds {self.max_tokens} tokens; {end} are needed.")
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        self.keys[layer, :, start:end] = k.transpose(0, 1)
        self.values[layer, :, start:end] = v.transpose(0, 1)
        keys, values = self.keys[layer, :, :end], self.values[layer, :, :end]
        if q.shape[0] == 1:
            return self._attend_one(q, keys, values)
        # Query i stands at position start + i and sees the keys up to there.
        mask = torch.ones(end - start, end, dtype=torch.bool, device=q.device).tril(diagonal=start)
        # With a batch of one in front, PyTorch's CPU kernel doesn't write all scores into memory.
        q, keys, values = q.transpose(0, 1)[None], keys[None], values[None]
        return F.scaled_dot_product_attention(q, keys, values, attn_mask=mask, enable_gqa=True)[0].transpose(0, 1)

    @staticmethod
    def _attend_one(q: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """One query per head, which sees every key, so there's nothing to mask.

        The query heads that share a key/value head are taken as its rows, which spares copying the keys for each.
        """
        num_kv_heads, _, head_dim = keys.shape
        grouped = q.view(num_kv_heads, -1, head_dim)
        return F.scaled_dot_product_attention(grouped, keys, values).view(1, -1, head_dim)
