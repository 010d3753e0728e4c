"""From a model's name to a decoder and a tokenizer on the right device, in the right dtype."""

from __future__ import annotations

from pathlib import Path

import torch

from minillm.errors import MinillmError
from minillm.models.adapter_files import read_adapter
from minillm.models.decoder import Convert, Decoder
from minillm.models.loader import load_model
from minillm.models.lora import LoRAAdapter
from minillm.models.tiny import TINY_RANDOM, random_model, tiny_config
from minillm.text import Tokenizer, tiny_tokenizer
from minillm.weights import resolve, resolve_adapter, split_adapter

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(device: str) -> torch.device:
    """ "auto" takes a GPU where there is one.

    Raises:
        MinillmError: for a device that this machine lacks.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device not in ("cpu", "cuda"):
        raise MinillmError(f"The device {device!r} is not supported; choose cpu, cuda or auto.")
    if device == "cuda" and not torch.cuda.is_available():
        raise MinillmError("PyTorch sees no NVIDIA GPU here. Use device='cpu', or see `minillm doctor`.")
    return torch.device(device)


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """ "auto" is float32 on a CPU, and on a GPU bfloat16 where the chip computes with it, else float16.

    Raises:
        MinillmError: for an unknown name.
    """
    if dtype == "auto":
        if device.type == "cpu":
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    if dtype not in DTYPES:
        raise MinillmError(f"The dtype {dtype!r} is not supported; choose {', '.join(DTYPES)} or auto.")
    return DTYPES[dtype]


def resolve_kv_cache_dtype(name: str, dtype: torch.dtype, device: torch.device, quantized: bool) -> torch.dtype:
    """What `EngineConfig.kv_cache_dtype` says, for weights of this dtype.

    Raises:
        MinillmError: for an unknown name.
    """
    if name == "auto":
        return torch.bfloat16 if quantized and device.type == "cpu" else dtype
    if name not in DTYPES:
        raise MinillmError(f"The kv_cache_dtype {name!r} is not supported; choose {', '.join(DTYPES)} or auto.")
    return DTYPES[name]


def load_model_and_tokenizer(
    name: str, dtype: torch.dtype, device: torch.device, convert: Convert | None = None
) -> tuple[Decoder, Tokenizer]:
    """Loads what `name` stands for; fetches it first if need be. `convert` quantizes or packs, see `load_model`.

    The adapter of a name such as "smollm2-135m+course" is merged into the weights.

    Raises:
        MinillmError: if it can't be found, fetched or read.
    """
    base, adapter_name = split_adapter(name)
    # Before the model: a mistake in its name is told at once.
    adapter = None if adapter_name is None else load_adapter(adapter_name)
    if base == TINY_RANDOM:
        tokenizer = tiny_tokenizer()
        config = tiny_config(tokenizer.vocab_size)
        if adapter is not None:
            adapter.check(config)
        model = random_model(config, dtype=dtype, device=device, adapter=adapter)
        return model if convert is None else model.convert(convert), tokenizer
    path = resolve(base)
    return load_model(path, dtype, device, convert, adapter), Tokenizer.load(path)


def load_adapter(name: str, path: str | Path | None = None) -> LoRAAdapter:
    """Reads the adapter that `name` stands for, or that lies at `path` and is to be called `name`.

    Raises:
        MinillmError: if it can't be found or read.
    """
    return read_adapter(resolve_adapter(name if path is None else path), name)
