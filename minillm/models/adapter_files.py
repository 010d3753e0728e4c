"""Reads and writes LoRA adapters in the format of PEFT, the library that most adapters are trained with.

A folder holds adapter_config.json, which says what the factors are scaled by, and adapter_model.safetensors with the
factors: "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" and its lora_B.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from minillm.errors import ModelNotFoundError, UnsupportedModelError, WeightsError
from minillm.models.loader import read_json
from minillm.models.lora import LoRAAdapter, LoRAFactors

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_KEY = re.compile(r"base_model\.model\.(?:model\.)?(?P<path>.+)\.lora_(?P<factor>[AB])\.weight")

# Options that change what the factors mean, and what each one is called.
_UNSUPPORTED = {
    "use_dora": "DoRA, which also changes the length of each weight's rows",
    "lora_bias": "biases beside its factors",
    "use_qalora": "QALoRA",
    "use_bdlora": "BD-LoRA",
    "alora_invocation_tokens": "activated LoRA, which begins at certain tokens only",
    "trainable_token_indices": "embeddings of its own for some tokens",
    "modules_to_save": "whole modules beside the factors (modules_to_save)",
    "target_parameters": "factors for parameters that belong to no matrix product (target_parameters)",
    "layer_replication": "layers that are used several times (layer_replication)",
    "fan_in_fan_out": "weights that are stored the other way around (fan_in_fan_out)",
    "arrow_config": "several adapters with a router (Arrow)",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "velora_config": "VeLoRA",
}
# These begin training by taking something away from the model's own weights.
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")


def read_adapter(folder: str | Path, name: str = "") -> LoRAAdapter:
    """Reads an adapter's folder.

    Args:
        folder: with adapter_config.json and adapter_model.safetensors.
        name: what to call it; the folder's name if not given.

    Returns:
        The adapter, with its factors in the dtype of the file. Whether they fit a model tells `LoRAAdapter.check`.

    Raises:
        ModelNotFoundError: for a folder that holds no adapter.
        UnsupportedModelError: for another kind of adapter, or an option that changes what is computed.
        WeightsError: for files that are missing or damaged, or contradict each other.
    """
    folder = Path(folder)
    name = name or folder.name
    if not (folder / CONFIG_FILE).is_file():
        raise ModelNotFoundError(f"{folder} holds no adapter: expected a folder with {CONFIG_FILE} and {WEIGHTS_FILE}.")
    config = read_json(folder / CONFIG_FILE)
    _refuse_unsupported(name, config)
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in _tensors(folder).items():
        match = _KEY.fullmatch(key)
        if match is None:
            raise UnsupportedModelError(
                f"The adapter {name!r} holds {key!r}; expected only factors of matrix products, such as "
                "'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight'."
            )
        if tensor.ndim != 2 or not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise WeightsError(f"{folder / WEIGHTS_FILE}: {key} is no matrix of finite numbers. Fetch it again.")
        tensors.setdefault(match["path"], {})[match["factor"]] = tensor
    if not tensors:
        raise WeightsError(f"{folder / WEIGHTS_FILE} holds no factors, so the adapter would change nothing.")
    factors = {}
    for path, pair in sorted(tensors.items()):
        if len(pair) != 2:
            raise WeightsError(f"{folder / WEIGHTS_FILE} holds one factor of {path} without the other. Fetch it again.")
        factors[path] = LoRAFactors(pair["A"], pair["B"], _scale(name, config, path, pair["A"].shape[0]))
    return LoRAAdapter(name, factors, str(config.get("base_model_name_or_path") or ""))


def save_adapter(folder: str | Path, adapter: LoRAAdapter, *, dtype: torch.dtype = torch.bfloat16) -> None:
    """Writes an adapter so that minillm, PEFT and vLLM can read it; replaces the files of one that is there.

    Args:
        folder: made if need be.
        adapter: with at least one product.
        dtype: of the factors in the file. bfloat16 takes 2 bytes each: rank 16 for all products of SmolLM2-135M
            makes 9.8 MB.

    Raises:
        WeightsError: for an adapter without factors, or a folder that can't be written to.
    """
    if not adapter.factors:
        raise WeightsError(f"The adapter {adapter.name!r} has no factors; there is nothing to be saved.")
    folder = Path(folder)
    tensors = {}
    for path, factors in adapter.factors.items():
        for letter, tensor in (("A", factors.a), ("B", factors.b)):
            # Each a copy: safetensors refuses tensors that share memory.
            tensors[f"base_model.model.model.{path}.lora_{letter}.weight"] = (
                tensor.detach().to("cpu", dtype, copy=True).contiguous()
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f".{WEIGHTS_FILE}.part"
        save_file(tensors, part, metadata={"format": "pt"})
        os.replace(part, folder / WEIGHTS_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps(_config(adapter), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise WeightsError(f"The adapter can't be written to {folder} ({error.strerror or error}).") from error


def _refuse_unsupported(name: str, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UnsupportedModelError(f"The adapter {name!r} is of the type {kind!r}; minillm has 'LORA'.")
    for option, meaning in _UNSUPPORTED.items():
        if config.get(option):
            raise UnsupportedModelError(
                f"The adapter {name!r} has {meaning}; minillm has plain LoRA. Merge it into its model with PEFT's "
                "merge_and_unload() and load the result."
            )
    if (bias := config.get("bias", "none")) != "none":
        raise UnsupportedModelError(
            f"The adapter {name!r} was trained with bias={bias!r}, which changes the model's biases; minillm has plain "
            "LoRA, bias='none'."
        )
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
        raise UnsupportedModelError(
            f"The adapter {name!r} was begun with init_lora_weights={start!r}, which changes the model's own weights. "
            "Convert it to plain LoRA with PEFT: save_pretrained(…, path_initial_model_for_weight_conversion=…)."
        )


def _tensors(folder: Path) -> dict[str, Tensor]:
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        hint = " An adapter_model.bin is there, which could run any code: save it as safetensors." if pickled else ""
        raise WeightsError(f"{folder} has no {WEIGHTS_FILE}.{hint}")
    try:
        return load_file(file)
    except OSError as error:
        raise WeightsError(f"{file} can't be opened: {error.strerror or error}.") from error
    except SafetensorError as error:
        raise WeightsError(
            f"{file} can't be read ({error}). The file is damaged or cut short; fetch it again."
        ) from error


def _scale(name: str, config: Mapping[str, Any], path: str, rank: int) -> float:
    """What the product of these factors is scaled by; checks that the configuration speaks of the same rank."""
    try:
        expected = _by_pattern(config.get("rank_pattern"), path, config.get("r", 8))
        alpha = float(_by_pattern(config.get("alpha_pattern"), path, config.get("lora_alpha", 8)))
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise WeightsError(f"The {CONFIG_FILE} of the adapter {name!r} is broken: {error}.") from error
    if rank != expected or not math.isfinite(alpha):
        raise WeightsError(
            f"The adapter {name!r}: {path} has the rank {rank}, and {CONFIG_FILE} says {expected} (alpha {alpha}). The "
            "files don't belong together."
        )
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _by_pattern(patterns: Mapping[str, Any] | None, path: str, default: Any) -> Any:
    """PEFT's rule: the first pattern that matches the end of the module's path, else the value for all."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", f"model.{path}"):
            return value
    return default


