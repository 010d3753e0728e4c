"""Rotary embedding (arXiv:2104.09864) of queries and keys, and the write into the KV cache, in one kernel."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _rotate(to_ptr, from_ptr, cos, sin, mask, HALF: tl.constexpr):
    """Turns the pairs (i, i + head_dim / 2) on the way from one place to the other; the pointers are to the i."""
    first = tl.load(from_ptr, mask=mask, other=0.0).to(tl.float32)
    second = tl.load(from_ptr + HALF, mask=mask, other=0.0).to(tl.float32)
    tl.store(to_ptr, (first * cos - second * sin).to(to_ptr.dtype.element_ty), mask=mask)
    tl.store(to_ptr + HALF, (second * cos + first * sin).to(to_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _rope_and_write_kv_kernel(
    q_out_ptr, q_ptr, k_ptr, v_ptr, cos_ptr, sin_ptr, key_cache_ptr, value_cache_ptr, slot_mapping_ptr,
    q_stride, k_stride, v_stride, cos_stride, sin_stride,
    NUM_KV_HEADS: tl.constexpr, GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    GROUP_PADDED: tl.constexpr, HALF_PADDED: tl.constexpr,
):  # fmt: skip
    """Grid: (tokens, KV heads). A program turns one key and the queries that share it; key and value go to their slot.

    Keys are rotated once, when they're written: attention reads them many times and needn't know their positions. A
    slot's row is head_dim numbers in a piece, as its threads read them (arXiv:2309.06180 §5.1 fuses the same steps).
    """
    token, kv_head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    HALF: tl.constexpr = HEAD_DIM // 2
    dims = tl.arange(0, HALF_PADDED)
    inside = dims < HALF
    # The second halves of cos and sin repeat the first.
    cos = tl.load(cos_ptr + token * cos_stride + dims, mask=inside, other=0.0).to(tl.float32)
    sin = tl.load(sin_ptr + token * sin_stride + dims, mask=inside, other=0.0).to(tl.float32)

    members = tl.arange(0, GROUP_PADDED)[:, None]
    mask = (members < GROUP) & inside[None, :]
    where = (kv_head * GROUP + members) * HEAD_DIM + dims[None, :]
    _rotate(
        q_out_ptr + token * NUM_KV_HEADS * GROUP * HEAD_DIM + where, q_ptr + token * q_stride + where,
        cos[None, :], sin[None, :], mask, HALF,
    )  # fmt: skip

    slot = tl.load(slot_mapping_ptr + token)
    if slot >= 0:  # -1 is a padding row
        row = (slot // BLOCK_SIZE * NUM_KV_HEADS + kv_head) * BLOCK_SIZE + slot % BLOCK_SIZE
        _rotate(
            key_cache_ptr + row * HEAD_DIM + dims, k_ptr + token * k_stride + kv_head * HEAD_DIM + dims,
            cos, sin, inside, HALF,
        )  # fmt: skip
        every = tl.arange(0, 2 * HALF_PADDED)
        value = tl.load(v_ptr + token * v_stride + kv_head * HEAD_DIM + every, mask=every < HEAD_DIM, other=0.0)
        value = value.to(value_cache_ptr.dtype.element_ty)
        tl.store(value_cache_ptr + row * HEAD_DIM + every, value, mask=every < HEAD_DIM)


def rope_and_write_kv(
    q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor
) -> Tensor:
    """Turns queries and keys by their positions and puts keys and values into their slots.

    Args:
        q: [num_tokens, num_heads, head_dim]; rows may lie apart (a view of a fused row), heads of a row may not.
        k, v: [num_tokens, num_kv_heads, head_dim], likewise.
        cos, sin: [num_tokens, head_dim].
        key_cache, value_cache: [num_blocks, num_kv_heads, block_size, head_dim], contiguous; written to.
        slots: [num_tokens] int64; -1 for rows that aren't written.

    Returns:
        The rotated queries, [num_tokens, num_heads, head_dim], contiguous; q itself stays as it is.
    """
    num_tokens, num_heads, head_dim = q.shape
    num_kv_heads, block_size = key_cache.shape[1:3]
    group = num_heads // num_kv_heads
    q, k, v = (part if part.stride()[1:] == (head_dim, 1) else part.contiguous() for part in (q, k, v))
    q_out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    _rope_and_write_kv_kernel[(num_tokens, num_kv_heads)](
        q_out, q, k, v, cos, sin, key_cache, value_cache, slots,
        q.stride(0), k.stride(0), v.stride(0), cos.stride(0), sin.stride(0),
        NUM_KV_HEADS=num_kv_heads, GROUP=group, HEAD_DIM=head_dim, BLOCK_SIZE=block_size,
        GROUP_PADDED=triton.next_power_of_2(group), HALF_PADDED=triton.next_power_of_2(head_dim // 2),
        num_warps=1, enable_fp_fusion=True,
    )  # fmt: skip
    return q_out
