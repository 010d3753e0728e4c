"""The kernels of the CPU path: plain C, called through ctypes.

Activations are float32 always; weights are float32, bfloat16 or quantized. A row's result is the same to the last
bit whatever the other rows of the batch, which is what the deterministic mode rests on.
"""

from __future__ import annotations

import struct
from ctypes import c_char_p, c_float, c_int, c_long, c_void_p

import torch
from torch import Tensor

from minillm.errors import MinillmError
from minillm.kernels.cpu.build import Library, load, why_not
from minillm.kernels.quantized import QuantizedTensor, pack

__all__ = ["CPUKernels", "Library", "load", "why_not"]

_LINEAR_ARGUMENTS = struct.Struct("13q")  # the start of Product in linear.c
_LINEAR_PACKED_ARGUMENTS = struct.Struct("11q")  # the start of Product in linear_packed.c


class CPUKernels:
    """The C functions as `Kernels`, on PyTorch tensors.

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
        functions = library.functions
        # ctypes checks and converts by these; pointers are the plain integers that data_ptr() returns.
        self._linear = functions.linear
        self._linear.argtypes = (c_char_p,)
        self._linear_packed = functions.linear_packed
        self._linear_packed.argtypes = (c_char_p,)
        self._rms_norm = functions.rms_norm
        self._rms_norm.argtypes = (c_long, c_long, c_void_p, c_long, c_void_p, c_void_p, c_float, c_void_p, c_int)
        self._rms_norm.restype = None
        self._silu_and_mul = functions.silu_and_mul
        self._silu_and_mul.argtypes = (c_long, c_long, c_void_p, c_void_p, c_int)
        self._silu_and_mul.restype = None

    def activation_dtype(self, weight_dtype: torch.dtype) -> torch.dtype:
        """Float32, whatever the weights."""
        return torch.float32

    def linear(self, x: Tensor, weight: Tensor | QuantizedTensor, bias: Tensor | None) -> Tensor:
        """See `Kernels`. x: float32, of any row stride. The bias may be bfloat16.

        A plain bfloat16 weight is packed each time, which takes longer than the product: `pack` it once.

        Raises:
            MinillmError: if the shapes don't fit each other, or a dtype isn't one of those above.
        """
        n, in_features = x.shape
        out_features, expected = weight.shape
        if isinstance(weight, Tensor) and weight.dtype == torch.bfloat16:
            weight = pack(weight)
        scales = mins = 0
        if isinstance(weight, Tensor):
            bits, data = 32, weight
        else:
            bits, data = weight.bits, weight.data
            scales = 0 if weight.scales is None else weight.scales.data_ptr()
            mins = 0 if weight.mins is None else weight.mins.data_ptr()
        known = bits < 32 or data.dtype == torch.float32
        if in_features != expected or x.dtype != torch.float32 or not known or not data.is_contiguous():
            raise MinillmError(
                f"linear takes x [n, in] float32 and weights [out, in] of float32, bfloat16, int8 or int4, "
                f"contiguous; not x {list(x.shape)} {x.dtype} and weights {list(weight.shape)} {data.dtype}."
            )
        x_stride, step = x.stride()
        if step != 1:
            x, x_stride = x.contiguous(), in_features
        if bias is not None:
            bias = bias.float()
        out = torch.empty(n, out_features, dtype=torch.float32)
        arguments = (
            n, in_features, out_features, x.data_ptr(), x_stride, data.data_ptr(), scales,
            0 if bias is None else bias.data_ptr(), out.data_ptr(), torch.get_num_threads(), bits,
        )  # fmt: skip
        if bits in (8, 16):
            failed = self._linear_packed(_LINEAR_PACKED_ARGUMENTS.pack(*arguments))
        else:
            row_bytes = data.shape[1] * data.element_size()
            failed = self._linear(_LINEAR_ARGUMENTS.pack(*arguments, row_bytes, mins))
        if failed:
            raise MemoryError(f"No memory for a matrix product of {n} rows.")
        return out

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See `Kernels`."""
        return self._norm(x, None, weight, eps)

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> Tensor:
        """See `Kernels`."""
        if not residual.is_contiguous() or residual.shape != x.shape or residual.dtype != torch.float32:
            raise MinillmError(f"The residual has to be a contiguous float32 tensor [n, size] like x {list(x.shape)}.")
        return self._norm(x, residual, weight, eps)

    def _norm(self, x: Tensor, residual: Tensor | None, weight: Tensor, eps: float) -> Tensor:
        x, weight = x.float(), weight.float()
        if x.stride(1) != 1:
            x = x.contiguous()
        n, size = x.shape
        out = torch.empty(n, size, dtype=torch.float32)
        stream = None if residual is None else residual.data_ptr()
        self._rms_norm(
            n, size, x.data_ptr(), x.stride(0), stream, weight.data_ptr(), eps, out.data_ptr(), torch.get_num_threads()
        )
        return out

    def silu_and_mul(self, gate_up: Tensor) -> Tensor:
        """See `Kernels`."""
        gate_up = gate_up.float().contiguous()
        n, width = gate_up.shape
        out = torch.empty(n, width // 2, dtype=torch.float32)
        self._silu_and_mul(n, width // 2, gate_up.data_ptr(), out.data_ptr(), torch.get_num_threads())
        return out
