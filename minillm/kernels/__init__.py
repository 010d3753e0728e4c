"""The arithmetic of a decoder layer: one interface, an implementation per machine.

`TorchKernels` (reference.py) runs everywhere and is the oracle; `CPUKernels` (cpu/) are small C functions compiled at
first use; `TritonKernels` (triton/) run on a GPU.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from minillm.kernels.quantized import QuantizedTensor, pack, quantize
from minillm.kernels.reference import TorchKernels

__all__ = ["Kernels", "QuantizedTensor", "TorchKernels", "pack", "quantize"]


class Kernels(Protocol):
    """What a decoder layer computes outside of attention. n is the number of tokens in the batch."""

    name: str

    def activation_dtype(self, weight_dtype: torch.dtype) -> torch.dtype:
        """The dtype of the hidden states for weights of this dtype."""
        ...

    def linear(self, x: Tensor, weight: Tensor | QuantizedTensor, bias: Tensor | None) -> Tensor:
        """A matrix product. x: [n, in], weight: [out, in], bias: [out] → [n, out]."""
        ...

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Root-mean-square norm of each row (arXiv:1910.07467). [n, size] → [n, size]."""
        ...

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        """Adds x to `residual` in place and returns the norm of the sum. [n, size] → [n, size]."""
        ...

    def silu_and_mul(self, gate_up: Tensor) -> Tensor:
        """SwiGLU's gate (arXiv:2002.05202): silu(first half) * second half. [n, 2 * m] → [n, m]."""
        ...
