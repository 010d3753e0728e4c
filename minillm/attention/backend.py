"""The seam between the decoder and whatever keeps its keys and values."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Attention(Protocol):
    """What a decoder layer calls: takes in the new tokens' keys and values, returns what their queries find."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attends for the tokens of one forward pass.

        Args:
            layer: index of the decoder layer, from 0; each layer has keys and values of its own.
            q: [num_tokens, num_heads, head_dim], already turned by RoPE.
            k, v: [num_tokens, num_kv_heads, head_dim].

        Returns:
            [num_tokens, num_heads, head_dim].
        """
        ...
