"""Batches for attention tests: random queries, and keys that lie scattered over a paged cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minillm.attention import AttentionBackend, AttentionMetadata


@dataclass(frozen=True)
class Batch:
    """The arguments of `AttentionBackend.forward`."""

    q: Tensor
    k: Tensor
    v: Tensor
    cos: Tensor
    sin: Tensor
    key_cache: Tensor
    value_cache: Tensor
    metadata: AttentionMetadata

    def run(self, backend: AttentionBackend) -> Tensor:
        return backend.forward(*(getattr(self, field.name) for field in dataclasses.fields(self)))

    def wide(self) -> Batch:
        """A copy in float32, for the oracle; its caches are its own."""
        tensors = {f.name: getattr(self, f.name).float() for f in dataclasses.fields(self) if f.name != "metadata"}
        # Tensors that are float32 already would be shared.
        tensors["key_cache"], tensors["value_cache"] = tensors["key_cache"].clone(), tensors["value_cache"].clone()
        return Batch(**tensors, metadata=self.metadata)

    def only(self, seq: int) -> Batch:
        """A batch of one of the sequences, with a copy of the caches."""
        meta = self.metadata
        begin, end = meta.query_start_loc[seq : seq + 2].tolist()
        metadata = AttentionMetadata(
            query_start_loc=torch.tensor([0, end - begin], dtype=torch.int32, device=self.q.device),
            seq_lens=meta.seq_lens[seq : seq + 1],
            block_tables=meta.block_tables[seq : seq + 1],
            slot_mapping=meta.slot_mapping[begin:end],
            max_query_len=end - begin,
            max_seq_len=int(meta.seq_lens[seq]),
            block_size=meta.block_size,
        )
        rows = (part[begin:end] for part in (self.q, self.k, self.v, self.cos, self.sin))
        return Batch(*rows, self.key_cache.clone(), self.value_cache.clone(), metadata)


def make_batch(
    query_lens: Sequence[int],
    seq_lens: Sequence[int],
    *,
    num_heads: int = 6,
    num_kv_heads: int = 2,
    head_dim: int = 16,
    block_size: int = 8,
    dtype: torch.dtype = torch.float32,
    cache_dtype: torch.dtype | None = None,
    device: str = "cpu",
    seed: int = 0,
) -> Batch:
    """Sequence i has `seq_lens[i]` tokens, the last `query_lens[i]` of them new; length 0 makes its rows padding.

    Slots that no token has been written to hold NaN: whoever reads one finds out.
    """
    generator = torch.Generator().manual_seed(seed)
    num_blocks = [-(-length // block_size) for length in seq_lens]
    free = (torch.randperm(sum(num_blocks), generator=generator) + 1).tolist()
    tables = torch.zeros(len(seq_lens), max(*num_blocks, 0) + 1, dtype=torch.int32)
    shape = (sum(num_blocks) + 1, num_kv_heads, block_size, head_dim)
    caches = [torch.full(shape, torch.nan) for _ in range(2)]
    slots: list[int] = []
    for i, (new, length) in enumerate(zip(query_lens, seq_lens, strict=True)):
        blocks = [free.pop() for _ in range(num_blocks[i])]
        tables[i, : len(blocks)] = torch.tensor(blocks, dtype=torch.int32)
        places = [blocks[at // block_size] * block_size + at % block_size for at in range(length)]
        slots += places[length - new :] if length else [-1] * new
        for slot in places[: length - new]:
            for cache in caches:
                cache[slot // block_size, :, slot % block_size] = torch.randn(
                    num_kv_heads, head_dim, generator=generator
                )
    num_tokens, sizes = sum(query_lens), [num_heads * head_dim, num_kv_heads * head_dim, num_kv_heads * head_dim]
    qkv = torch.randn(num_tokens, sum(sizes), generator=generator).to(device, dtype)
    q, k, v = (part.unflatten(1, (-1, head_dim)) for part in qkv.split(sizes, dim=1))  # views, as in the model
    angles = torch.randn(num_tokens, head_dim // 2, generator=generator).repeat(1, 2)
    metadata = AttentionMetadata(
        query_start_loc=torch.tensor([0, *query_lens]).cumsum(0).to(device, torch.int32),
        seq_lens=torch.tensor(seq_lens, dtype=torch.int32, device=device),
        block_tables=tables.to(device),
        slot_mapping=torch.tensor(slots, dtype=torch.int64, device=device),
        max_query_len=max(query_lens),
        max_seq_len=max(seq_lens),
        block_size=block_size,
    )
    key_cache, value_cache = (cache.to(device, cache_dtype or dtype) for cache in caches)
    cos, sin = angles.cos().to(device, dtype), angles.sin().to(device, dtype)
    return Batch(q, k, v, cos, sin, key_cache, value_cache, metadata)
