"""The attention of the CPU path, in C: see minillm/kernels/cpu/attention.c."""

from __future__ import annotations

from ctypes import c_int, c_long, c_void_p

import torch
from torch import Tensor

from minillm.attention.backend import AttentionMetadata
from minillm.errors import MinillmError
from minillm.kernels.cpu import Library, load, why_not


class CPUBackend:
    """`AttentionBackend` over the C kernels: queries in float32, keys and values in float32 or bfloat16.

    Args:
        library: compiled kernels; by default those for this machine.

    Raises:
        MinillmError: if they can't be compiled here.
    """

    name = "cpu"

    def __init__(self, library: Library | None = None) -> None:
        library = library or load()
        if library is None:
            raise MinillmError(f"The CPU kernels aren't available. {why_not()} Without them, PyTorch does the work.")
        self._attention = library.functions.attention
        tensors, strided = c_void_p, (c_void_p, c_long)
        self._attention.argtypes = (
            *[c_long] * 7, *strided * 3, *[tensors] * 4, c_int, *[tensors] * 4, c_long, c_long, tensors, c_int,
        )  # fmt: skip

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
        """See `AttentionBackend`. The result of a query is the same to the last bit in any batch and any chunk.

        Raises:
            MinillmError: for queries other than float32, or a cache other than float32 or bfloat16.
        """
        half = key_cache.dtype == torch.bfloat16
        if q.dtype != torch.float32 or not (half or key_cache.dtype == torch.float32):
            raise MinillmError(
                "The CPU's attention takes float32 queries and a float32 or bfloat16 KV cache, "
                f"not {q.dtype} and {key_cache.dtype}."
            )
        num_tokens, heads, dim = q.shape
        q, k, v = (x if x.stride(1) == dim and x.stride(2) == 1 else x.contiguous() for x in (q, k, v))
        tables = metadata.block_tables
        out = torch.empty((num_tokens, heads, dim), dtype=torch.float32)
        failed = self._attention(
            num_tokens, metadata.seq_lens.shape[0], heads, k.shape[1], dim, key_cache.shape[2], tables.stride(0),
            q.data_ptr(), q.stride(0), k.data_ptr(), k.stride(0), v.data_ptr(), v.stride(0),
            cos.data_ptr(), sin.data_ptr(), key_cache.data_ptr(), value_cache.data_ptr(), half,
            metadata.query_start_loc.data_ptr(), metadata.seq_lens.data_ptr(), tables.data_ptr(),
            metadata.slot_mapping.data_ptr(), metadata.max_query_len, metadata.max_seq_len,
            out.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        if failed:
            raise MemoryError(f"No memory for the attention of {num_tokens} tokens.")
        return out