def _config(adapter: LoRAAdapter) -> dict[str, Any]:
    """adapter_config.json: the commonest rank and alpha for all, and patterns for products that have others."""
    ranks = {path: factors.rank for path, factors in adapter.factors.items()}
    alphas = {path: _number(factors.scale * factors.rank) for path, factors in adapter.factors.items()}
    (rank, _), *_ = Counter(ranks.values()).most_common(1)
    (alpha, _), *_ = Counter(alphas.values()).most_common(1)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": adapter.base_model or None,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"model.{path}": other for path, other in ranks.items() if other != rank},
        "alpha_pattern": {f"model.{path}": other for path, other in alphas.items() if other != alpha},
        "target_modules": _target_modules(adapter),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "modules_to_save": None,
        "inference_mode": True,
    }


def _target_modules(adapter: LoRAAdapter) -> list[str]:
    """Names such as "q_proj" if all layers have the same products, else the paths of all."""
    layers = {path.rpartition(".")[0].split(".")[1] for path in adapter.factors}
    names = {path.split(".", 2)[2] for path in adapter.factors}
    every = {f"layers.{layer}.{name}" for layer in range(len(layers)) for name in names}
    if every == set(adapter.factors):
        return sorted(name.rpartition(".")[2] for name in names)
    return [f"model.{path}" for path in sorted(adapter.factors)]


def _number(value: float) -> float | int:
    return int(value) if value == int(value) else value
