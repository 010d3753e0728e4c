"""LoRA adapters: thin matrix products that are added to a model's own (arXiv:2106.09685).

A layer computes x·Wᵀ. With an adapter it computes x·Wᵀ + scale · (x·Aᵀ)·Bᵀ: A makes a few numbers of x, as many as the
adapter's rank, and B makes of these as many as W does. There are two ways to have both: added to W once and for all
(`LoRAAdapter.merge`), or computed beside it at every step, so that requests with different adapters share one model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from minillm.errors import UnsupportedModelError, WeightsError
from minillm.models.config import ModelConfig


@dataclass(frozen=True, eq=False)
class LoRAFactors:
    """What an adapter adds to one matrix product.

    Attributes:
        a: [rank, in_features].
        b: [out_features, rank].
        scale: of the product b·a; alpha / rank in PEFT's words.

    Raises:
        WeightsError: for shapes that don't fit each other.
    """

    a: Tensor
    b: Tensor
    scale: float

    def __post_init__(self) -> None:
        if self.a.ndim != 2 or self.b.ndim != 2 or self.a.shape[0] != self.b.shape[1] or not self.a.shape[0]:
            raise WeightsError(
                f"An adapter's A has the shape {list(self.a.shape)} and its B {list(self.b.shape)}; expected "
                "[rank, in_features] and [out_features, rank]."
            )

    @property
    def rank(self) -> int:
        """Rows of a and columns of b."""
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(out_features, in_features) of the product that it's for."""
        return self.b.shape[0], self.a.shape[1]

    def product(self) -> Tensor:
        """What is added to the weight: [out_features, in_features] float32."""
        return (self.b.float() @ self.a.float()) * self.scale


@dataclass(frozen=True, eq=False)
class LoRAAdapter:
    """The factors of all products that an adapter changes.

    Attributes:
        name: what it was asked for as.
        factors: by the path of the product's module, such as "layers.0.self_attn.q_proj".
        base_model: name of the model that it was trained for, as its file gives it; empty if it gives none.
    """

    name: str
    factors: Mapping[str, LoRAFactors]
    base_model: str = ""

    @cached_property
    def fingerprint(self) -> str:
        """A hash over its numbers, whatever its name and its dtype."""
        digest = hashlib.sha256()
        for path, factors in sorted(self.factors.items()):
            digest.update(f"{path} {factors.rank} {factors.shape} {factors.scale}\n".encode())
            for tensor in (factors.a, factors.b):
                digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    @property
    def nbytes(self) -> int:
        """Bytes of all factors."""
        return sum(factors.a.nbytes + factors.b.nbytes for factors in self.factors.values())

    def check(self, config: ModelConfig) -> None:
        """Checks that a model has the products that this adapter is for.

        Raises:
            UnsupportedModelError: if it lacks one, or has it in another size.
        """
        shapes = product_shapes(config)
        trained = f" It was trained for {self.base_model}; use it with that model." if self.base_model else ""
        for path, factors in self.factors.items():
            if path not in shapes:
                raise UnsupportedModelError(
                    f"The adapter {self.name!r} changes {path}; an adapter can change the products "
                    f"{', '.join(sorted({name.rpartition('.')[2] for name in shapes}))} of this model's "
                    f"{config.num_layers} layers.{trained}"
                )
            if factors.shape != shapes[path]:
                raise UnsupportedModelError(
                    f"The adapter {self.name!r} is for another model: its {path} is {factors.shape[0]} x "
                    f"{factors.shape[1]}, and this model's {shapes[path][0]} x {shapes[path][1]}.{trained}"
                )

    @torch.no_grad()
    def merge(self, path: str, weight: Tensor) -> Tensor:
        """The weight of one product with what the adapter adds to it.

        Args:
            path: of the product's module.
            weight: [out_features, in_features]; not changed.

        Returns:
            The sum in float32, so that it's rounded only once; `weight` itself if the adapter leaves it as it is.
        """
        factors = self.factors.get(path)
        return weight if factors is None else weight.float() + factors.product().to(weight.device)


def product_shapes(config: ModelConfig) -> dict[str, tuple[int, int]]:
    """The products that an adapter can change: path of the module → (out_features, in_features)."""
    hidden, wide = config.hidden_size, config.intermediate_size
    q_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    in_a_layer = {
        "self_attn.q_proj": (q_size, hidden),
        "self_attn.k_proj": (kv_size, hidden),
        "self_attn.v_proj": (kv_size, hidden),
        "self_attn.o_proj": (hidden, q_size),
        "mlp.gate_proj": (wide, hidden),
        "mlp.up_proj": (wide, hidden),
        "mlp.down_proj": (hidden, wide),
    }
    return {f"layers.{layer}.{name}": shape for layer in range(config.num_layers) for name, shape in in_a_layer.items()}
