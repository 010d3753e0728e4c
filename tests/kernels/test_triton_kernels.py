"""The Triton kernels against their references: on the GPU where there is one, else in Triton's interpreter on the CPU.

TRITON_INTERPRET=1 pytest tests/kernels/test_triton_kernels.py runs them without a GPU; the suite does so by way of
test_triton_without_gpu.py. Shapes are tiny, since the interpreter is slow, and divide as little as possible.
"""

from __future__ import annotations

import os

import pytest
import torch
from paged_batches import Batch, make_batch
from torch import Tensor

from minillm.attention import TorchBackend
from minillm.attention.triton_backend import TritonBackend
from minillm.errors import MinillmError
from minillm.kernels import TorchKernels, quantize
from minillm.kernels.reference import rotate
from minillm.kernels.triton import TritonKernels
from minillm.kernels.triton.paged_attention import MAX_SPLITS, SPLIT, decode_attention, prefill_attention
from minillm.kernels.triton.rope_kv import rope_and_write_kv

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
if DEVICE == "cuda" and not torch.cuda.is_available():
    raise RuntimeError("PyTorch finds no GPU. Set TRITON_INTERPRET=1 to run these tests on the CPU.")
KERNELS, REFERENCE = TritonKernels(), TorchKernels()
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Of bfloat16's 8 bits the interpreter truncates the last, where a GPU rounds.
TOLERANCE = {torch.float32: 2e-6, torch.float16: 4e-3, torch.bfloat16: 4e-2}

