"""What an engine is set up with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from minillm.errors import MinillmError

Quantization = Literal["int8", "int4"]


@dataclass(frozen=True)
class EngineConfig:
    """Settings of an engine; None lets the engine choose by the device and the memory that's there.

    Attributes:
        dtype: of the weights, before quantization: "float32", "bfloat16", "float16", or "auto" for the device's best.
        device: "cpu", "cuda", or "auto" for a GPU where there is one.
        quantization: "int8" or "int4" weights; None keeps them in `dtype`.
        kv_cache_dtype: of keys and values: the same names, where "auto" is `dtype`, but bfloat16 for quantized weights
            on a CPU: the pool then holds twice the tokens, and attention reads half the bytes.
        max_model_len: the most tokens of prompt and output together; None is the model's own limit.
        block_size: tokens per block of the KV cache.
        kv_cache_memory: bytes for the KV cache; None takes a share of what is free (on a CPU at most 1 GB).
        num_blocks: blocks of the KV cache, in place of a size in bytes.
        max_num_seqs: the most requests in one step; None is 64 on a CPU, 256 on a GPU.
        max_num_batched_tokens: the most tokens in one step; None is 512 on a CPU, 8192 on a GPU.
        max_num_waiting: the most requests that may wait; one more is refused. None sets no limit.
        enable_prefix_caching: reuse keys and values of prompts that begin alike.
        deterministic: the bits of an output depend on its tokens and the fingerprint only, not on its neighbours,
            chunking, cache hits or preemption. The C kernels of the CPU path work like that anyway, so it costs nothing
            there; elsewhere matrix products are computed row by row, which takes several times as long.
        enforce_eager: run every step as it comes, without CUDA graphs.
        aging_steps: after so many steps at the head of its queue a request goes first, whatever its tenant has had.
        debug: check the KV cache's books after every operation (slow).
    """

    dtype: str = "auto"
    device: str = "auto"
    quantization: Quantization | None = None
    kv_cache_dtype: str = "auto"
    max_model_len: int | None = None
    block_size: int = 16
    kv_cache_memory: int | None = None
    num_blocks: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    max_num_waiting: int | None = None
    enable_prefix_caching: bool = True
    deterministic: bool = False
    enforce_eager: bool = False
    aging_steps: int = 64
    debug: bool = False

    def __post_init__(self) -> None:
        """Raises:
        MinillmError: naming the first setting that's out of its range.
        """
        for name in (
            "num_blocks",
            "max_model_len", "block_size", "kv_cache_memory", "max_num_seqs", "max_num_batched_tokens",
            "max_num_waiting", "aging_steps",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise MinillmError(f"{name} is {value!r}; expected a whole number from 1.")
        if self.num_blocks is not None and self.kv_cache_memory is not None:
            raise MinillmError("num_blocks and kv_cache_memory both give the size of the KV cache; give one of them.")
        if self.num_blocks is not None and self.num_blocks < 2:
            raise MinillmError(f"num_blocks is {self.num_blocks}; expected at least 2, since block 0 is padding.")
        if self.block_size & (self.block_size - 1) or self.block_size > 256:
            raise MinillmError(f"block_size is {self.block_size}; expected a power of two, at most 256.")
        if self.quantization not in (None, "int8", "int4"):
            raise MinillmError(f"quantization is {self.quantization!r}; expected 'int8', 'int4' or None.")
