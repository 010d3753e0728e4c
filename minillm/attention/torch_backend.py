"""Paged attention in plain PyTorch: runs everywhere, and is the oracle for the backends that are fast."""

from __future__ import annotations

import torch
from torch import Tensor

from minillm.attention.backend import AttentionMetadata
from minillm.kernels.reference import paged_attention, rotate, write_kv

KV_TILE = 256
"""Keys that the deterministic attention looks at in one go."""


class TorchBackend:
    """Gathers each sequence's blocks, then attends over them as if they lay side by side."""

    name = "torch"

    def __init__(self, *, deterministic: bool = False) -> None:
        """
        Args:
            deterministic: each query is computed by itself, over tiles of a fixed size. Its bits then depend on its own
                text only, neither on the batch nor on how the text came in; it takes much longer.
        """
        self._attend = _one_query_at_a_time if deterministic else paged_attention

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cos: Tensor,
        sin: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        metadata: AttentionMetadata,
    ) -> Tensor:
        """See `AttentionBackend`."""
        write_kv(rotate(k, cos, sin), v, key_cache, value_cache, metadata.slot_mapping)
        return self._attend(
            rotate(q, cos, sin),
            key_cache,
            value_cache,
            metadata.query_start_loc,
            metadata.seq_lens,
            metadata.block_tables,
        )


def _one_query_at_a_time(
    q: Tensor, key_cache: Tensor, value_cache: Tensor, query_start_loc: Tensor, seq_lens: Tensor, block_tables: Tensor
) -> Tensor:
    """`paged_attention` with every sum in an order that only the query's own text decides.

    A matrix product may add up in another order when its shape is another. So every product here has one and the same
    shape: one query (of all heads) against KV_TILE keys, those that it doesn't see masked.
    """
    out = torch.zeros_like(q)
    starts, lens = query_start_loc.tolist(), seq_lens.tolist()
    num_kv_heads, block_size = key_cache.shape[1:3]
    blocks_per_tile = KV_TILE // block_size
    for i, length in enumerate(lens):
        begin, end = starts[i], starts[i + 1]
        for row in range(begin, end):
            visible = length - (end - row) + 1
            query = q[row].view(num_kv_heads, -1, q.shape[-1]).float() * q.shape[-1] ** -0.5
            best = torch.full(query.shape[:2], -torch.inf, device=q.device)
            total, found = torch.zeros_like(best), torch.zeros_like(query)
            for tile in range(0, visible, KV_TILE):
                first = tile // block_size
                blocks = block_tables[i, first : first + blocks_per_tile].long()
                # The last tile of a table is filled up with block 0, which is masked.
                blocks = torch.nn.functional.pad(blocks, (0, blocks_per_tile - len(blocks)))
                keys = key_cache[blocks].transpose(0, 1).flatten(1, 2).float()
                values = value_cache[blocks].transpose(0, 1).flatten(1, 2).float()
                hidden = torch.arange(tile, tile + KV_TILE, device=q.device) >= visible
                scores = (query @ keys.transpose(1, 2)).masked_fill(hidden, -torch.inf)
                # Online softmax (arXiv:1805.02867): what was summed so far shrinks where a higher score turns up.
                higher = torch.maximum(best, scores.amax(-1))
                shrink, weights = (best - higher).exp(), (scores - higher[..., None]).exp()
                total = total * shrink + weights.sum(-1)
                found = found * shrink[..., None] + weights @ values.masked_fill(hidden[:, None], 0)
                best = higher
            out[row] = (found / total[..., None]).flatten(0, 1).to(q.dtype)
    return out
