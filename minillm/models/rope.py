"""Rotary position embedding: each pair of a head's dimensions turns by an angle that grows with the position.

The dot product of a query and a key then depends on the distance between their positions only
(RoFormer, arXiv:2104.09864 §3.2). The scaling rules slow the rotation down, so that a model trained on short
texts can be used on longer ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from minillm.models.config import RopeConfig


def inverse_frequencies(config: RopeConfig, head_dim: int) -> tuple[Tensor, float]:
    """The angle per position of each pair of dimensions, and the factor on cos and sin.

    Returns:
        Inverse frequencies [head_dim / 2] in radians per token, float32, and the attention factor (1.0 but for YaRN).
    """
    # On the CPU by name: the table is computed, not loaded, so it must not follow a model onto the meta device.
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
    frequencies = 1.0 / (config.theta**exponents)
    if config.frequency_divisors is not None:
        frequencies = frequencies / torch.tensor(config.frequency_divisors, device="cpu")
    match config.type:
        case "linear":
            return frequencies / config.factor, 1.0
        case "llama3":
            return _llama3(frequencies, config), 1.0
        case "yarn":
            return _yarn(frequencies, config, head_dim)
    return frequencies, 1.0


def _llama3(frequencies: Tensor, config: RopeConfig) -> Tensor:
    """Llama 3.1: waves longer than the original context are stretched, short ones kept, a ramp in between."""
    turns = config.original_max_position * frequencies / (2 * math.pi)  # full turns within the original context
    keep = (turns - config.low_freq_factor) / (config.high_freq_factor - config.low_freq_factor)
    keep = keep.clamp(0, 1)
    return frequencies * (keep + (1 - keep) / config.factor)


def _yarn(frequencies: Tensor, config: RopeConfig, head_dim: int) -> tuple[Tensor, float]:
    """YaRN (arXiv:2309.00071 §3.2, §3.4): the ramp runs over dimensions, and attention is made a little sharper."""

    def dimension_that_turns(turns: float) -> float:
        return head_dim * math.log(config.original_max_position / (turns * 2 * math.pi)) / (2 * math.log(config.theta))

    low, high = dimension_that_turns(config.beta_fast), dimension_that_turns(config.beta_slow)
    if config.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    stretch = (torch.arange(head_dim // 2, dtype=torch.float32, device="cpu") - low) / max(high - low, 0.001)
    stretch = stretch.clamp(0, 1)
    attention_factor = config.attention_factor
    if attention_factor is None:

        def sharpness(scale: float) -> float:
            return 1.0 if config.factor <= 1 else 0.1 * scale * math.log(config.factor) + 1.0

        if config.mscale and config.mscale_all_dim:
            attention_factor = sharpness(config.mscale) / sharpness(config.mscale_all_dim)
        else:
            attention_factor = sharpness(1.0)
    return frequencies * (1 - stretch) + frequencies / config.factor * stretch, attention_factor


class RotaryEmbedding(nn.Module):
    """Computes the cosines and sines for a batch of positions once per forward pass, for all layers."""

    inverse_frequencies: Tensor

    def __init__(self, config: RopeConfig, head_dim: int) -> None:
        super().__init__()
        frequencies, self.attention_factor = inverse_frequencies(config, head_dim)
        self.register_buffer("inverse_frequencies", frequencies, persistent=False)

    def forward(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """positions: [num_tokens] → cos and sin, each [num_tokens, head_dim] in `dtype`; the halves are equal."""
        # Angles in float32: bfloat16 can't tell position 257 from 256.
        angles = positions[:, None].float() * self.inverse_frequencies
        angles = torch.cat((angles, angles), dim=-1)
        return (angles.cos() * self.attention_factor).to(dtype), (angles.sin() * self.attention_factor).to(dtype)
