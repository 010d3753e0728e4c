"""Causal attention in its plainest form: no cache, every token computed anew. The oracle for everything faster."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from minillm.kernels.reference import rotate


class DenseAttention:
    """The tokens of the forward pass are one whole text; each sees itself and all before it."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """See `Attention`."""
        # scaled_dot_product_attention takes [batch, heads, tokens, head_dim]. It works without the batch too, but on a
        # CPU it then writes all scores into memory.
        q, k, v = (part.transpose(0, 1)[None] for part in (rotate(q, cos, sin), rotate(k, cos, sin), v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return out[0].transpose(0, 1)
