"""The sampler: one row of logits per request in, one token per request out, all rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from minillm.sampling.params import SamplingParams

_NO_LIMIT = 2**31  # more tokens than any vocabulary has
LIKELY = 256
"""How many tokens filtered rows are looked through for."""
PAGE = 256
"""Tokens whose probabilities are added up in one go."""


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

    def rows(self, index: Tensor) -> SamplingMetadata:
        """Some of the rows, by their numbers."""
        columns = (self.temperature, self.top_k, self.top_p, self.min_p, self.uniform)
        return SamplingMetadata(*(column[index] for column in columns))


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
        tokens = logits.argmax(dim=-1)
        if not bool(metadata.temperature.any()):
            return tokens
        is_filtered = (metadata.top_k > 0) | (metadata.top_p < 1) | (metadata.min_p > 0)
        is_random = metadata.temperature > 0
        # Which way a row goes depends on its own settings only, and so does its token.
        for rows, draw_rows in ((is_random & ~is_filtered, self._draw), (is_random & is_filtered, _draw_likely)):
            chosen = rows.nonzero()[:, 0]
            if len(chosen):
                tokens[chosen] = draw_rows(logits[chosen], metadata.rows(chosen))
        # What the short way couldn't decide is marked, and goes the long one.
        left = (tokens < 0).nonzero()[:, 0]
        if len(left):
            tokens[left] = self._draw(logits[left], metadata.rows(left))
        return tokens

    def _draw(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        return draw(self.probabilities(logits, metadata), metadata.uniform)

    def probabilities(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        """The distribution that each row is drawn from, [num_seqs, vocab_size] float32, rows adding up to 1.

        Rows with temperature 0 have all their mass on the most likely token.
        """
        is_greedy = (metadata.temperature == 0)[:, None]
        scaled = _scale(logits, metadata.temperature)
        scaled = _keep_top_k(scaled, metadata.top_k)
        scaled = _keep_top_p(scaled, metadata.top_p)
        # One softmax at the end makes what's left add up to 1. A row without filters passes through them bit by bit
        # as it would alone: its tokens must not depend on who shares the batch.
        probabilities = _keep_min_p(scaled, metadata.min_p).softmax(dim=-1)
        if not bool(is_greedy.any()):
            return probabilities
        one_hot = torch.zeros_like(probabilities).scatter_(-1, logits.argmax(dim=-1, keepdim=True), 1.0)
        return torch.where(is_greedy, one_hot, probabilities)


def _scale(logits: Tensor, temperature: Tensor) -> Tensor:
    """Divides by the temperature (by 1 in greedy rows), shifted so that the highest is 0, which can't overflow."""
    shifted = logits - logits.amax(dim=-1, keepdim=True)
    return shifted.div_(torch.where(temperature == 0, 1.0, temperature)[:, None])


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Inverts the cumulative distribution: the first token, in order of ids, whose running sum exceeds `uniform`.

    Args:
        probabilities: [num_seqs, vocab_size]; rows need not add up to exactly 1.
        uniform: [num_seqs] float64 in [0, 1).

    Returns:
        [num_seqs] int64. A token of probability 0 is never drawn.
    """
    # In float64: over 50,000 tokens the running sum of float32 numbers is off by more than the smallest of them.
    # In two steps, since adding up pages is quicker than writing down every running sum.
    pages = F.pad(probabilities, (0, -probabilities.shape[-1] % PAGE)).unflatten(-1, (-1, PAGE))
    page_sums = pages.sum(dim=-1).double().cumsum(dim=-1)
    target = _below(uniform * page_sums[:, -1], page_sums[:, -1])[:, None]
    page = torch.searchsorted(page_sums, target, right=True)
    before = F.pad(page_sums, (1, 0)).gather(-1, page)
    inside = pages.gather(1, page[..., None].expand(-1, -1, PAGE))[:, 0].double().cumsum(dim=-1)
    place = torch.searchsorted(inside, _below(target - before, inside[:, -1:]), right=True)
    return (page * PAGE + place)[:, 0]


def _below(target: Tensor, total: Tensor) -> Tensor:
    """Where rounding took a target to the end of all sums or past it, the largest number before that."""
    return torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))


def _draw_likely(logits: Tensor, metadata: SamplingMetadata) -> Tensor:
    """Draws from filtered rows by a look at their most likely tokens only, which spares sorting the vocabulary.

    Returns:
        [num_seqs] int64 token ids; -1 where more than `LIKELY` tokens might pass the filters.
    """
    scaled = _scale(logits, metadata.temperature)
    likely, ids = _highest(scaled, min(LIKELY, logits.shape[-1]))
    is_all = likely.shape[-1] == logits.shape[-1]
    k = metadata.top_k.clamp(min=1, max=likely.shape[-1])
    threshold = likely.gather(-1, (k - 1)[:, None])  # tokens as high as the k-th stay
    kept = (metadata.top_k == 0)[:, None] | (likely >= threshold)
    # The mass that top-p is a share of: of the top k where that's set, else of the whole row. (The highest is 0, and
    # log_softmax, unlike logsumexp, adds a row up in the same order whatever is beside it.)
    mass_of_all = -scaled.log_softmax(-1).amax(-1)
    mass_of_top_k = likely.double().where(kept, -torch.inf).logsumexp(-1)
    mass = torch.where(metadata.top_k > 0, mass_of_top_k, mass_of_all)
    before = (likely - mass[:, None]).exp().where(kept, 0.0).cumsum(dim=-1)
    before = F.pad(before[:, :-1], (1, 0))
    is_cut_off = kept[:, -1] & (metadata.top_k > 0)  # the top k may be more than were looked at
    in_top_p = (before < metadata.top_p[:, None].double()) | (metadata.top_p >= 1)[:, None]
    in_top_p[:, 0] = True
    kept &= in_top_p & (likely >= metadata.min_p.log()[:, None])  # the highest is 0
    # Of tokens that are equally likely, those that weren't looked at might have come first.
    is_open = likely.where(kept, torch.inf).amin(-1) <= likely[:, -1]
    # By id again, the order in which the dart's line is laid out.
    by_id = ids.argsort(dim=-1)
    probabilities = likely.where(kept, -torch.inf).softmax(dim=-1).gather(-1, by_id)
    tokens = ids.gather(-1, by_id).gather(-1, draw(probabilities, metadata.uniform)[:, None])[:, 0]
    return tokens if is_all else torch.where(is_open | is_cut_off, -1, tokens)


def _highest(logits: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """The highest of each row and their ids, in descending order; equal ones by id, which topk doesn't promise."""
    ids = logits.topk(num, dim=-1).indices.sort(dim=-1).values
    values, order = logits.gather(-1, ids).sort(dim=-1, descending=True, stable=True)
    return values, ids.gather(-1, order)


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
