"""Weights in 16, 8 or 4 bits: a decode step reads every weight once, so fewer bytes are fewer milliseconds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from minillm.errors import MinillmError

GROUP_SIZE = 32  # weights that share a scale and a minimum in int4
OUTS, UNIT = 16, 4  # of packed weights: outputs whose weights lie together, and bytes of each


@dataclass(frozen=True)
class QuantizedTensor:
    """A weight matrix [out, in] in few bits, laid out for the kernels.

    Weights of 16 and 8 bits are packed: what 16 outputs multiply the same two (or four) inputs with is 64 bytes in a
    row, a vector for the processor (see kernels/cpu/linear_packed.c). The matrix is filled up to whole vectors.

    Attributes:
        bits: 16 (which is bfloat16, rounded no further), 8 or 4.
        shape: (out, in).
        data: 16 bits: bfloat16 [out / 16, in / 2, 16, 2], rounded up.
            8 bits: uint8 [out / 16, in / 4, 16, 4], rounded up; 128 stands for a weight of 0.
            4 bits: uint8 [out, groups * 16], where a group is 32 weights of a row: byte j of a group holds weight j in
            its low half and weight j + 16 in its high half (as GGUF's Q4_1). Rows are padded to an even number of
            groups, so in / 32 groups if `in` is a multiple of 64.
        scales: 8 bits: float32 [out], and weight = scale * (data - 128). 4 bits: bfloat16 [out, groups].
        mins: 4 bits: bfloat16 [out, groups], and weight = scale * half byte + min.
    """

    bits: int
    shape: tuple[int, int]
    data: Tensor
    scales: Tensor | None = None
    mins: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""
        return sum(part.nbytes for part in (self.data, self.scales, self.mins) if part is not None)

    def dequantize(self) -> Tensor:
        """The weights as the kernels see them, [out, in] float32."""
        if self.scales is None:
            return unpack_rows(self.data, self.shape).float()
        if self.mins is None:
            return unpack_rows(self.data, self.shape).float().sub_(128).mul_(self.scales[:, None])
        packed = self.data.unflatten(1, (-1, GROUP_SIZE // 2))
        halves = torch.cat((packed & 15, packed >> 4), dim=-1)
        return (halves * self.scales.float()[..., None] + self.mins.float()[..., None]).flatten(1)[:, : self.shape[1]]


def pack_rows(rows: Tensor, fill: int = 0) -> Tensor:
    """[out, in] of 16 or 8 bits → [out / 16, in / unit, 16, unit], rounded up. A unit is the numbers in 4 bytes."""
    unit = UNIT // rows.element_size()
    padded = F.pad(rows, (0, -rows.shape[1] % unit, 0, -rows.shape[0] % OUTS), value=fill)
    return padded.view(-1, OUTS, padded.shape[1] // unit, unit).transpose(1, 2).contiguous()


def unpack_rows(data: Tensor, shape: tuple[int, int]) -> Tensor:
    """What `pack_rows` made of rows of this shape, as rows again: [out, in]."""
    return data.transpose(1, 2).flatten(2).flatten(0, 1)[: shape[0], : shape[1]]


def pack(weight: Tensor) -> QuantizedTensor:
    """Lays a bfloat16 matrix [out, in] out for the kernels; its numbers stay what they are."""
    return QuantizedTensor(16, (weight.shape[0], weight.shape[1]), pack_rows(weight.detach()))


def quantize(weight: Tensor, kind: str) -> QuantizedTensor:
    """Rounds a weight matrix to "int8" (one scale per output row) or "int4" (a scale and a minimum per 32 weights).

    weight: [out, in] of any floating dtype.

    Raises:
        MinillmError: for another kind, or weights that aren't finite.
    """
    wide = weight.detach().float()
    # A norm of infinity is the largest magnitude, without a second tensor that holds all of them.
    peaks = torch.linalg.vector_norm(wide, torch.inf, dim=1)
    if not bool(peaks.isfinite().all()):
        raise MinillmError("A weight is infinite or not a number, so it can't be quantized: check the checkpoint.")
    out_features, in_features = wide.shape
    if kind == "int8":
        scales = peaks / 127
        rounded = (wide / scales.where(scales > 0, 1.0)[:, None]).round_().clamp_(-127, 127).add_(128)
        return QuantizedTensor(8, (out_features, in_features), pack_rows(rounded.to(torch.uint8), fill=128), scales)
    if kind == "int4":
        # The padding repeats the row's last weight, so that it widens no group's range.
        padding = -in_features % (2 * GROUP_SIZE)
        groups = F.pad(wide, (0, padding), mode="replicate").unflatten(1, (-1, GROUP_SIZE))
        # Rounded to bfloat16 before the weights are: these then make up for the rounding.
        mins = groups.amin(dim=-1).bfloat16()
        scales = ((groups.amax(dim=-1) - mins.float()) / 15).clamp(min=0).bfloat16()
        step = scales.float().where(scales > 0, 1.0)[..., None]
        halves = ((groups - mins.float()[..., None]) / step).round().clamp(0, 15).to(torch.uint8)
        data = (halves[..., :16] | halves[..., 16:] << 4).flatten(1)
        return QuantizedTensor(4, (out_features, in_features), data, scales, mins)
    raise MinillmError(f"{kind!r} is no kind of quantization. Use 'int8' or 'int4', or None for full precision.")
