"""Puts an engine together: the model, and each part by name, class or instance."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import psutil
import torch

from minillm.attention import AttentionBackend, TorchBackend
from minillm.engine.adapters import AdapterSource, load_adapters
from minillm.engine.config import EngineConfig
from minillm.engine.loading import load_model_and_tokenizer, resolve_device, resolve_dtype, resolve_kv_cache_dtype
from minillm.engine.runner import ModelRunner
from minillm.engine.scheduler import FairScheduler, Scheduler
from minillm.errors import InvalidRequestError, MinillmError
from minillm.kernels import Kernels, QuantizedTensor, TorchKernels, pack, quantize
from minillm.kernels.reference import RowByRowKernels
from minillm.kv import BlockAllocator, HashPrefixCache, KVCacheManager, PrefixCache, RefCountingBlockAllocator
from minillm.kv.cache import PagedKVCache
from minillm.models.decoder import Convert, Decoder
from minillm.models.lora import LoRAAdapter
from minillm.models.lora_batch import prepare_adapter
from minillm.sampling import FilteringSampler, Sampler
from minillm.text import Tokenizer

CPU_POOL_LIMIT = 1_000_000_000
"""Bytes: what the KV cache takes on a CPU by default, if half of the free memory is no less."""
GPU_POOL_SHARE = 0.9
"""Of a GPU's memory, what model and KV cache take together by default."""


@dataclass(frozen=True)
class Parts:
    """What an engine is made of."""

    config: EngineConfig
    model: Decoder
    tokenizer: Tokenizer
    kv: KVCacheManager
    scheduler: Scheduler
    sampler: Sampler
    runner: ModelRunner
    max_model_len: int
    fingerprint: str
    adapters: Mapping[str, LoRAAdapter]


def build_parts(
    model_name: str,
    config: EngineConfig,
    replacements: Mapping[str, object],
    adapters: Sequence[AdapterSource] | Mapping[str, object] = (),
) -> Parts:
    """Loads the model and builds every part, in the place of which a replacement was given with that.

    Raises:
        MinillmError: if the model can't be had, or a part can't be built.
    """
    chosen = {name: part for name, part in replacements.items() if part is not None}
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    kv_dtype = resolve_kv_cache_dtype(config.kv_cache_dtype, dtype, device, config.quantization is not None)
    kernels, backend = _arithmetic(
        chosen.pop("kernels", None), chosen.pop("attention_backend", None), config, device, dtype
    )
    convert = _conversion(config.quantization, kernels, dtype)
    loaded = load_adapters(adapters, model_name)
    model, tokenizer = load_model_and_tokenizer(model_name, dtype, device, convert)
    model.kernels = kernels
    if backend.name == "cpu" and kernels.activation_dtype(dtype) != torch.float32:
        raise InvalidRequestError(
            f"The attention backend {backend.name!r} computes in float32, and the kernels {kernels.name!r} in "
            f"{kernels.activation_dtype(dtype)}: give attention_backend='torch' with them, or dtype='float32'.",
            "attention_backend",
        )
    if kernels.name == "cpu" and dtype == torch.float16:
        raise InvalidRequestError("The CPU's kernels know float32 and bfloat16, not float16.", "dtype")
    if (backend.name == "triton" and kv_dtype != dtype) or (backend.name == "cpu" and kv_dtype == torch.float16):
        raise InvalidRequestError(
            f"The attention backend {backend.name!r} can't read keys and values in {kv_dtype}: leave kv_cache_dtype "
            "at 'auto'.",
            "kv_cache_dtype",
        )
    config = _resolved(config, model, model_name, device, dtype, kv_dtype)
    fingerprint = _fingerprint(model, tokenizer, config, kernels.name, backend.name)
    num_blocks = cast(int, config.num_blocks)
    allocator = choose("block_allocator", chosen, BlockAllocator, {"default": RefCountingBlockAllocator}, num_blocks)
    prefix_cache: Any = False
    if not config.enable_prefix_caching and "prefix_cache" in chosen:
        raise InvalidRequestError("A prefix_cache was given, and enable_prefix_caching=False.", "prefix_cache")
    if config.enable_prefix_caching:
        prefix_cache = choose("prefix_cache", chosen, PrefixCache, {"default": HashPrefixCache})
    kv = KVCacheManager(
        num_blocks,
        config.block_size,
        fingerprint=fingerprint,
        kv_dtype=str(kv_dtype),
        allocator=allocator,
        prefix_cache=prefix_cache,
        debug=config.debug,
    )
    scheduler = choose("scheduler", chosen, Scheduler, {"default": FairScheduler}, config, kv)
    sampler = choose("sampler", chosen, Sampler, {"default": FilteringSampler})
    if chosen:
        raise MinillmError(
            f"{next(iter(chosen))!r} is no part of the engine; these can be replaced: block_allocator, prefix_cache, "
            "scheduler, sampler, attention_backend, kernels."
        )
    shape = model.config
    cache = PagedKVCache(
        num_layers=shape.num_layers,
        num_blocks=num_blocks,
        block_size=config.block_size,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        dtype=kv_dtype,
        device=device,
    )
    max_model_len = cast(int, config.max_model_len)
    convert_factors = _conversion_of_factors(config.quantization, kernels, dtype)
    prepared = {name: prepare_adapter(adapter, model, convert_factors) for name, adapter in loaded.items()}
    runner = ModelRunner(model, cache, backend, prepared)
    if device.type == "cuda" and backend.name == "triton" and not config.enforce_eager:
        runner.capture_graphs(cast(int, config.max_num_seqs), max_model_len)
    return Parts(config, model, tokenizer, kv, scheduler, sampler, runner, max_model_len, fingerprint, loaded)