each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: str(dtype).removeprefix("torch."))


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Compares in float32, with what the dtype of `found` allows for."""
    tolerance = TOLERANCE[found.dtype]
    torch.testing.assert_close(found.float(), expected.float(), rtol=tolerance, atol=tolerance)


def assert_agrees_with_the_oracle(batch: Batch, backend: TritonBackend | None = None) -> None:
    wide = batch.wide()
    expected = wide.run(TorchBackend())
    found = batch.run(backend or TritonBackend())
    assert found.dtype == batch.q.dtype
    padding = batch.metadata.slot_mapping < 0
    assert bool((found[padding] == 0).all())
    assert_close(found[~padding], expected[~padding])


@each_dtype
@pytest.mark.parametrize("size", [1, 72, 576])
def test_rms_norm_agrees_with_the_reference(size: int, dtype: torch.dtype) -> None:
    x, weight = random(3, size, dtype=dtype), random(size, dtype=dtype, seed=1)
    assert_close(KERNELS.rms_norm(x, weight, 1e-5), REFERENCE.rms_norm(x, weight, 1e-5))


def test_rms_norm_takes_rows_that_lie_apart() -> None:
    x, weight = random(5, 100)[:, 7:31], random(24, seed=1)
    assert_close(KERNELS.rms_norm(x, weight, 1e-5), REFERENCE.rms_norm(x, weight, 1e-5))


@each_dtype
@pytest.mark.parametrize("size", [8, 200])
def test_add_rms_norm_adds_in_place_and_norms_the_sum(size: int, dtype: torch.dtype) -> None:
    x, residual, weight = (random(4, size, dtype=dtype, seed=seed) for seed in range(3))
    expected_residual = residual.clone()
    expected = REFERENCE.add_rms_norm(x, expected_residual, weight[0], 1e-6)
    assert_close(KERNELS.add_rms_norm(x, residual, weight[0], 1e-6), expected)
    assert_close(residual, expected_residual)


@each_dtype
@pytest.mark.parametrize("size", [3, 1025])
def test_silu_and_mul_agrees_with_the_reference(size: int, dtype: torch.dtype) -> None:
    gate_up = random(2, 2 * size, dtype=dtype) * 4
    assert_close(KERNELS.silu_and_mul(gate_up), REFERENCE.silu_and_mul(gate_up))


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_linear_takes_quantized_weights(kind: str) -> None:
    x, weight = random(3, 64), quantize(random(5, 64, seed=1), kind)
    assert_close(KERNELS.linear(x, weight, None), x @ weight.dequantize().T)


@pytest.mark.parametrize("head_dim", [8, 24, 64])
@each_dtype
def test_rope_turns_queries_and_keys_and_fills_the_slots_that_are_named(dtype: torch.dtype, head_dim: int) -> None:
    batch = make_batch([2, 3], [9, 3], head_dim=head_dim, dtype=dtype, device=DEVICE)
    batch.metadata.slot_mapping[1] = -1
    before, q_before = (batch.key_cache.clone(), batch.value_cache.clone()), batch.q.clone()
    inputs = (batch.q, batch.k, batch.v, batch.cos, batch.sin, batch.key_cache, batch.value_cache)
    assert not batch.q.is_contiguous()
    q = rope_and_write_kv(*inputs, batch.metadata.slot_mapping)
    wide = batch.wide()
    assert_close(q, rotate(wide.q, wide.cos, wide.sin))
    assert torch.equal(batch.q, q_before)
    expected_keys = rotate(wide.k, wide.cos, wide.sin)
    for row, slot in enumerate(batch.metadata.slot_mapping.tolist()):
        if slot >= 0:
            where = (slot // 8, slice(None), slot % 8)
            assert_close(batch.key_cache[where], expected_keys[row])
            assert torch.equal(batch.value_cache[where], batch.v[row])
            for old, new in zip(before, (batch.key_cache, batch.value_cache), strict=True):
                old[where] = new[where]
    # All other slots keep their bits, NaN included.
    for old, new in zip(before, (batch.key_cache, batch.value_cache), strict=True):
        assert torch.equal(old.view(torch.uint8), new.view(torch.uint8))


@each_dtype
@pytest.mark.parametrize("block_size", [8, 16, 32])
def test_a_mix_of_query_lengths_agrees_with_the_oracle(block_size: int, dtype: torch.dtype) -> None:
    batch = make_batch(
        [1, 25, 3, 1], [70, 25, 40, 1], num_heads=9, num_kv_heads=3, head_dim=24, block_size=block_size, dtype=dtype,
        device=DEVICE,
    )  # fmt: skip
    assert_agrees_with_the_oracle(batch)


@pytest.mark.parametrize(("num_heads", "num_kv_heads", "head_dim"), [(1, 1, 8), (5, 1, 40), (4, 4, 80), (14, 2, 256)])
@pytest.mark.parametrize("query_len", [1, 5])
def test_any_grouping_and_head_dim_agrees_with_the_oracle(
    query_len: int, num_heads: int, num_kv_heads: int, head_dim: int
) -> None:
    batch = make_batch(
        [query_len, query_len], [37, 5], num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim,
        device=DEVICE,
    )  # fmt: skip
    assert_agrees_with_the_oracle(batch)


@each_dtype
@pytest.mark.parametrize("block_size", [8, 32])
def test_decoding_agrees_with_the_oracle(block_size: int, dtype: torch.dtype) -> None:
    lens = [1, SPLIT - 1, SPLIT, SPLIT + 1, 3 * SPLIT - 7]
    batch = make_batch([1] * 5, lens, num_heads=3, num_kv_heads=1, block_size=block_size, dtype=dtype, device=DEVICE)
    assert_agrees_with_the_oracle(batch)


def test_a_sequence_with_more_keys_than_the_splits_hold_has_longer_splits() -> None:
    # Past SPLIT * MAX_SPLITS, and in the same batch one that isn't.
    lens = [SPLIT * MAX_SPLITS + 5, SPLIT + 3]
    batch = make_batch([1, 1], lens, num_heads=2, num_kv_heads=1, head_dim=8, block_size=32, device=DEVICE)
    assert_agrees_with_the_oracle(batch)


@pytest.mark.parametrize("query_lens", [[1, 1, 1], [1, 1, 20]])
def test_padding_rows_are_harmless(query_lens: list[int]) -> None:
    batch = make_batch(query_lens, [0, 19, 0], device=DEVICE)
    padding_block = batch.key_cache[0].clone()
    assert_agrees_with_the_oracle(batch)
    assert torch.equal(batch.key_cache[0].view(torch.uint8), padding_block.view(torch.uint8))


def test_rows_past_the_last_sequence_are_zero() -> None:
    batch = make_batch([4, 3], [9, 3], device=DEVICE)
    starts = batch.metadata.query_start_loc.clone()
    q = random(9, 6, 16)
    caches = (batch.key_cache.nan_to_num(1.0), batch.value_cache.nan_to_num(1.0))
    out = prefill_attention(q, *caches, starts, batch.metadata.seq_lens, batch.metadata.block_tables)
    assert bool((out[7:] == 0).all()) and bool((out[:7] != 0).all())


def test_a_cache_in_bfloat16_serves_float32_queries() -> None:
    batch = make_batch([1, 6], [30, 6], cache_dtype=torch.bfloat16, device=DEVICE)
    wide = batch.wide()
    found, expected = batch.run(TritonBackend()), wide.run(TorchBackend())
    # The new keys are rounded for the one and not for the other.
    torch.testing.assert_close(found, expected, rtol=4e-2, atol=4e-2)


@pytest.mark.parametrize("max_seq_len", [300, 5000])
def test_a_decoded_row_has_the_same_bits_whoever_shares_the_batch(max_seq_len: int) -> None:
    # A company with longer sequences has more splits, and a graph as many as the longest that may come.
    batch = make_batch([1, 1, 1], [300, 2, 90], device=DEVICE)
    batch.run(TritonBackend())
    meta = batch.metadata
    q = random(3, 6, 16)
    together = decode_attention(q, batch.key_cache, batch.value_cache, meta.seq_lens, meta.block_tables, max_seq_len)
    for i in range(3):
        part = slice(i, i + 1)
        alone = decode_attention(
            q[part], batch.key_cache, batch.value_cache, meta.seq_lens[part], meta.block_tables[part],
            int(meta.seq_lens[i]),
        )  # fmt: skip
        assert torch.equal(alone, together[part])


def test_the_deterministic_backend_gives_the_same_bits_token_by_token_and_in_company() -> None:
    backend = TritonBackend(deterministic=True)
    batch = make_batch([30, 1, 7], [75, 33, 7], device=DEVICE)
    alone = batch.only(0)
    together = batch.run(backend)[:30]
    for row in range(30):
        one = make_one_token_step(alone, row, cached=45)
        found = one.run(backend)[0]
        # The interpreter multiplies with NumPy, whose BLAS adds up a row by where in the tile it lies.
        close = torch.allclose(found, together[row], rtol=1e-6, atol=1e-6)
        assert torch.equal(found, together[row]) if DEVICE == "cuda" else close, f"row {row}"


def make_one_token_step(batch: Batch, row: int, cached: int) -> Batch:
    """The step that computes one of a single sequence's new tokens, when those before it are in the cache."""
    step = batch.only(0)
    rows = slice(row, row + 1)
    metadata = type(step.metadata)(
        query_start_loc=torch.tensor([0, 1], dtype=torch.int32, device=DEVICE),
        seq_lens=torch.tensor([cached + row + 1], dtype=torch.int32, device=DEVICE),
        block_tables=step.metadata.block_tables,
        slot_mapping=step.metadata.slot_mapping[rows],
        max_query_len=1,
        max_seq_len=cached + row + 1,
        block_size=step.metadata.block_size,
    )
    # The caches are shared on purpose: each step finds what the ones before it wrote.
    return Batch(
        batch.q[rows], batch.k[rows], batch.v[rows], batch.cos[rows], batch.sin[rows], batch.key_cache,
        batch.value_cache, metadata,
    )  # fmt: skip


@pytest.mark.parametrize("head_dim", [12, 264])
def test_a_head_dim_that_the_kernels_cannot_take_is_refused(head_dim: int) -> None:
    batch = make_batch([1], [3], head_dim=head_dim, device=DEVICE)
    with pytest.raises(MinillmError, match=f"head_dim is {head_dim}.*multiples of 8 up to 256"):
        batch.run(TritonBackend())


def test_a_cache_that_is_not_contiguous_is_refused() -> None:
    batch = make_batch([1], [3], device=DEVICE)
    wider = torch.cat((batch.key_cache, batch.key_cache), dim=-1)
    halves = Batch(batch.q, batch.k, batch.v, batch.cos, batch.sin, wider[..., :16], batch.value_cache, batch.metadata)
    with pytest.raises(MinillmError, match="contiguous"):
        halves.run(TritonBackend())
