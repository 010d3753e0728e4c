"""The decoder: one transformer for Llama, SmolLM2, Qwen2 and Qwen3.

Tokens of a forward pass lie in one flat row, whatever requests they belong to: `token_ids` and `positions` are
[num_tokens]. The decoder knows nothing of requests, caches or batches. Where tokens look at each other, it calls
`attention`, which keeps the keys and values and decides who sees whom (see `minillm.attention`). What it computes
itself, `kernels` do, so the same decoder runs on PyTorch alone, on C functions or on Triton (see `minillm.kernels`).

Parameters carry the names of Hugging Face's checkpoints, less the leading "model.".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minillm.attention.backend import Attention
from minillm.kernels import Kernels, QuantizedTensor, TorchKernels
from minillm.models.config import ModelConfig
from minillm.models.lora_batch import LoRABatch
from minillm.models.rope import RotaryEmbedding

Convert: TypeAlias = Callable[[Tensor], QuantizedTensor]
"""Quantizes or packs the weights of a matrix product."""


class Module(nn.Module):
    """A module without hooks: looking for some, nn.Module's own call takes as long as a small kernel."""

    def __init_subclass__(cls) -> None:
        cls.__call__ = cls.forward  # type: ignore[method-assign]


class Linear(Module):
    """A matrix product with weights that come from a checkpoint, so they are not initialized."""

    weight: Tensor | QuantizedTensor

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__()
        self.out_features = out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None

    def forward(self, x: Tensor, kernels: Kernels, lora: LoRABatch | None = None) -> Tensor:
        """x: [n, in_features] → [n, out_features]."""
        out = kernels.linear(x, self.weight, self.bias)
        return out if lora is None else lora.add(self, x, out, kernels)

    @property
    def parts(self) -> tuple[Linear, ...]:
        """What it's made of, as a FusedLinear has them: itself."""
        return (self,)

    def fuse(self) -> None:
        """See `FusedLinear.fuse`: there's nothing to be moved."""

    def convert(self, to: Convert) -> None:
        """Replaces the weights by quantized or packed ones; the parameter is gone."""
        weight = cast(Tensor, self.weight)
        del self.weight
        self.weight = to(weight)


class FusedLinear(Module):
    """Several products with one input, computed as one.

    Their weights lie one below the other in one tensor. Those of the single products become views into it, so each
    keeps its name in the checkpoint and no number is stored twice.
    """

    weight: Tensor | QuantizedTensor

    def __init__(self, parts: Sequence[Linear]) -> None:
        super().__init__()
        self.parts = tuple(parts)  # a tuple isn't registered: the parts belong to the module above
        self.bias: Tensor | None = None

    @torch.no_grad()
    def fuse(self) -> None:
        """Moves the parts' weights together; to be called when they are in place."""
        # The attributes are no buffers: whoever moves a model moves its parameters and fuses them anew.
        self.weight = torch.cat([cast(Tensor, part.weight) for part in self.parts])
        if self.parts[0].bias is not None:
            self.bias = torch.cat([cast(Tensor, part.bias) for part in self.parts])
        begin = 0
        for part in self.parts:
            end = begin + cast(Tensor, part.weight).shape[0]
            part.weight = nn.Parameter(self.weight[begin:end], requires_grad=False)
            if self.bias is not None:
                part.bias = nn.Parameter(self.bias[begin:end], requires_grad=False)
            begin = end

    def convert(self, to: Convert) -> None:
        """Replaces the weights by quantized or packed ones; the parts have none any more."""
        self.weight = to(cast(Tensor, self.weight))
        for part in self.parts:
            del part.weight

    def forward(self, x: Tensor, kernels: Kernels, lora: LoRABatch | None = None) -> Tensor:
        """x: [n, in_features] → [n, sum of the parts' out_features]."""
        out = kernels.linear(x, self.weight, self.bias)
        return out if lora is None else lora.add(self, x, out, kernels)


class Embedding(Module):
    """A vector for each token of the vocabulary."""

    def __init__(self, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, hidden_size))

    def forward(self, token_ids: Tensor) -> Tensor:
        """token_ids: [num_tokens] → [num_tokens, hidden_size]."""
        return F.embedding(token_ids, self.weight)