def choose(
    kind: str, chosen: dict[str, object], protocol: Any, registry: Mapping[str, Callable[..., Any]], *arguments: object
) -> Any:
    """Takes a replacement out of `chosen`: a registered name, a class (or another maker), or an instance.

    Raises:
        InvalidRequestError: for an unknown name, or something that lacks a method of the protocol.
    """
    given = chosen.pop(kind, None)
    if given is None:
        given = "default"
    if isinstance(given, str):
        if given not in registry:
            raise InvalidRequestError(f"{kind} is {given!r}; known are {', '.join(sorted(registry))}.", kind)
        given = registry[given]
    methods = [name for name in vars(protocol) if not name.startswith("_") and callable(vars(protocol)[name])]

    def fits(part: object) -> bool:
        return all(callable(getattr(part, name, None)) for name in methods)

    # A class has the methods too, so it has to be told from an instance first.
    made = given if not isinstance(given, type) and fits(given) else None
    if made is None and callable(given):
        try:
            made = given(*arguments)
        except TypeError as error:
            raise InvalidRequestError(
                f"{kind} is {given!r}, which can't be called to make one: {error}.", kind
            ) from error
    if made is None or not fits(made):
        missing = [name for name in methods if not callable(getattr(made, name, None))]
        raise InvalidRequestError(
            f"{kind} is {given!r}; expected an object with the methods {', '.join(methods)} (no {missing[0]} was "
            "found), its class, or a registered name.",
            kind,
        )
    return made


def _arithmetic(
    kernels: object, backend: object, config: EngineConfig, device: torch.device, dtype: torch.dtype
) -> tuple[Kernels, AttentionBackend]:
    """The kernels and the attention for a device; what was asked for by name must be there, what was not may not."""
    fast = "triton" if device.type == "cuda" else "cpu"
    kernel_makers = {
        "torch": RowByRowKernels if config.deterministic else TorchKernels,
        fast: _triton_kernels if fast == "triton" else _cpu_kernels,
    }
    backend_makers = {
        "torch": lambda: TorchBackend(deterministic=config.deterministic),
        fast: (lambda: _triton_backend(config.deterministic)) if fast == "triton" else _cpu_backend,
    }
    # The C kernels know the dtypes that CPUs compute with.
    available = has_fast_path(device) and (fast == "triton" or dtype != torch.float16)
    default = fast if available else "torch"
    if config.deterministic and isinstance(kernels, TorchKernels) and not isinstance(kernels, RowByRowKernels):
        raise InvalidRequestError("deterministic=True needs kernels that are: RowByRowKernels, or 'torch'.", "kernels")
    parts: dict[str, object] = {
        "kernels": kernels or default,
        # PyTorch's kernels compute in the dtype of the weights, the C attention in float32 only.
        "attention_backend": backend or ("torch" if kernels == "torch" and dtype != torch.float32 else default),
    }
    if config.deterministic and fast == "triton" and parts["kernels"] == "triton":
        # cuBLAS chooses the order of its sums by the shape of the batch.
        parts["kernels"] = "torch"
    return (
        choose("kernels", parts, Kernels, kernel_makers),
        choose("attention_backend", parts, AttentionBackend, backend_makers),
    )


