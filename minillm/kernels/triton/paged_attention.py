"""Causal attention over keys and values that lie in blocks, in two kernels.

`prefill_attention` takes any mix of query lengths. `decode_attention` takes one query per sequence: there's too little
work then for a program per sequence, so it splits the keys.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

SPLIT = 256
"""Keys that one decode program takes, up to MAX_SPLITS * SPLIT of them; longer sequences have longer splits."""
MAX_SPLITS = 32
MASKED = -1e30
"""The score of a key that isn't seen: finite, since the difference of two infinities is NaN."""


@triton.jit
def _attend_to_tile(
    q, best, total, acc, tokens, end, last_seen, key_cache_ptr, value_cache_ptr, block_table_ptr, kv_head, scale,
    NUM_KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr, PADDED_DIM: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """One round of online softmax (arXiv:1805.02867, arXiv:2307.08691 §3.1): a tile of keys for a tile of queries.

    What was gathered so far is relative to `best`, each row's highest score; where a higher one turns up, it shrinks.

    q: [rows, dims]; best, total: [rows]; acc: [rows, dims], the weighted sum of values, not yet divided by `total`;
    tokens: [tile], places in the sequence, there are keys before `end`; last_seen: [rows], each query's own place.
    """
    dims = tl.arange(0, PADDED_DIM)
    exists = tokens < end
    # Neighbouring tokens ask for the same entry of the table; the cache answers all but the first.
    block = tl.load(block_table_ptr + tokens // BLOCK_SIZE, mask=exists, other=0).to(tl.int64)
    row = (block * NUM_KV_HEADS + kv_head) * BLOCK_SIZE + tokens % BLOCK_SIZE
    where = row[:, None] * HEAD_DIM + dims[None, :]
    mask = exists[:, None] & (dims < HEAD_DIM)[None, :]
    keys = tl.load(key_cache_ptr + where, mask=mask, other=0.0).to(q.dtype)
    values = tl.load(value_cache_ptr + where, mask=mask, other=0.0).to(q.dtype)
    # "ieee": float32 stays float32, where the default would round it to TF32's 10 bits.
    scores = tl.dot(q, tl.trans(keys), input_precision="ieee") * scale
    scores = tl.where(tokens[None, :] <= last_seen[:, None], scores, MASKED)
    higher = tl.maximum(best, tl.max(scores, axis=1))
    shrink = tl.exp2(best - higher)
    weights = tl.exp2(scores - higher[:, None])
    acc = acc * shrink[:, None] + tl.dot(weights.to(q.dtype), values, input_precision="ieee")
    return higher, total * shrink + tl.sum(weights, axis=1), acc


# Not specialized: Triton would compile anew, in the middle of serving, when one of these is 1 or a multiple of 16.
@triton.jit(do_not_specialize=["num_seqs", "table_stride"])
def _prefill_kernel(
    out_ptr, q_ptr, key_cache_ptr, value_cache_ptr, query_start_loc_ptr, seq_lens_ptr, block_tables_ptr,
    num_seqs, table_stride, scale,
    NUM_KV_HEADS: tl.constexpr, GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    PADDED_DIM: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr, DOT_DTYPE: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """Grid: (num_tokens // QUERIES + num_seqs, KV heads). FlashAttention-2 (arXiv:2307.08691 §3) over paged keys.

    A program computes QUERIES neighbouring tokens of one sequence for all query heads that share a KV head, a row for
    each pair of token and head, so each key is read once for the whole group. It walks over the sequence's keys from
    the first to the last that its tokens see. Scores never leave the chip.
    """
    QUERIES: tl.constexpr = ROWS // GROUP
    tile, kv_head = tl.program_id(0), tl.program_id(1)
    # Sequence i's tiles begin at query_start_loc[i] // QUERIES + i, which leaves room for every rounding up. So the
    # grid needn't be as wide as the longest sequence for all; which sequence is ours, a binary search tells.
    seq, after = tl.full((), 0, tl.int32), tl.full((), 0, tl.int32) + num_seqs
    while after - seq > 1:
        middle = (seq + after) // 2
        if tl.load(query_start_loc_ptr + middle) // QUERIES + middle <= tile:
            seq = middle
        else:
            after = middle
    begin = tl.load(query_start_loc_ptr + seq)
    query_len = tl.load(query_start_loc_ptr + seq + 1) - begin
    seq_len = tl.load(seq_lens_ptr + seq)
    first = (tile - begin // QUERIES - seq) * QUERIES
    if first < query_len:
        rows, dims = tl.arange(0, ROWS), tl.arange(0, PADDED_DIM)
        query, head = first + rows // GROUP, kv_head * GROUP + rows % GROUP
        row = (begin + query).to(tl.int64) * (NUM_KV_HEADS * GROUP) + head
        where = row[:, None] * HEAD_DIM + dims[None, :]
        mask = ((rows < QUERIES * GROUP) & (query < query_len))[:, None] & (dims < HEAD_DIM)[None, :]
        q = tl.load(q_ptr + where, mask=mask, other=0.0).to(DOT_DTYPE)
        num_computed = seq_len - query_len
        end = tl.minimum(num_computed + first + QUERIES, seq_len)
        best = tl.full((ROWS,), float("-inf"), tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        acc = tl.zeros((ROWS, PADDED_DIM), tl.float32)
        for start in range(0, end, TILE):
            best, total, acc = _attend_to_tile(
                q, best, total, acc, start + tl.arange(0, TILE), end, num_computed + query,
                key_cache_ptr, value_cache_ptr, block_tables_ptr + seq.to(tl.int64) * table_stride, kv_head, scale,
                NUM_KV_HEADS, HEAD_DIM, BLOCK_SIZE, PADDED_DIM, MASKED,
            )  # fmt: skip
        acc = acc / tl.where(total > 0, total, 1.0)[:, None]  # a padding row has seen nothing
        tl.store(out_ptr + where, acc.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=["table_stride", "num_splits"])
def _decode_kernel(
    parts_ptr, log_totals_ptr, q_ptr, key_cache_ptr, value_cache_ptr, seq_lens_ptr, block_tables_ptr,
    table_stride, num_splits, scale,
    NUM_KV_HEADS: tl.constexpr, GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    PADDED_DIM: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr, DOT_DTYPE: tl.constexpr, MASKED: tl.constexpr,
    SPLIT: tl.constexpr, MAX_SPLITS: tl.constexpr,
):  # fmt: skip
    """Grid: (sequences, KV heads, splits). FlashDecoding (pytorch.org/blog/flash-decoding): the keys are split as well.

    One query gives a program little to do, and a long sequence would keep one busy while others idle. So a program
    takes SPLIT keys only, for the query heads that share a KV head, and writes what it found to `parts`
    [num_seqs, num_heads, num_splits, HEAD_DIM] and the logarithm of its softmax's total to `log_totals`. How a sequence
    is split depends on its own length alone, so its result doesn't depend on others in the batch.
    """
    seq, kv_head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    seq_len = tl.load(seq_lens_ptr + seq)
    size = tl.maximum(tl.cdiv(seq_len, MAX_SPLITS * SPLIT), 1) * SPLIT
    if split * size < seq_len:
        rows, dims = tl.arange(0, ROWS), tl.arange(0, PADDED_DIM)
        row = (seq * NUM_KV_HEADS + kv_head) * GROUP + rows
        mask = (rows < GROUP)[:, None] & (dims < HEAD_DIM)[None, :]
        q = tl.load(q_ptr + row[:, None] * HEAD_DIM + dims[None, :], mask=mask, other=0.0).to(DOT_DTYPE)
        end = tl.minimum((split + 1) * size, seq_len)
        best = tl.full((ROWS,), float("-inf"), tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        acc = tl.zeros((ROWS, PADDED_DIM), tl.float32)
        for start in range(split * size, end, TILE):
            best, total, acc = _attend_to_tile(
                q, best, total, acc, start + tl.arange(0, TILE), end, tl.zeros((ROWS,), tl.int32) + end - 1,
                key_cache_ptr, value_cache_ptr, block_tables_ptr + seq * table_stride, kv_head, scale,
                NUM_KV_HEADS, HEAD_DIM, BLOCK_SIZE, PADDED_DIM, MASKED,
            )  # fmt: skip
        part = row * num_splits + split
        tl.store(parts_ptr + part[:, None] * HEAD_DIM + dims[None, :], acc / total[:, None], mask=mask)
        tl.store(log_totals_ptr + part, best + tl.log2(total), mask=rows < GROUP)


@triton.jit(do_not_specialize=["num_splits"])
def _combine_kernel(
    out_ptr, parts_ptr, log_totals_ptr, seq_lens_ptr, num_splits,
    NUM_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, PADDED_DIM: tl.constexpr, MASKED: tl.constexpr,
    SPLIT: tl.constexpr, MAX_SPLITS: tl.constexpr,
):  # fmt: skip
    """Grid: (sequences, heads). A program joins one head's splits, each weighted by its share of the softmax's total.

    The sum always has MAX_SPLITS terms, most of them 0: its order mustn't depend on the longest sequence of the batch.
    """
    seq, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    seq_len = tl.load(seq_lens_ptr + seq)
    splits, dims = tl.arange(0, MAX_SPLITS), tl.arange(0, PADDED_DIM)
    size = tl.maximum(tl.cdiv(seq_len, MAX_SPLITS * SPLIT), 1) * SPLIT
    used = splits * size < seq_len
    row = seq * NUM_HEADS + head
    part = row * num_splits + splits
    log_totals = tl.load(log_totals_ptr + part, mask=used, other=MASKED)
    weights = tl.exp2(log_totals - tl.max(log_totals, axis=0))
    mask = used[:, None] & (dims < HEAD_DIM)[None, :]
    parts = tl.load(parts_ptr + part[:, None] * HEAD_DIM + dims[None, :], mask=mask, other=0.0)
    out = tl.sum(parts * weights[:, None], axis=0) / tl.sum(weights, axis=0)
    tl.store(out_ptr + row * HEAD_DIM + dims, out.to(out_ptr.dtype.element_ty), mask=dims < HEAD_DIM)


def prefill_attention(
    q: Tensor, key_cache: Tensor, value_cache: Tensor, query_start_loc: Tensor, seq_lens: Tensor, block_tables: Tensor
) -> Tensor:
    """Causal attention for any mix of query lengths; what a row gets depends on its own sequence alone, bit by bit.

    Args:
        q: [num_tokens, num_heads, head_dim], rotated, contiguous.
        key_cache, value_cache: [num_blocks, num_kv_heads, block_size, head_dim], contiguous.
        query_start_loc: [num_seqs + 1] int32; sequence i's tokens are the rows between entries i and i + 1.
        seq_lens: [num_seqs] int32, the new tokens included.
        block_tables: [num_seqs, max_blocks] int32.

    Returns:
        [num_tokens, num_heads, head_dim]; rows past the last sequence are 0.
    """
    out = torch.zeros_like(q)
    num_seqs, num_kv_heads = len(seq_lens), key_cache.shape[1]
    sizes = _sizes(q, key_cache, rows=64)
    grid = (len(q) // (sizes["ROWS"] // sizes["GROUP"]) + num_seqs, num_kv_heads)
    _prefill_kernel[grid](
        out, q, key_cache, value_cache, query_start_loc, seq_lens, block_tables,
        num_seqs, block_tables.stride(0), _scale(q), **sizes, num_warps=4, num_stages=2, enable_fp_fusion=True,
    )  # fmt: skip
    return out


def decode_attention(
    q: Tensor, key_cache: Tensor, value_cache: Tensor, seq_lens: Tensor, block_tables: Tensor, max_seq_len: int
) -> Tensor:
    """Attention where each sequence has one query, its last token. A sequence of length 0 is padding and gets 0.

    Args:
        q: [num_seqs, num_heads, head_dim], rotated, contiguous.
        key_cache, value_cache: [num_blocks, num_kv_heads, block_size, head_dim], contiguous.
        seq_lens: [num_seqs] int32.
        block_tables: [num_seqs, max_blocks] int32.
        max_seq_len: no sequence is longer; it decides how many splits are started, not how a sequence is split.

    Returns:
        [num_seqs, num_heads, head_dim].
    """
    num_seqs, num_heads, head_dim = q.shape
    num_kv_heads = key_cache.shape[1]
    num_splits = min(max(triton.cdiv(max_seq_len, SPLIT), 1), MAX_SPLITS)
    parts = torch.empty(num_seqs, num_heads, num_splits, head_dim, dtype=torch.float32, device=q.device)
    log_totals = torch.empty(num_seqs, num_heads, num_splits, dtype=torch.float32, device=q.device)
    out = torch.empty_like(q)
    sizes = _sizes(q, key_cache, rows=16)
    _decode_kernel[(num_seqs, num_kv_heads, num_splits)](
        parts, log_totals, q, key_cache, value_cache, seq_lens, block_tables,
        block_tables.stride(0), num_splits, _scale(q), **sizes, SPLIT=SPLIT, MAX_SPLITS=MAX_SPLITS,
        num_warps=4, num_stages=2, enable_fp_fusion=True,
    )  # fmt: skip
    _combine_kernel[(num_seqs, num_heads)](
        out, parts, log_totals, seq_lens, num_splits,
        NUM_HEADS=num_heads, HEAD_DIM=head_dim, PADDED_DIM=sizes["PADDED_DIM"], MASKED=MASKED,
        SPLIT=SPLIT, MAX_SPLITS=MAX_SPLITS, enable_fp_fusion=True,
    )  # fmt: skip
    return out


def _scale(q: Tensor) -> float:
    """Of the scores, as powers of 2: the GPU has an instruction for those, not for powers of e."""
    return q.shape[-1] ** -0.5 * math.log2(math.e)


def _sizes(q: Tensor, key_cache: Tensor, rows: int) -> dict[str, int | float | tl.dtype]:
    """What both kernels are compiled for. Powers of 2 throughout, as Triton wants them, with what's over masked."""
    num_kv_heads, block_size, head_dim = key_cache.shape[1:]
    group = q.shape[1] // num_kv_heads
    padded_dim = max(triton.next_power_of_2(head_dim), 16)
    dot_dtype = _dot_dtype(q)
    # Queries, keys and values have to fit the shared memory of a small GPU, 64 KiB, whatever a row of them takes.
    shrink = max(padded_dim * dot_dtype.primitive_bitwidth // 2048, 1)
    return {
        "NUM_KV_HEADS": num_kv_heads,
        "GROUP": group,
        "HEAD_DIM": head_dim,
        "BLOCK_SIZE": block_size,
        "PADDED_DIM": padded_dim,
        "ROWS": max(rows // shrink, 16, triton.next_power_of_2(group)),  # a tensor core takes no fewer than 16
        "TILE": 64 // shrink,
        "DOT_DTYPE": dot_dtype,
        "MASKED": MASKED,
    }


def _dot_dtype(q: Tensor) -> tl.dtype:
    """What tensor cores multiply; they add up in float32."""
    if q.dtype == torch.bfloat16 and not (q.is_cuda and torch.cuda.get_device_capability(q.device) >= (8, 0)):
        # Chips before Ampere have no bfloat16, and Triton's interpreter multiplies its bits as if they were integers.
        return tl.float32
    return {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}[q.dtype]
