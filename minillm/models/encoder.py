"""The encoder: BERT (arXiv:1810.04805), which reads a text at once and gives each token a vector that knows the rest.

Read it beside decoder.py. Here every token sees every other, those after it too, so nothing is generated and there is
no cache. Positions are vectors of their own, added to the tokens' (the decoder turns queries and keys instead). Each
part's result is added to the stream and the sum is normalized, where the decoder normalizes what a part reads
(arXiv:2002.04745 compares the two). The norm takes off the mean as well, and the feed-forward layer has no gate.

The texts of a batch are padded to the longest of them, [batch, length]; `mask` tells tokens from padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minillm.errors import UnsupportedModelError, WeightsError
from minillm.models.loader import read_json, safetensors_weights

Pooling = Literal["mean", "cls"]

# From the names of BERT's checkpoints, less the leading "embeddings.", to ours; applied in this order.
_RENAMED = {
    "encoder.layer.": "layers.",
    "attention.self.": "",
    "attention.output.dense": "attention_output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "mlp_norm",
    "LayerNorm": "norm",
}
# Ours to config.json's.
_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "max_length": "max_position_embeddings",
    "num_token_types": "type_vocab_size",
}
# What the encoder can't do otherwise, so another value is refused.
_ONLY = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}


@dataclass(frozen=True)
class EncoderConfig:
    """The shape of a BERT."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    max_length: int
    num_token_types: int
    layer_norm_eps: float

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> EncoderConfig:
        """Reads the content of a config.json.

        Raises:
            UnsupportedModelError: for an architecture or an option that the encoder doesn't implement.
            WeightsError: for values that make no sense.
        """
        if (found := config.get("architectures")) != ["BertModel"]:
            raise UnsupportedModelError(
                f"The architecture {found} is not supported for embeddings; minillm has BertModel's encoder."
            )
        for name, value in _ONLY.items():
            if config.get(name, value) != value:
                raise UnsupportedModelError(f"{name}={config[name]!r} is not supported; the encoder has {value!r}.")
        sizes: dict[str, Any] = {name: config.get(key) for name, key in _SIZES.items()}
        eps = config.get("layer_norm_eps", 1e-12)
        integers = all(type(size) is int and 0 < size < 2**31 for size in sizes.values())
        if not integers or not isinstance(eps, float) or sizes["hidden_size"] % sizes["num_heads"]:
            raise WeightsError(f"config.json is broken: these sizes make no model: {sizes}, layer_norm_eps={eps!r}.")
        return cls(**sizes, layer_norm_eps=eps)


class EncoderLayer(nn.Module):
    """Attention, then the feed-forward layer; each adds its result to the stream and normalizes the sum."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.layer_norm_eps
        self.num_heads = config.num_heads
        self.query, self.key, self.value = nn.Linear(size, size), nn.Linear(size, size), nn.Linear(size, size)
        self.attention_output = nn.Linear(size, size)
        self.attention_norm = nn.LayerNorm(size, eps)
        self.up = nn.Linear(size, config.intermediate_size)
        self.down = nn.Linear(config.intermediate_size, size)
        self.mlp_norm = nn.LayerNorm(size, eps)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x: [batch, length, hidden_size], mask: [batch, 1, 1, length] → [batch, length, hidden_size]."""
        q, k, v = (
            projection(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # [batch, num_heads, length, head_dim]
            for projection in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        x = self.attention_norm(x + self.attention_output(attended))
        return self.mlp_norm(x + self.down(F.gelu(self.up(x))))


class Encoder(nn.Module):
    """The whole model, from token ids to hidden states; `pool` makes one vector of a text's."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_length, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.num_token_types, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))

    def forward(self, token_ids: Tensor, mask: Tensor) -> Tensor:
        """Computes the hidden states of a batch of texts.

        Args:
            token_ids: [batch, length] int64, at most `config.max_length` long.
            mask: [batch, length] bool, False for padding.

        Returns:
            [batch, length, hidden_size]; what stands at padding means nothing.
        """
        x = self.word_embeddings(token_ids) + self.position_embeddings.weight[: token_ids.shape[1]]
        x = self.norm(x + self.token_type_embeddings.weight[0])  # 1 would be the second text of a pair
        for layer in self.layers:
            x = layer(x, mask[:, None, None, :])
        return x


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling = "mean") -> Tensor:
    """One vector of length 1 for each text: the mean of its tokens' (arXiv:1908.10084 §3), or the first one's.

    [batch, length, hidden_size], [batch, length] → [batch, hidden_size] float32.
    """
    hidden = hidden.float()
    if pooling == "cls":
        return F.normalize(hidden[:, 0], dim=1)
    weights = mask[:, :, None].float()
    return F.normalize((hidden * weights).sum(1) / weights.sum(1), dim=1)


def load_encoder(folder: Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Encoder:
    """Loads an encoder from a folder with config.json and safetensors, ready for inference.

    Raises:
        UnsupportedModelError: for anything but a BERT, or a tensor that the encoder has no place for.
        WeightsError: for files that are missing, damaged or don't fit the configuration.
    """
    with torch.device("meta"):
        model = Encoder(EncoderConfig.from_hf(read_json(folder / "config.json")))
    expected = model.state_dict()
    tensors = {}
    for checkpoint_name, tensor in safetensors_weights(folder):
        name = checkpoint_name.removeprefix("embeddings.")
        for theirs, ours in _RENAMED.items():
            name = name.replace(theirs, ours)
        if name.startswith(("pooler.", "position_ids")):  # no part of an embedding, and 0, 1, 2, …
            continue
        if name not in expected:
            raise UnsupportedModelError(f"{folder} holds {checkpoint_name!r}, which the encoder has no place for.")
        if tensor.shape != expected[name].shape:
            shapes = f"the shape {list(tensor.shape)}; the configuration asks for {list(expected[name].shape)}"
            raise WeightsError(f"{folder}: {checkpoint_name} has {shapes}.")
        tensors[name] = tensor.to(device, dtype)
    if missing := sorted(expected.keys() - tensors.keys()):
        raise WeightsError(f"{folder} lacks {len(missing)} of the encoder's tensors, such as {missing[0]}.")
    model.load_state_dict(tensors, assign=True)
    return model.eval().requires_grad_(False)
