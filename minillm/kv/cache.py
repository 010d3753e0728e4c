"""The memory of the KV cache: one pool of blocks for all requests, in each layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class PagedKVCache:
    """Keys and values in blocks (arXiv:2309.06180 §4.1). Which block belongs to whom, the `KVCacheManager` knows.

    Attributes:
        keys, values: [num_layers, num_blocks, num_kv_heads, block_size, head_dim]: the tokens of a block lie together
            for each head, in the order in which attention reads them.
        layers: for each layer its keys and values.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_blocks: int,
        block_size: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        """Reserves the memory. On a CPU the system hands it over page by page, as blocks are first written."""
        shape = (num_layers, num_blocks, num_kv_heads, block_size, head_dim)
        self.keys = torch.empty(shape, dtype=dtype, device=device)
        self.values = torch.empty(shape, dtype=dtype, device=device)
        # Block 0 is what padding in block tables points to; kernels may read it and mustn't find NaN there.
        self.keys[:, 0] = 0
        self.values[:, 0] = 0
        self.layers: list[tuple[Tensor, Tensor]] = list(zip(self.keys, self.values, strict=True))
        self.block_size = block_size

    @staticmethod
    def block_bytes(num_layers: int, block_size: int, num_kv_heads: int, head_dim: int, dtype: torch.dtype) -> int:
        """Bytes that one block takes in all layers together."""
        return 2 * num_layers * block_size * num_kv_heads * head_dim * dtype.itemsize

    def copy_blocks(self, copies: Sequence[tuple[int, int]]) -> None:
        """Copies blocks in all layers: (source, destination), for copy-on-write."""
        if copies:
            sources, destinations = torch.tensor(copies, device=self.keys.device).T
            self.keys[:, destinations] = self.keys[:, sources]
            self.values[:, destinations] = self.values[:, sources]
