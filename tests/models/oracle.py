"""Checkpoints of the four families with random weights, and the oracle that says what their logits are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.utils import logging

from minillm.attention import ContiguousKVCache, DenseAttention
from minillm.models import Decoder

logging.disable_progress_bar()
logging.set_verbosity_error()

VOCAB_SIZE = 96
CLASSES: dict[str, tuple[type, type]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
# The four families as they are in the wild.
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama"},
    "smollm2": {
        "family": "llama",
        "hidden_size": 72,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0},
        "rms_norm_eps": 1e-5,
    },
    "qwen2": {"family": "qwen2", "tie_word_embeddings": True},
    "qwen3": {"family": "qwen3", "head_dim": 32},
}


def random_transformers_model(family: str, *, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """A model in which every parameter matters: biases and norms are random too, logits spread over units."""
    config_class, model_class = CLASSES[family]
    model: PreTrainedModel = model_class(config_class(**(SHAPE | overrides))).eval()
    randomize(model, seed)
    return model


def randomize(model: PreTrainedModel, seed: int) -> None:
    """Draws all parameters anew."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(std=0.5, generator=generator)
            else:
                parameter.normal_(std=1.5 / parameter.shape[-1] ** 0.5, generator=generator)


def save(folder: Path, name: str = "llama", **overrides: Any) -> Path:
    """Writes a random checkpoint of one of `FAMILIES` with `save_pretrained`."""
    save_options = {key: overrides.pop(key) for key in ("max_shard_size",) if key in overrides}
    random_transformers_model(**(FAMILIES[name] | overrides)).save_pretrained(folder, **save_options)
    return folder


def random_token_ids(length: int, vocab_size: int = VOCAB_SIZE, seed: int = 0) -> Tensor:
    return torch.randint(0, vocab_size, (length,), generator=torch.Generator().manual_seed(seed))


def load_oracle(folder: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """What transformers reads from the same folder."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True)
    return model.eval()


@torch.inference_mode()
def oracle_logits(model: PreTrainedModel, token_ids: Tensor) -> Tensor:
    """[num_tokens] → [num_tokens, vocab_size] float32."""
    return model(token_ids[None]).logits[0].float()


@torch.inference_mode()
def dense_logits(model: Decoder, token_ids: Tensor) -> Tensor:
    """The logits of all positions from one forward pass without a cache."""
    return model.logits(model(token_ids, torch.arange(len(token_ids)), DenseAttention()))


@torch.inference_mode()
def cached_logits(model: Decoder, token_ids: Tensor, chunk_size: int) -> Tensor:
    """The logits of all positions from forward passes over `chunk_size` tokens each, through the KV cache."""
    config = model.config
    cache = ContiguousKVCache(
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        max_tokens=len(token_ids),
        dtype=model.dtype,
    )
    rows = []
    for begin in range(0, len(token_ids), chunk_size):
        chunk = token_ids[begin : begin + chunk_size]
        positions = torch.arange(begin, begin + len(chunk))
        rows.append(model.logits(model(chunk, positions, cache)))
        cache.advance(len(chunk))
    return torch.cat(rows)


def assert_same_logits(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    """The promise is 1e-3 and the same argmax; small models stay far below it."""
    assert ours.shape == theirs.shape
    assert ours.dtype == torch.float32
    assert theirs.std() > 0.5, "logits that hardly differ would prove nothing"
    difference = (ours - theirs).abs().max().item()
    assert difference <= tolerance, f"the logits differ by {difference}"
    assert torch.equal(ours.argmax(-1), theirs.argmax(-1))
