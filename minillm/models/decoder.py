"""The decoder: one transformer for Llama, SmolLM2, Qwen2 and Qwen3.

Tokens of a forward pass lie in one flat row, whatever requests they belong to: `token_ids` and `positions` are
[num_tokens]. The decoder knows nothing of requests, caches or batches. Where tokens look at each other, it calls
`attention`, which keeps the keys and values and decides who sees whom (see `minillm.attention`).

Parameters carry the names of Hugging Face's checkpoints, less the leading "model.".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minillm.attention import Attention
from minillm.models.config import ModelConfig
from minillm.models.rope import RotaryEmbedding, rotate


class Linear(nn.Module):
    """A matrix product with weights that come from a checkpoint, so they are not initialized."""

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., in_features] → [..., out_features]."""
        return F.linear(x, self.weight, self.bias)


class Embedding(nn.Module):
    """A vector for each token of the vocabulary."""

    def __init__(self, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, hidden_size))

    def forward(self, token_ids: Tensor) -> Tensor:
        """token_ids: [num_tokens] → [num_tokens, hidden_size]."""
        return F.embedding(token_ids, self.weight)


class RMSNorm(nn.Module):
    """Divides each vector by its root mean square, then scales each dimension (arXiv:1910.07467)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x: [..., size] → [..., size], same dtype; the mean is taken in float32."""
        wide = x.float()
        normed = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(x.dtype)


class SelfAttention(nn.Module):
    """Projects to queries, keys and values, turns them by their positions, attends, and projects back."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.num_kv_heads, config.head_dim
        q_size, kv_size = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        self.q_proj = Linear(config.hidden_size, q_size, bias=config.qkv_bias)
        self.k_proj = Linear(config.hidden_size, kv_size, bias=config.qkv_bias)
        self.v_proj = Linear(config.hidden_size, kv_size, bias=config.qkv_bias)
        self.o_proj = Linear(q_size, config.hidden_size, bias=config.attention_output_bias)
        # Qwen3 normalizes each head's queries and keys before they're turned.
        self.q_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(self.head_dim, config.rms_norm_eps) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attention: Attention) -> Tensor:
        """x: [num_tokens, hidden_size] → [num_tokens, hidden_size]."""
        num_tokens = x.shape[0]
        q = self.q_norm(self.q_proj(x).view(num_tokens, self.num_heads, self.head_dim))
        k = self.k_norm(self.k_proj(x).view(num_tokens, self.num_kv_heads, self.head_dim))
        v = self.v_proj(x).view(num_tokens, self.num_kv_heads, self.head_dim)
        attended = attention(self.layer, rotate(q, cos, sin), rotate(k, cos, sin), v)
        return self.o_proj(attended.reshape(num_tokens, -1))


class MLP(nn.Module):
    """The gated feed-forward layer, SwiGLU (arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: [num_tokens, hidden_size] → [num_tokens, hidden_size]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """Attention, then the feed-forward layer; each reads a normalized copy and adds its result to the stream."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = SelfAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, attention: Attention) -> Tensor:
        """x: [num_tokens, hidden_size] → [num_tokens, hidden_size]."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, attention)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """The whole model, from token ids to hidden states, and from hidden states to logits.

    The two halves are apart because generation needs the logits of the last position only, and the product with
    the vocabulary is the largest of all.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(DecoderLayer(config, layer) for layer in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.rotary = RotaryEmbedding(config.rope, config.head_dim)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, and of the hidden states."""
        return self.embed_tokens.weight.dtype

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.embed_tokens.weight.device

    def forward(self, token_ids: Tensor, positions: Tensor, attention: Attention) -> Tensor:
        """Computes the hidden states of a flat row of tokens.

        Args:
            token_ids: [num_tokens] int64.
            positions: [num_tokens] int64, each token's place in its own text, from 0.
            attention: called once per layer with q, k and v.

        Returns:
            [num_tokens, hidden_size], normalized, ready for `logits`.
        """
        x = self.embed_tokens(token_ids)
        cos, sin = self.rotary(positions, x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin, attention)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores every token of the vocabulary as the next one. [n, hidden_size] → [n, vocab_size] float32."""
        return self.lm_head(hidden).float()
