"""Triton kernels for NVIDIA GPUs. Only imported when asked for: importing Triton takes a while.

Every launch asks for `enable_fp_fusion`, a product and a sum in one rounding: the default changes in Triton 3.10.

`TRITON_INTERPRET=1`, set before this is imported, runs them on the CPU, slowly and line by line in Python: a breakpoint
or a `print` inside a kernel works then.
"""

from __future__ import annotations

from torch import Tensor

from minillm.kernels.reference import TorchKernels
from minillm.kernels.triton.activation import silu_and_mul
from minillm.kernels.triton.norm import add_rms_norm, rms_norm

__all__ = ["TritonKernels"]


class TritonKernels(TorchKernels):
    """Fuses what would go to the GPU's memory and back several times.

    Matrix products stay with PyTorch, that is cuBLAS, which is hard to beat; quantized weights are dequantized first,
    so on a GPU they save memory and no time.
    """

    name = "triton"

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See `Kernels`."""
        return rms_norm(x, weight, eps)

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See `Kernels`."""
        return add_rms_norm(x, residual, weight, eps)

    def silu_and_mul(self, gate_up: Tensor) -> Tensor:
        """See `Kernels`."""
        return silu_and_mul(gate_up)
