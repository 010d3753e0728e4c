"""The sampler: one row of logits per request in, one token per request out, all rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from minillm.sampling.params import SamplingParams

_NO_LIMIT = 2**31  # more tokens than any vocabulary has


@dataclass(frozen=True)
class SamplingMetadata:
    """What the sampler has to know of each row. All tensors are [num_seqs].

    Attributes:
        temperature: float32; 0 marks a greedy row.
        top_k: int64; 0 is off.
        top_p: float32; 1 is off.
        min_p: float32; 0 is off.
        uniform: float64 in [0, 1), the row's random number for this position (see `minillm.sampling.random`).
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor
    uniform: Tensor

    @classmethod
    def build(
        cls, params: Sequence[SamplingParams], uniforms: Sequence[float], device: torch.device | str = "cpu"
    ) -> SamplingMetadata:
        """One row per request, from its parameters and its random number."""

        def column(values: list[float] | list[int], dtype: torch.dtype) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        return cls(
            temperature=column([p.temperature for p in params], torch.float32),
            top_k=column([min(max(p.top_k, 0), _NO_LIMIT) for p in params], torch.int64),
            top_p=column([p.top_p for p in params], torch.float32),
            min_p=column([p.min_p for p in params], torch.float32),
            uniform=column(list(uniforms), torch.float64),
        )


class Sampler(Protocol):
    """Chooses tokens. `LLM(sampler=…)` takes any object that does."""

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        """Chooses one token for each row.

        Filters apply in the order temperature, top-k, top-p, min-p. The choice depends on the row's own arguments
        only: the same logits and the same `metadata.uniform` give the same token, in every batch. Uniforms that are
        spread evenly over [0, 1) give each token in proportion to its probability. `check_sampler` tries all that.

        Args:
            logits: [num_seqs, vocab_size] float32; -inf marks a forbidden token.
            metadata: the rows' parameters.

        Returns:
            [num_seqs] int64 token ids.
        """
        ...


class FilteringSampler:
    """The default sampler: scale, cut, and draw from what's left by inverting the cumulative distribution."""

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        """See `Sampler`."""
        greedy = logits.argmax(dim=-1)
        if not bool(metadata.temperature.any()):
            return greedy
        drawn = draw(self.probabilities(logits, metadata), metadata.uniform)
        return torch.where(metadata.temperature == 0, greedy, drawn)

    def probabilities(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        """The distribution that each row is drawn from, [num_seqs, vocab_size] float32, rows adding up to 1.

        Rows with temperature 0 have all their mass on the most likely token.
        """
        is_greedy = (metadata.temperature == 0)[:, None]
        # Shifted so that the highest is 0, which no temperature, however low, can make overflow.
        shifted = logits - logits.amax(dim=-1, keepdim=True)
        scaled = shifted / torch.where(is_greedy, 1.0, metadata.temperature[:, None])
        scaled = _keep_top_k(scaled, metadata.top_k)
        scaled = _keep_top_p(scaled, metadata.top_p)
        # One softmax at the end makes what's left add up to 1. A row without filters passes through them bit by bit
        # as it would alone: its tokens must not depend on who shares the batch.
        probabilities = _keep_min_p(scaled, metadata.min_p).softmax(dim=-1)
        one_hot = torch.zeros_like(probabilities).scatter_(-1, logits.argmax(dim=-1, keepdim=True), 1.0)
        return torch.where(is_greedy, one_hot, probabilities)


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Inverts the cumulative distribution: the first token, in order of ids, whose running sum exceeds `uniform`.

    Args:
        probabilities: [num_seqs, vocab_size]; rows need not add up to exactly 1.
        uniform: [num_seqs] float64 in [0, 1).

    Returns:
        [num_seqs] int64. A token of probability 0 is never drawn.
    """
    # In float64: over 50,000 tokens the running sum of float32 numbers is off by more than the smallest of them.
    cumulative = probabilities.double().cumsum(dim=-1)
    target = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp(max=probabilities.shape[-1] - 1)


def _keep_top_k(logits: Tensor, top_k: Tensor) -> Tensor:
    """Sets all but the k highest of each row to -inf. Tokens as high as the k-th stay."""
    vocab_size = logits.shape[-1]
    k = torch.where(top_k > 0, top_k, vocab_size).clamp(max=vocab_size)
    largest = int(torch.where(top_k > 0, k, 0).max())
    if largest == 0:
        return logits
    highest = logits.topk(largest, dim=-1).values
    threshold = highest.gather(-1, (k.clamp(max=largest) - 1)[:, None])
    cut = (logits < threshold) & (top_k > 0)[:, None]
    return logits.masked_fill(cut, -torch.inf)


def _keep_top_p(logits: Tensor, top_p: Tensor) -> Tensor:
    """Sets to -inf what isn't among the fewest tokens that together hold `top_p`. The most likely one always stays."""
    if bool((top_p >= 1).all()):
        return logits
    ordered, ids = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(dim=-1, dtype=torch.float64)
    # The mass in front of a token; the token that takes the sum past top_p is still needed.
    before = probabilities.cumsum(dim=-1) - probabilities
    cut = (before >= top_p[:, None].double()) & (top_p < 1)[:, None]
    cut[:, 0] = False
    return logits.masked_fill(torch.zeros_like(cut).scatter(-1, ids, cut), -torch.inf)


def _keep_min_p(logits: Tensor, min_p: Tensor) -> Tensor:
    """Sets to -inf what's less likely than min_p times the most likely token of its row."""
    if not bool(min_p.any()):
        return logits
    # p >= min_p * p_max, in logarithms; min_p = 0 becomes -inf, which cuts nothing.
    threshold = logits.amax(dim=-1, keepdim=True) + min_p.log()[:, None]
    return logits.masked_fill(logits < threshold, -torch.inf)
