"""Paged attention on a GPU, with Triton kernels."""

from __future__ import annotations

from torch import Tensor

from minillm.attention.backend import AttentionMetadata
from minillm.errors import MinillmError
from minillm.kernels.triton.paged_attention import decode_attention, prefill_attention
from minillm.kernels.triton.rope_kv import rope_and_write_kv


class TritonBackend:
    """One kernel turns and stores, then one attends: with split keys if each sequence has one new token."""

    name = "triton"

    def __init__(self, *, deterministic: bool = False) -> None:
        """
        Args:
            deterministic: decoding takes the kernel for prefill as well. The two add up in different orders, and which
                of them a token meets depends on what else is in the batch.
        """
        self._split_keys = not deterministic

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
        """See `AttentionBackend`.

        Raises:
            MinillmError: for a head_dim that isn't a multiple of 8 up to 256, or a cache that isn't contiguous.
        """
        head_dim = q.shape[-1]
        if head_dim % 8 or head_dim > 256:
            raise MinillmError(
                f"head_dim is {head_dim}; the Triton kernels take multiples of 8 up to 256. "
                "Use attention_backend='torch'."
            )
        if not (key_cache.is_contiguous() and value_cache.is_contiguous()):
            raise MinillmError("The KV cache of a layer must be contiguous: slice whole layers, not parts of a block.")
        q = rope_and_write_kv(q, k, v, cos, sin, key_cache, value_cache, metadata.slot_mapping)
        seq_lens, block_tables = metadata.seq_lens, metadata.block_tables
        if self._split_keys and metadata.max_query_len == 1 and len(q) == len(seq_lens):
            return decode_attention(q, key_cache, value_cache, seq_lens, block_tables, metadata.max_seq_len)
        return prefill_attention(q, key_cache, value_cache, metadata.query_start_loc, seq_lens, block_tables)
