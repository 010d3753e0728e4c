"""SwiGLU's gate (arXiv:2002.05202)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024


@triton.jit
def _silu_and_mul_kernel(out_ptr, gate_up_ptr, gate_up_stride, size, BLOCK: tl.constexpr):
    """Grid: (rows, size / BLOCK). A program computes silu(gate) * up for BLOCK columns of one row."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = columns < size
    gate = tl.load(gate_up_ptr + row * gate_up_stride + columns, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(gate_up_ptr + row * gate_up_stride + size + columns, mask=mask, other=0.0).to(tl.float32)
    # silu is rounded before the product, as PyTorch does it, where they are two kernels.
    silu = (gate * tl.sigmoid(gate)).to(out_ptr.dtype.element_ty).to(tl.float32)
    tl.store(out_ptr + row * size + columns, (silu * up).to(out_ptr.dtype.element_ty), mask=mask)


def silu_and_mul(gate_up: Tensor) -> Tensor:
    """gate_up: [n, 2 * m] → [n, m]."""
    num_rows, size = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(num_rows, size, dtype=gate_up.dtype, device=gate_up.device)
    grid = (num_rows, triton.cdiv(size, BLOCK))
    _silu_and_mul_kernel[grid](out, gate_up, gate_up.stride(0), size, BLOCK=BLOCK, enable_fp_fusion=True)
    return out
