"""Every kernel in plain PyTorch: slow, short, and what the fast ones are tested against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from minillm.kernels.quantized import QuantizedTensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x: [..., size] → [..., size], same dtype; the mean is taken in float32."""
    wide = x.float()
    normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * normed.to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns queries or keys by their positions (RoPE); dimension i is paired with i + head_dim / 2.

    x: [num_tokens, num_heads, head_dim]; cos, sin: [num_tokens, head_dim].
    """
    cos, sin = cos[:, None, :].to(x.dtype), sin[:, None, :].to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def write_kv(k: Tensor, v: Tensor, key_cache: Tensor, value_cache: Tensor, slot_mapping: Tensor) -> None:
    """Puts new keys and values into their slots; slot -1 is a padding row and isn't written.

    k, v: [num_tokens, num_kv_heads, head_dim]; caches: [num_blocks, num_kv_heads, block_size, head_dim].
    """
    block_size = key_cache.shape[2]
    rows = (slot_mapping >= 0).nonzero()[:, 0]
    slots = slot_mapping[rows]
    key_cache[slots // block_size, :, slots % block_size] = k[rows].to(key_cache.dtype)
    value_cache[slots // block_size, :, slots % block_size] = v[rows].to(value_cache.dtype)


def paged_attention(
    q: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    query_start_loc: Tensor,
    seq_lens: Tensor,
    block_tables: Tensor,
) -> Tensor:
    """Causal attention over keys and values that lie in blocks (arXiv:2309.06180 §4.2).

    Args:
        q: [num_tokens, num_heads, head_dim], rotated.
        key_cache, value_cache: [num_blocks, num_kv_heads, block_size, head_dim].
        query_start_loc: [num_seqs + 1]; sequence i's tokens are the rows between entries i and i + 1.
        seq_lens: [num_seqs], the new tokens included; these are a sequence's last.
        block_tables: [num_seqs, max_blocks].

    Returns:
        [num_tokens, num_heads, head_dim]; rows past the last sequence are 0.
    """
    out = torch.zeros_like(q)
    block_size = key_cache.shape[2]
    starts, lens = query_start_loc.tolist(), seq_lens.tolist()
    for i, length in enumerate(lens):
        begin, end = starts[i], starts[i + 1]
        blocks = block_tables[i, : (length + block_size - 1) // block_size].long()
        keys = key_cache[blocks].transpose(0, 1).flatten(1, 2)[:, :length].to(q.dtype)
        values = value_cache[blocks].transpose(0, 1).flatten(1, 2)[:, :length].to(q.dtype)
        # Query j of n stands at position length - n + j and sees the keys up to there.
        mask = torch.ones(end - begin, length, dtype=torch.bool, device=q.device).tril(length - (end - begin))
        found = F.scaled_dot_product_attention(
            q[begin:end].transpose(0, 1)[None], keys[None], values[None], attn_mask=mask, enable_gqa=True
        )
        out[begin:end] = found[0].transpose(0, 1)
    return out


class TorchKernels:
    """The reference as `Kernels`: for GPUs without Triton, CPUs without a compiler, and tests."""

    name = "torch"

    def activation_dtype(self, weight_dtype: torch.dtype) -> torch.dtype:
        """PyTorch multiplies like with like."""
        return weight_dtype

    def linear(self, x: Tensor, weight: Tensor | QuantizedTensor, bias: Tensor | None) -> Tensor:
        """See `Kernels`. A quantized weight is dequantized each time, which is exact and slow."""
        matrix = weight.dequantize().to(x.dtype) if isinstance(weight, QuantizedTensor) else weight
        return F.linear(x, matrix, bias)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See `Kernels`."""
        return rms_norm(x, weight, eps)

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See `Kernels`."""
        return rms_norm(residual.add_(x), weight, eps)

    def silu_and_mul(self, gate_up: Tensor) -> Tensor:
        """See `Kernels`."""
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up


class RowByRowKernels(TorchKernels):
    """The reference with each row computed by itself, for the deterministic mode.

    A matrix product of another shape may add up in another order. And PyTorch cuts large tensors between its threads
    in the middle of a row, where the last few numbers go through other instructions. So a row's last bits would depend
    on how many others are in the batch.
    """

    name = "torch-row-by-row"

    def linear(self, x: Tensor, weight: Tensor | QuantizedTensor, bias: Tensor | None) -> Tensor:
        """See `Kernels`."""
        matrix = weight.dequantize().to(x.dtype) if isinstance(weight, QuantizedTensor) else weight
        return torch.cat([F.linear(row, matrix, bias) for row in x.split(1)]) if len(x) else x @ matrix.T

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See `Kernels`."""
        return torch.cat([rms_norm(row, weight, eps) for row in x.split(1)])

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See `Kernels`."""
        return self.rms_norm(residual.add_(x), weight, eps)

    def silu_and_mul(self, gate_up: Tensor) -> Tensor:
        """See `Kernels`."""
        return torch.cat([super(RowByRowKernels, self).silu_and_mul(row) for row in gate_up.split(1)])