class RMSNorm(Module):
    """The weights of a root-mean-square norm (arXiv:1910.07467)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor, kernels: Kernels) -> Tensor:
        """x: [..., size] → [..., size]."""
        return kernels.rms_norm(x.reshape(-1, x.shape[-1]), self.weight, self.eps).view(x.shape)

    def add(self, x: Tensor, residual: Tensor, kernels: Kernels) -> Tensor:
        """Adds x to the residual stream, in place, and returns its norm. [n, size] → [n, size]."""
        return kernels.add_rms_norm(x, residual, self.weight, self.eps)


class SelfAttention(Module):
    """Projects to queries, keys and values, attends, and projects back."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        q_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.sizes = (q_size, kv_size, kv_size)
        self.q_proj = Linear(config.hidden_size, q_size, bias=config.qkv_bias)
        self.k_proj = Linear(config.hidden_size, kv_size, bias=config.qkv_bias)
        self.v_proj = Linear(config.hidden_size, kv_size, bias=config.qkv_bias)
        self.qkv_proj = FusedLinear([self.q_proj, self.k_proj, self.v_proj])
        self.o_proj = Linear(q_size, config.hidden_size, bias=config.attention_output_bias)
        # Qwen3 normalizes each head's queries and keys before they're turned.
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else None

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        attention: Attention,
        kernels: Kernels,
        lora: LoRABatch | None = None,
    ) -> Tensor:
        """x: [num_tokens, hidden_size] → [num_tokens, hidden_size]."""
        q, k, v = (
            part.unflatten(1, (-1, self.head_dim)) for part in self.qkv_proj(x, kernels, lora).split(self.sizes, dim=1)
        )
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q, kernels), self.k_norm(k, kernels)
        attended = attention(self.layer, q, k, v, cos, sin)
        return self.o_proj(attended.flatten(1), kernels, lora)


class MLP(Module):
    """The gated feed-forward layer, SwiGLU (arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.gate_up_proj = FusedLinear([self.gate_proj, self.up_proj])
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor, kernels: Kernels, lora: LoRABatch | None = None) -> Tensor:
        """x: [num_tokens, hidden_size] → [num_tokens, hidden_size]."""
        return self.down_proj(kernels.silu_and_mul(self.gate_up_proj(x, kernels, lora)), kernels, lora)


class DecoderLayer(Module):
    """Attention, then the feed-forward layer; each reads a normalized copy of the stream and adds its result to it."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = SelfAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(
        self,
        x: Tensor | None,
        residual: Tensor,
        cos: Tensor,
        sin: Tensor,
        attention: Attention,
        kernels: Kernels,
        lora: LoRABatch | None = None,
    ) -> Tensor:
        """Reads and extends the residual stream, [num_tokens, hidden_size].

        Args:
            x: the result of the layer before, which isn't in `residual` yet, since adding it and taking the norm are
                one kernel; None in the first layer.
            residual: the stream; added to in place.
            cos, sin, attention, kernels, lora: see `Decoder.forward`.

        Returns:
            This layer's last result, for the next layer's x.
        """
        norm = self.input_layernorm
        x = norm(residual, kernels) if x is None else norm.add(x, residual, kernels)
        x = self.self_attn(x, cos, sin, attention, kernels, lora)
        return self.mlp(self.post_attention_layernorm.add(x, residual, kernels), kernels, lora)


class Decoder(nn.Module):
    """The whole model, from token ids to hidden states, and from hidden states to logits.

    The two halves are apart because generation needs the logits of the last position only, and the product with
    the vocabulary is the largest of all.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.kernels: Kernels = TorchKernels()
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary = RotaryEmbedding(config.rope, config.head_dim)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, before quantization."""
        return self.embed_tokens.weight.dtype

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.embed_tokens.weight.device

    def products(self) -> list[Linear | FusedLinear]:
        """All matrix products; a fused one stands for its parts."""
        fused = [module for module in self.modules() if isinstance(module, FusedLinear)]
        inside = {part for module in fused for part in module.parts}
        return [*fused, *(m for m in self.modules() if isinstance(m, Linear) and m not in inside)]

    def fuse(self) -> Decoder:
        """Lays weights that are read together side by side; called once, when all are in place."""
        for product in self.products():
            product.fuse()
        return self

    def convert(self, to: Convert) -> Decoder:
        """Quantizes or packs the weights of all matrix products; the embedding keeps its numbers.

        Raises:
            MinillmError: for weights that can't be converted.
        """
        for product in self.products():
            product.convert(to)
        return self

    def forward(
        self, token_ids: Tensor, positions: Tensor, attention: Attention, lora: LoRABatch | None = None
    ) -> Tensor:
        """Computes the hidden states of a flat row of tokens.

        Args:
            token_ids: [num_tokens] int64.
            positions: [num_tokens] int64, each token's place in its own text, from 0.
            attention: called once per layer with q, k and v.
            lora: adapters, and whose tokens they are for.

        Returns:
            [num_tokens, hidden_size], normalized, ready for `logits`.
        """
        residual = self.embed_tokens(token_ids).to(self.kernels.activation_dtype(self.dtype))
        cos, sin = self.rotary(positions, residual.dtype)
        x = None
        for layer in self.layers:
            x = layer(x, residual, cos, sin, attention, self.kernels, lora)
        norm: RMSNorm = self.norm
        return norm.add(cast(Tensor, x), residual, self.kernels)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores every token of the vocabulary as the next one. [n, hidden_size] → [n, vocab_size] float32."""
        return self.lm_head(hidden, self.kernels).float()