def _conversion(quantization: str | None, kernels: Kernels, dtype: torch.dtype) -> Convert | None:
    """What becomes of the weights of matrix products."""
    if quantization is not None:
        return functools.partial(quantize, kind=quantization)
    return pack if kernels.name == "cpu" and dtype == torch.bfloat16 else None


def _conversion_of_factors(quantization: str | None, kernels: Kernels, dtype: torch.dtype) -> Convert | None:
    """What becomes of adapters' factors: where the weights are bfloat16 or coarser they're packed as that.

    They're small, so they are never quantized; and files mostly hold them in bfloat16.
    """
    if kernels.name == "cpu" and (quantization is not None or dtype == torch.bfloat16):
        return lambda factor: pack(factor.bfloat16())
    return None


def has_fast_path(device: torch.device) -> bool:
    """Whether the kernels that are made for this device can be had: compiled C on a CPU, Triton on a GPU."""
    if device.type == "cuda":
        from importlib.util import find_spec

        return find_spec("triton") is not None
    from minillm.kernels.cpu.build import load

    return load() is not None


def _cpu_kernels() -> Kernels:
    from minillm.kernels.cpu import CPUKernels

    return CPUKernels()


def _cpu_backend() -> AttentionBackend:
    from minillm.attention.cpu_backend import CPUBackend

    return CPUBackend()


def _triton_kernels() -> Kernels:
    from minillm.kernels.triton import TritonKernels

    return TritonKernels()


def _triton_backend(deterministic: bool) -> AttentionBackend:
    from minillm.attention.triton_backend import TritonBackend

    return TritonBackend(deterministic=deterministic)


def _resolved(
    config: EngineConfig,
    model: Decoder,
    model_name: str,
    device: torch.device,
    dtype: torch.dtype,
    kv_dtype: torch.dtype,
) -> EngineConfig:
    """The configuration with every None replaced by what the model, the device and its memory suggest."""
    limit = model.config.max_model_len
    if config.max_model_len is not None and not 1 <= config.max_model_len <= limit:
        raise InvalidRequestError(
            f"max_model_len is {config.max_model_len}; {model_name} takes 1 to {limit} tokens.", "max_model_len"
        )
    on_gpu = device.type == "cuda"
    shape = model.config
    block_bytes = PagedKVCache.block_bytes(
        shape.num_layers, config.block_size, shape.num_kv_heads, shape.head_dim, kv_dtype
    )
    num_blocks = config.num_blocks or (config.kv_cache_memory or _free_memory(device)) // block_bytes
    if num_blocks < 2:
        raise MinillmError(
            f"The KV cache has room for {num_blocks} blocks of {block_bytes:,} bytes; at least 2 are needed. Free some "
            "memory, or give it more with kv_cache_memory."
        )
    return dataclasses.replace(
        config,
        dtype=str(dtype).removeprefix("torch."),
        kv_cache_dtype=str(kv_dtype).removeprefix("torch."),
        device=device.type,
        max_model_len=config.max_model_len or limit,
        num_blocks=num_blocks,
        kv_cache_memory=None,  # num_blocks tells it
        max_num_seqs=config.max_num_seqs or (256 if on_gpu else 64),
        max_num_batched_tokens=config.max_num_batched_tokens or (8192 if on_gpu else 512),
    )


def _free_memory(device: torch.device) -> int:
    """Bytes that the KV cache may take by default."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return max(0, int(free - (1 - GPU_POOL_SHARE) * total))
    return min(CPU_POOL_LIMIT, psutil.virtual_memory().available // 2)


def _fingerprint(model: Decoder, tokenizer: Tokenizer, config: EngineConfig, kernels: str, backend: str) -> str:
    """A hash over everything that decides an output's numbers: weights, tokenizer, shape, dtype, arithmetic."""
    digest = hashlib.sha256(repr(sorted(asdict(model.config).items())).encode())
    arithmetic = (config.quantization, config.kv_cache_dtype, config.deterministic, kernels, backend)
    settings = (model.dtype, model.device.type, *arithmetic)
    digest.update(f"{settings} {tokenizer.fingerprint}".encode())
    for name, tensor in _numbers(model):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return f"fp_{digest.hexdigest()[:16]}"


def _numbers(model: Decoder) -> list[tuple[str, torch.Tensor]]:
    found = list(model.named_parameters())
    for name, module in model.named_modules():
        if isinstance(weight := getattr(module, "weight", None), QuantizedTensor):
            found += [(f"{name}.{part}", getattr(weight, part)) for part in ("data", "scales", "mins")]
    return [(name, tensor) for name, tensor in found if tensor is not None]
