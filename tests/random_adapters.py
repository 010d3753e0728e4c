"""Adapters with random factors."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from minillm.models.config import ModelConfig
from minillm.models.lora import LoRAAdapter, LoRAFactors, product_shapes


def random_adapter(
    config: ModelConfig, *, seed: int = 0, rank: int = 4, scale: float = 0.5, only: Sequence[str] = (), name: str = ""
) -> LoRAAdapter:
    """For all products whose path holds one of `only`, or for all; as large as the model's own weights.

    The numbers are bfloat16's, so that a file in that dtype holds the same.
    """
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for path, (out_features, in_features) in product_shapes(config).items():
        if not only or any(part in path for part in only):
            a = torch.randn(rank, in_features, generator=generator) / in_features**0.5
            b = torch.randn(out_features, rank, generator=generator) / rank**0.5
            factors[path] = LoRAFactors(a.bfloat16().float(), b.bfloat16().float(), scale)
    return LoRAAdapter(name or f"random-{seed}", factors, "some/model")
