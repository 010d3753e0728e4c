"""Writes small GGUF files the way llama.cpp's converter does, with weights that are known exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter
from gguf.quants import dequantize, quantize
from oracle import random_transformers_model
from transformers import PreTrainedModel

K_QUANTS = (Kind.Q4_K, Kind.Q6_K)
KINDS = (Kind.F32, Kind.F16, Kind.BF16, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, *K_QUANTS)
# Where the 16-bit scales lie in a block: any other byte may have any value.
SCALE_OFFSETS = {
    Kind.Q4_0: (0,),
    Kind.Q4_1: (0, 2),
    Kind.Q5_0: (0,),
    Kind.Q5_1: (0, 2),
    Kind.Q8_0: (0,),
    Kind.Q4_K: (0, 2),
    Kind.Q6_K: (208,),
}
# One row of every matrix must be a whole number of the largest blocks.
SHAPE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2}
FAMILIES: dict[str, dict[str, Any]] = {
    # llama.cpp permutes the biases of Q and K as it does their weights.
    "llama": {"attention_bias": True},
    "qwen2": {},
    "qwen3": {"head_dim": 128},
}


def random_blocks(kind: Kind, num_blocks: int, seed: int = 0, scale: float = 2e-4) -> np.ndarray:
    """Valid blocks with random content. [num_blocks, bytes of a block] uint8."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (num_blocks, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
    for offset in SCALE_OFFSETS[kind]:
        scales = rng.uniform(0.5 * scale, scale, num_blocks).astype(np.float16)
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks


def stored(weight: np.ndarray, kind: Kind, seed: int) -> np.ndarray:
    """What a file of this kind holds for a matrix; for K-quants, which nobody packs in Python, random blocks."""
    if kind in K_QUANTS:
        rows, columns = weight.shape
        block_size = gguf.GGML_QUANT_SIZES[kind][0]
        scale = 1e-4 if kind == Kind.Q6_K else 4e-4
        return random_blocks(kind, rows * columns // block_size, seed, scale).reshape(rows, -1)
    if kind == Kind.F32:
        return weight
    return weight.astype(np.float16) if kind == Kind.F16 else quantize(weight, kind)


def permute(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """What llama.cpp's converter does to the rows of Q and K of a Llama."""
    halves = weight.reshape(num_heads, 2, weight.shape[0] // num_heads // 2, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def write_gguf(
    path: Path,
    family: str,
    kind: Kind = Kind.F32,
    *,
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, np.ndarray] | None = None,
    alignment: int | None = None,
    **overrides: Any,
) -> PreTrainedModel:
    """Writes a random model; returns transformers' model with the very numbers that the file stands for.

    Args:
        path: of the file.
        family: "llama", "qwen2" or "qwen3".
        kind: of every matrix; norms and biases are F32, as in real files.
        metadata: further values, such as RoPE's scaling.
        tensors: further tensors, such as rope_freqs.weight.
        alignment: of the tensors, if not the usual 32.
        overrides: of the model's configuration.
    """
    model = random_transformers_model(family, **(SHAPE | FAMILIES[family] | overrides))
    writer = GGUFWriter(path, family)
    if alignment:
        writer.add_custom_alignment(alignment)
    add_metadata(writer, family, model, metadata or {})
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[family.upper()], model.config.num_hidden_layers)
    heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        del state["lm_head.weight"]
    for seed, (name, parameter) in enumerate(state.items()):
        data = parameter.numpy()
        kind_here = kind if data.ndim == 2 else Kind.F32
        data = stored(data, kind_here, seed)
        # Quantization works along the rows, the permutation across them.
        state[name] = torch.tensor(dequantize(data, kind_here))
        head_count = next((count for part, count in heads.items() if part in name), None)
        if family == "llama" and head_count:
            data = permute(data, head_count)
        writer.add_tensor(str(names.get_name(name, (".weight", ".bias"))), data, raw_dtype=kind_here)
    for name, data in (tensors or {}).items():
        writer.add_tensor(name, data)
    finish(writer)
    model.load_state_dict(state, strict=False)
    return model


def add_metadata(writer: GGUFWriter, family: str, model: PreTrainedModel, further: Mapping[str, Any]) -> None:
    """The keys that the converter writes for these families."""
    config = model.config
    writer.add_name("random")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if family == "llama":
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(config.head_dim)
    if family == "qwen3":
        writer.add_key_length(config.head_dim)
        writer.add_value_length(config.head_dim)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"t{token}" for token in range(config.vocab_size)])
    for key, value in further.items():
        kind = gguf.GGUFValueType.UINT32 if type(value) is int else gguf.GGUFValueType.get_type(value)
        writer.add_key_value(key, value, kind)


def finish(writer: GGUFWriter) -> None:
    """Writes the file that was put together."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
