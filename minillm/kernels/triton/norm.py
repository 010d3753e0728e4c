"""Root-mean-square norm (arXiv:1910.07467), alone and fused with the addition before it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _rms_norm_kernel(
    out_ptr, x_ptr, residual_ptr, weight_ptr,
    x_stride, residual_stride, size, eps,
    ADD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Grid: (rows,). A program norms one row; it reads the row once and keeps it in registers.

    With ADD the row is residual + x, which is also written back to the residual: PyTorch would read and write the row
    three times for the same.
    """
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    mask = columns < size
    x = tl.load(x_ptr + row * x_stride + columns, mask=mask, other=0.0)
    if ADD:
        residual = tl.load(residual_ptr + row * residual_stride + columns, mask=mask, other=0.0)
        # Rounded before the norm, as it is in memory: the next layer has to see the numbers that were normed.
        x = (residual.to(tl.float32) + x.to(tl.float32)).to(residual.dtype)
        tl.store(residual_ptr + row * residual_stride + columns, x, mask=mask)
    wide = x.to(tl.float32)
    normed = wide * tl.rsqrt(tl.sum(wide * wide, axis=0) / size + eps)
    weight = tl.load(weight_ptr + columns, mask=mask, other=0.0)
    result = normed.to(x.dtype).to(tl.float32) * weight.to(tl.float32)
    tl.store(out_ptr + row * size + columns, result.to(out_ptr.dtype.element_ty), mask=mask)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x: [n, size], weight: [size] → [n, size]."""
    return _launch(x, None, weight, eps)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Adds x to `residual` in place and norms the sum. x, residual: [n, size], weight: [size] → [n, size]."""
    return _launch(x, residual, weight, eps)


def _launch(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> Tensor:
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    block = triton.next_power_of_2(x.shape[1])
    other = x if residual is None else residual
    _rms_norm_kernel[(x.shape[0],)](
        out, x, other, weight,
        x.stride(0), other.stride(0), x.shape[1], eps,
        ADD=residual is not None, BLOCK=block, num_warps=min(max(block // 256, 1), 16), enable_fp_fusion=True,
    )  # fmt: skip
    return out
