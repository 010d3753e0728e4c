"""Reads GGUF, the one-file format of llama.cpp: metadata, and tensors that are mostly quantized in blocks.

The `gguf` package dequantizes; the rest is to take the header apart and to give the tensors the names and the
order that the decoder expects.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import dequantize
from torch import Tensor

from minillm.errors import UnsupportedModelError, WeightsError

_NAMES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TENSOR_NAME = re.compile(r"(?:blk\.(?P<layer>\d+)\.)?(?P<part>\w+)\.(?P<kind>weight|bias)")


class GGUFFile:
    """An open GGUF file: `metadata` as Python values, tensors left on disk until they are asked for.

    The header is taken apart here because the `gguf` package's reader needs four seconds for a vocabulary of
    50,000 tokens, and this one a tenth of a second. The layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    """

    def __init__(self, path: Path) -> None:
        """Reads the header: metadata and the tensors' table.

        Raises:
            WeightsError: if the file can't be opened, isn't GGUF (version 2 or 3, little-endian) or is cut short.
        """
        self.path = path
        try:
            self._data = np.memmap(path, mode="r")
            header = _HeaderReader(memoryview(self._data.data))
            num_tensors, num_values = header.start()
            self.metadata: dict[str, Any] = {header.string(): header.value() for _ in range(num_values)}
            table = [header.tensor_info() for _ in range(num_tensors)]
            alignment = self.metadata.get("general.alignment", 32)
            if not isinstance(alignment, int) or alignment <= 0:
                raise ValueError(f"its tensors can't be aligned to {alignment!r} bytes")
        except OSError as error:
            raise WeightsError(f"{path} can't be opened: {error.strerror or error}.") from error
        except (ValueError, LookupError, OverflowError, RecursionError, struct.error) as error:
            raise WeightsError(
                f"{path} can't be read as GGUF ({error}). The file is damaged or cut short; fetch it again."
            ) from error
        self._start = -(-header.offset // alignment) * alignment
        self._tensors = {info.name: info for info in table}

    @property
    def tensor_names(self) -> frozenset[str]:
        """The names as the file has them, such as "blk.0.attn_q.weight"."""
        return frozenset(self._tensors)

    def tensor(self, name: str) -> Tensor:
        """One tensor, dequantized, in float32.

        Raises:
            UnsupportedModelError: if it's quantized in a way that the `gguf` package can't undo.
            WeightsError: if the file ends before the tensor does.
        """
        info = self._tensors[name]
        try:
            kind = gguf.GGMLQuantizationType(info.kind)
            block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError):
            raise UnsupportedModelError(
                f"{self.path.name}: {name!r} has the unknown quantization {info.kind}."
            ) from None
        num_bytes = math.prod(info.shape) // block_size * block_bytes
        start = self._start + info.offset
        if not info.shape or not math.prod(info.shape) or info.shape[-1] % block_size:
            raise WeightsError(
                f"{self.path} gives {name!r} the shape {list(info.shape)}, which {kind.name} can't have. The file is "
                "damaged; fetch it again."
            )
        if start + num_bytes > len(self._data):
            raise WeightsError(f"{self.path} ends in the middle of {name!r}. The file is cut short; fetch it again.")
        try:
            values = _dequantize(np.asarray(self._data[start : start + num_bytes]), kind, block_bytes)
        except NotImplementedError:
            raise UnsupportedModelError(
                f"{self.path.name} holds {name!r} as {kind.name}, which can't be dequantized here. "
                "Take a file in F16, BF16, Q8_0, Q6_K or Q4_K."
            ) from None
        return torch.from_numpy(values).view(info.shape)

    def weights(self, num_heads: int, num_kv_heads: int) -> Iterator[tuple[str, Tensor]]:
        """The decoder's parameters, one at a time: (name, float32 tensor).

        Raises:
            UnsupportedModelError, WeightsError: as `tensor` does, and for tensors that no decoder has.
        """
        # Only files of the architecture "llama" hold Q and K in llama.cpp's order.
        permuted = self.metadata["general.architecture"] == "llama"
        heads = {"attn_q": num_heads, "attn_k": num_kv_heads}
        for gguf_name in self._tensors:
            match = _TENSOR_NAME.fullmatch(gguf_name)
            if gguf_name == "rope_freqs.weight":  # part of the configuration, not a parameter
                continue
            if match is None or match["part"] not in _NAMES:
                raise UnsupportedModelError(
                    f"{self.path.name} holds {gguf_name!r}, which the decoder has no place for."
                )
            tensor = self.tensor(gguf_name)
            if permuted and match["part"] in heads:
                rows, count = tensor.shape[0], heads[match["part"]]
                if rows % (2 * count):
                    raise WeightsError(
                        f"{self.path.name}: {gguf_name!r} has {rows} rows, which {count} heads can't share."
                    )
                tensor = unpermute(tensor, count)
            prefix = f"layers.{match['layer']}." if match["layer"] else ""
            yield f"{prefix}{_NAMES[match['part']]}.{match['kind']}", tensor


def unpermute(weight: Tensor, num_heads: int) -> Tensor:
    """Undoes llama.cpp's reordering of the rows of Q and K.

    llama.cpp pairs neighboring dimensions for RoPE (0 with 1, 2 with 3, …), Hugging Face's checkpoints the first
    half of a head with the second (0 with head_dim/2, …). llama.cpp's converter interleaves the rows to match.

    Args:
        weight: [num_heads * head_dim, ...], a weight or a bias.
    """
    return weight.view(num_heads, -1, 2, *weight.shape[1:]).transpose(1, 2).reshape(weight.shape)


def _dequantize(data: np.ndarray, kind: gguf.GGMLQuantizationType, block_bytes: int) -> np.ndarray:
    """Raw bytes to float32, in rows of many blocks: the `gguf` package works on 16 rows at a time."""
    num_blocks = data.size // block_bytes
    rows = max(1, num_blocks // 128)
    while num_blocks % rows:
        rows -= 1
    if kind in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
        data = data.view(np.float32 if kind == gguf.GGMLQuantizationType.F32 else np.float16)
    values = dequantize(data.reshape(rows, -1), kind).reshape(-1)
    # F32 comes back as the file itself, which is read-only.
    return values if values.flags.writeable else values.copy()


@dataclass(frozen=True)
class _TensorInfo:
    name: str
    shape: tuple[int, ...]  # PyTorch's order; GGUF counts from the innermost dimension
    kind: int
    offset: int


class _HeaderReader:
    """Walks over the header. Numbers are little-endian; strings are a length and that many bytes."""

    # GGUF's value types 0 to 12 as struct's letters; 8 is a string and 9 an array.
    _LETTERS = "BbHhIif?  Qqd"
    _STRING, _ARRAY = 8, 9

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.offset = 0

    def start(self) -> tuple[int, int]:
        """Checks magic and version; returns the numbers of tensors and of metadata values."""
        if bytes(self._data[:4]) != b"GGUF":
            raise ValueError("it doesn't begin with the letters GGUF")
        self.offset = 4
        version = self._number("<I")
        if version in (2 << 24, 3 << 24):
            raise ValueError("it's big-endian; minillm reads the little-endian files that PCs and phones use")
        if version not in (2, 3):
            raise ValueError(f"its version is {version}; 2 and 3 are known")
        return int(self._number("<Q")), int(self._number("<Q"))

    def string(self) -> str:
        """The next string. Bytes that aren't UTF-8 are kept as surrogates, since a vocabulary may hold some."""
        (length,) = struct.unpack_from("<Q", self._data, self.offset)
        begin = self.offset + 8
        self.offset = begin + length
        if self.offset > len(self._data):
            raise ValueError("a string runs beyond its end")
        return str(self._data[begin : self.offset], "utf-8", "surrogateescape")

    def value(self) -> Any:
        """The next typed value."""
        kind = int(self._number("<I"))
        return self._array() if kind == self._ARRAY else self._scalar(kind)

    def tensor_info(self) -> _TensorInfo:
        """The next row of the tensors' table."""
        name = self.string()
        shape = tuple(int(self._number("<Q")) for _ in range(int(self._number("<I"))))
        return _TensorInfo(name, shape[::-1], int(self._number("<I")), int(self._number("<Q")))

    def _number(self, code: str) -> Any:
        (number,) = struct.unpack_from(code, self._data, self.offset)
        self.offset += struct.calcsize(code)
        return number

    def _scalar(self, kind: int) -> Any:
        return self.string() if kind == self._STRING else self._number(f"<{self._LETTERS[kind]}")

    def _array(self) -> list[Any]:
        kind, length = int(self._number("<I")), int(self._number("<Q"))
        if length > len(self._data):
            raise ValueError("an array runs beyond its end")
        if kind == self._ARRAY:
            return [self._array() for _ in range(length)]
        if kind == self._STRING:
            return [self.string() for _ in range(length)]
        code = f"<{length}{self._LETTERS[kind]}"
        values = struct.unpack_from(code, self._data, self.offset)
        self.offset += struct.calcsize(code)
        return list(values)
