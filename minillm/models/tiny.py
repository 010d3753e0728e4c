"""`tiny-random`: two layers of random weights, built in memory in milliseconds, for tests."""

from __future__ import annotations

import torch

from minillm.models.config import ModelConfig
from minillm.models.decoder import Decoder
from minillm.models.lora import LoRAAdapter

TINY_RANDOM = "tiny-random"


def tiny_config(vocab_size: int) -> ModelConfig:
    """Small in every direction, yet with grouped queries and tied embeddings like SmolLM2."""
    return ModelConfig(
        architecture="llama",
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=160,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        max_model_len=2048,
        tie_word_embeddings=True,
    )


def random_model(
    config: ModelConfig,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    adapter: LoRAAdapter | None = None,
) -> Decoder:
    """A decoder with normally distributed weights; the same seed gives the same weights on every machine.

    An adapter is merged into the weights before they are rounded to `dtype`.
    """
    model = Decoder(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1, generator=generator)
            else:
                # Wide enough that tokens differ clearly in their logits, so that greedy decoding has no ties.
                parameter.normal_(std=1.0 / parameter.shape[-1] ** 0.5, generator=generator)
    for name, parameter in model.named_parameters():
        if adapter is not None:
            parameter.data = adapter.merge(name.removesuffix(".weight"), parameter.data)
        # Not `model.to(dtype)`: it would round RoPE's table as well.
        parameter.data = parameter.data.to(dtype)
    return model.to(device).fuse().eval().requires_grad_(False)
