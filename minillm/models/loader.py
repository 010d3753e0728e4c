"""Reads a checkpoint from disk into a `Decoder`: a folder with safetensors, or one GGUF file.

One tensor is read, converted and copied at a time, and a matrix product's weights are quantized as soon as they are
there: so loading needs little more memory than the model.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from minillm.errors import UnsupportedModelError, WeightsError
from minillm.models.config import ModelConfig
from minillm.models.decoder import Convert, Decoder, FusedLinear, Linear
from minillm.models.gguf import GGUFFile
from minillm.models.lora import LoRAAdapter

Weights = Iterator[tuple[str, Tensor]]


def load_model(
    path: Path,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    convert: Convert | None = None,
    adapter: LoRAAdapter | None = None,
) -> Decoder:
    """Loads a decoder, ready for inference.

    Args:
        path: a .gguf file, or a folder with config.json and safetensors (one file or shards with an index).
        dtype: of the weights in memory, whatever it is on disk.
        device: where the weights go.
        convert: quantizes or packs the weights of matrix products; None leaves them as they are.
        adapter: merged into the weights, before these are rounded to `dtype` and converted.

    Raises:
        UnsupportedModelError: for an architecture, an option or a quantization that minillm doesn't implement, or an
            adapter for another model.
        WeightsError: for files that are missing, damaged or don't fit the configuration.
    """
    if path.is_dir() and not (path / "config.json").exists():
        # A folder may hold one GGUF file and nothing else.
        path = next(iter(sorted(path.glob("*.gguf"))), path)
    if path.suffix == ".gguf" and not path.is_dir():
        file = GGUFFile(path)
        config = gguf_config(file)
        weights = file.weights(config.num_heads, config.num_kv_heads)
    else:
        config = ModelConfig.from_hf(read_json(path / "config.json"))
        weights = safetensors_weights(path)
    if adapter is not None:
        adapter.check(config)
    try:
        with torch.device("meta"):
            model = Decoder(config)
    except RuntimeError as error:  # more numbers than PyTorch can count
        raise WeightsError(f"{path.name} describes a model of an impossible size ({config}).") from error
    _fill(model, weights, dtype, device, convert, adapter, source=path)
    model.rotary.to(device)
    return model.eval().requires_grad_(False)


def gguf_config(file: GGUFFile) -> ModelConfig:
    """The configuration that a GGUF file describes, RoPE's precomputed divisors included.

    Raises:
        UnsupportedModelError: for what the decoder doesn't implement, or a model split into several files.
        WeightsError: for a description that doesn't fit the tensors.
    """
    if file.metadata.get("split.count", 1) != 1:
        raise UnsupportedModelError(
            f"{file.path.name} is a part of a model in {file.metadata['split.count']} files. "
            "Join them first with llama.cpp's `llama-gguf-split --merge`."
        )
    config = ModelConfig.from_gguf(file.metadata, file.tensor_names)
    if f"blk.{config.num_layers - 1}.attn_q.weight" not in file.tensor_names:
        raise WeightsError(f"{file.path.name} lacks tensors of its {config.num_layers} layers. Fetch it again.")
    if "rope_freqs.weight" in file.tensor_names:
        divisors = tuple(file.tensor("rope_freqs.weight").tolist())
        if len(divisors) != config.head_dim // 2 or not all(0 < divisor < math.inf for divisor in divisors):
            raise WeightsError(f"{file.path.name}: rope_freqs.weight isn't {config.head_dim // 2} positive numbers.")
        config = dataclasses.replace(config, rope=dataclasses.replace(config.rope, frequency_divisors=divisors))
    return config


def read_json(path: Path) -> dict[str, object]:
    """Reads a JSON object from a model folder.

    Raises:
        WeightsError: if it's missing or isn't one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WeightsError(f"{path.parent} has no {path.name}; a model folder needs one.") from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} can't be read: {error}.") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds {type(content).__name__}; a JSON object was expected.")
    return content


def safetensors_weights(folder: Path) -> Weights:
    """Yields the names (less a leading "model.") and tensors of a folder's safetensors, of one file or of shards.

    Raises:
        WeightsError: for files that are missing or damaged.
    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise WeightsError(f'{index} has no "weight_map"; fetch the file again.')
        names = {Path(str(name)) for name in weight_map.values()}
        if any(name.is_absolute() or ".." in name.parts for name in names):
            raise WeightsError(f"{index} names files outside of its folder: {', '.join(map(str, sorted(names)))}.")
        shards = sorted(folder / name for name in names)
    else:
        shards = [folder / "model.safetensors"]
    if missing := [shard.name for shard in shards if not shard.exists()]:
        raise WeightsError(
            f"{folder} lacks {', '.join(missing)}. minillm reads safetensors and GGUF; a checkpoint in another format "
            "(such as pytorch_model.bin) has to be converted first."
        )
    for shard in shards:
        try:
            with safe_open(shard, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                    yield name.removeprefix("model."), file.get_tensor(name)
        except OSError as error:
            raise WeightsError(f"{shard} can't be opened: {error.strerror or error}.") from error
        except SafetensorError as error:
            raise WeightsError(
                f"{shard} can't be read ({error}). The file is damaged or cut short; fetch it again."
            ) from error


def _fill(
    model: Decoder,
    weights: Weights,
    dtype: torch.dtype,
    device: torch.device | str,
    convert: Convert | None,
    adapter: LoRAAdapter | None,
    source: Path,
) -> None:
    """Puts the weights in the place of the model's meta tensors, and checks that each was there and fitted."""
    expected = dict(model.named_parameters(remove_duplicate=True))
    products = {part: product for product in model.products() for part in product.parts}
    filled = set()
    for name, tensor in weights:
        if name.endswith("rotary_emb.inv_freq"):  # old Llama checkpoints carry RoPE's table
            continue
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        if name not in expected:
            raise UnsupportedModelError(f"{source.name} holds {name!r}, which the decoder has no place for.")
        if name in filled:
            raise WeightsError(f"{source.name} holds {name!r} twice. Fetch it again.")
        if tensor.shape != expected[name].shape:
            raise WeightsError(
                f"{source.name}: {name} has the shape {list(tensor.shape)}; "
                f"the configuration asks for {list(expected[name].shape)}."
            )
        module_name, _, parameter = name.rpartition(".")
        module = model.get_submodule(module_name)
        if adapter is not None and parameter == "weight":
            tensor = adapter.merge(module_name, tensor)
        setattr(module, parameter, nn.Parameter(tensor.to(device, dtype), requires_grad=False))
        filled.add(name)
        if isinstance(module, Linear):
            _finish(products[module], convert)
    if missing := sorted(set(expected) - filled):
        raise WeightsError(
            f"{source.name} lacks {len(missing)} of the model's tensors, such as {missing[0]}. Fetch it again."
        )
    if model.config.tie_word_embeddings:
        model.lm_head.weight = model.embed_tokens.weight
        _finish(model.lm_head, convert)


def _finish(product: Linear | FusedLinear, convert: Convert | None) -> None:
    """Once the last of a matrix product's tensors is there: fuses them, and quantizes them if asked to."""
    if any(tensor.is_meta for part in product.parts for tensor in part.parameters()):
        return
    product.fuse()
    if convert is not None:
        product.convert(convert)
