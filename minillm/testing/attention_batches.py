"""Batches whose results can be read; the ground that `check_attention_backend` stands on.

The value of a token has a 1 in a dimension of its own and 0 elsewhere. What attention returns, the mean of values, is
then the list of weights itself: which tokens a query saw, and how much of each. Slots that no token was written to
have a dimension of theirs, and in the last one stands the number of the KV head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from minillm.attention import AttentionBackend, AttentionMetadata
from minillm.kernels.reference import rotate
from minillm.testing.report import CheckFailed

TOLERANCE = 2e-4
SPARE_BLOCKS = 2

Hints = tuple[str, str]  # the first and the stronger one

NAN: Hints = (
    "The result isn't a number: somewhere a NaN or an infinity was taken in.",
    "A masked weight of 0 doesn't help where the value is NaN, since 0 * NaN is NaN. Cut keys and values to seq_lens "
    "(keys[:length]), or set the values behind it to 0. An empty softmax and an overflowing exp give NaN too.",
)
UNWRITTEN: Hints = (
    "A query sees slots that hold no token of its text: behind its end, or block 0, which pads the block tables.",
    "Sequence i has seq_lens[i] tokens. Take the first ceil(length / block_size) blocks of its table and cut what they "
    "hold to the length: keys[:length], values[:length].",
)
FOREIGN: Hints = (
    "A query sees tokens of another sequence.",
    "The rows of sequence i are query_start_loc[i] to query_start_loc[i + 1], its blocks are row i of block_tables, "
    "and its length is seq_lens[i]. Attend for each sequence by itself.",
)
FUTURE: Hints = (
    "A query sees tokens that come after it.",
    "The causal mask is missing or one off: the query at position p sees the keys 0 to p, p included. Masked scores "
    "become -inf before the softmax.",
)
MISSING: Hints = (
    "A query doesn't see all of its text.",
    "Sequence i has seq_lens[i] tokens, the new ones included, and the new ones are its last: row j of n stands at "
    "position seq_lens[i] - n + j and sees the keys 0 to there. Keys of older tokens are in the cache only.",
)
KV_HEAD: Hints = (
    "A query head reads a KV head that isn't its own.",
    "Query heads that share a KV head stand side by side: head h reads KV head h // (num_heads // num_kv_heads), which "
    "is k.repeat_interleave(group, dim=1), not h % num_kv_heads and not k.repeat.",
)
WEIGHTS: Hints = (
    "The right tokens are seen, but with wrong weights: the scores or the softmax are off.",
    "weights = softmax(q · k * head_dim ** -0.5) over the tokens seen, in float32; q turned with the cos and sin of "
    "its row, and the keys as they are in the cache, where they're turned already.",
)


KINDS: dict[str, Hints] = {
    "nan": NAN,
    "unwritten": UNWRITTEN,
    "foreign": FOREIGN,
    "future": FUTURE,
    "missing": MISSING,
    "head": KV_HEAD,
    "weights": WEIGHTS,
}
"""What can be wrong with what a query sees, and the hints for it."""


class Scene:
    """A batch of texts, and what must come out of it.

    Attributes:
        q, k, v: of all tokens of all texts, old ones too: [num_tokens, heads, head_dim] float32, not turned. May be
            changed until `build` is called.
        owner, position: [num_tokens], which text a token belongs to and its place there.
        rows: [num_new_tokens], which of the tokens are new, in the order of the batch.
        before: copies of what `build` gave, by name.
    """

    def __init__(
        self,
        texts: Sequence[tuple[int, int]],
        *,
        num_heads: int = 2,
        num_kv_heads: int = 2,
        head_dim: int = 16,
        block_size: int = 4,
        turned: bool = False,
        scattered: bool = False,
        unwritten: float = 1.0,
        device: str = "cpu",
        seed: int = 0,
    ) -> None:
        """
        Args:
            texts: for each sequence its length and how many of its tokens, the last ones, are new.
            turned: whether queries and keys are to be turned at all; the angles are random ones.
            scattered: whether a text's blocks lie in any order, not side by side.
            unwritten: what slots without a token hold; NaN is found out by whoever reads one.
        """
        self.texts, self.block_size, self.device = texts, block_size, device
        self._random = torch.Generator().manual_seed(seed)
        self.owner = torch.tensor([i for i, (length, _) in enumerate(texts) for _ in range(length)])
        self.position = torch.tensor([at for length, _ in texts for at in range(length)])
        self.num_tokens = len(self.owner)
        old = [length - new for length, new in texts]
        self.rows = torch.tensor([t for t, i in enumerate(self.owner.tolist()) if self.position[t] >= old[i]])
        self.q = self._normal(self.num_tokens, num_heads, head_dim)
        self.k = self._normal(self.num_tokens, num_kv_heads, head_dim)
        self.v = torch.zeros_like(self.k)
        if self.num_tokens <= head_dim - 2:
            self.v[torch.arange(self.num_tokens), :, torch.arange(self.num_tokens)] = 1
        self.v[..., -1] = torch.arange(float(num_kv_heads))
        angles = self._normal(self.num_tokens, head_dim // 2).repeat(1, 2) * (3 if turned else 0)
        self.cos, self.sin = angles.cos(), angles.sin()
        self._lay_out(scattered)
        self._unwritten = unwritten

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._random)

    def _lay_out(self, scattered: bool) -> None:
        """Gives each text its blocks, and each token its slot."""
        counts = [-(-length // self.block_size) for length, _ in self.texts]
        total = sum(counts)
        # Neither ascending nor, with two blocks already, in their order.
        free = (torch.randperm(total, generator=self._random) + 1).tolist() if scattered else list(range(1, total + 1))
        if scattered and free == sorted(free):
            free.reverse()
        self.tables = torch.zeros(len(counts), max(counts) + 1, dtype=torch.int32)
        for i, count in enumerate(counts):
            self.tables[i, :count] = torch.tensor(free[:count], dtype=torch.int32)
            del free[:count]
        self.slots = self.tables[self.owner, self.position // self.block_size].long() * self.block_size
        self.slots += self.position % self.block_size
        self.num_blocks = total + 1 + SPARE_BLOCKS

    def cut(self, length: int, new: int) -> None:
        """Makes the one text shorter, as it was when `length` tokens were there, the last `new` of them new."""
        self.texts, self.num_tokens = [(length, new)], length
        for name in ("q", "k", "v", "cos", "sin", "owner", "position", "slots"):
            setattr(self, name, getattr(self, name)[:length])
        self.rows = torch.arange(length - new, length)

    # -- the call -----------------------------------------------------------------------------------------------

    def build(
        self,
        *,
        dtype: torch.dtype = torch.float32,
        cache_dtype: torch.dtype | None = None,
        padding: int = 0,
        views: bool = False,
    ) -> dict[str, Any]:
        """The arguments of `forward`, in its order.

        Args:
            padding: rows at the end that belong to no text: a sequence of length 0 each, with slot -1.
            views: q, k and v are parts of one tensor, as in the model, instead of one each.
        """
        parts = [
            torch.cat((part[self.rows], self._normal(padding, *part.shape[1:]))).to(self.device, dtype)
            for part in (self.q, self.k, self.v)
        ]
        if views:
            parts = list(torch.cat(parts, dim=1).split([part.shape[1] for part in parts], dim=1))
        shape = (self.num_blocks, self.k.shape[1], self.block_size, self.k.shape[2])
        keys, values = self._normal(*shape) * self._unwritten, torch.zeros(shape)
        values[..., -2] = self._unwritten
        keys[0] = 0  # the engine promises of block 0 that it holds numbers
        values[0].nan_to_num_(0)
        is_old = torch.ones(self.num_tokens, dtype=torch.bool)
        is_old[self.rows] = False
        blocks, places = self.slots[is_old] // self.block_size, self.slots[is_old] % self.block_size
        keys[blocks, :, places], values[blocks, :, places] = self.turned_keys()[is_old], self.v[is_old]
        arguments: dict[str, Any] = dict(zip("qkv", parts, strict=True))
        for name, table in (("cos", self.cos), ("sin", self.sin)):
            arguments[name] = torch.cat((table[self.rows], torch.ones(padding, table.shape[1]))).to(self.device, dtype)
        for name, cache in (("key_cache", keys), ("value_cache", values)):
            arguments[name] = cache.to(self.device, cache_dtype or dtype)
        arguments["metadata"] = self._metadata(padding)
        self.before = {name: value.clone() for name, value in tensors(arguments).items()}
        return arguments

    def _metadata(self, padding: int) -> AttentionMetadata:
        lengths, news = [length for length, _ in self.texts], [new for _, new in self.texts]
        return AttentionMetadata(
            query_start_loc=torch.tensor([0, *news, *[1] * padding]).cumsum(0).to(self.device, torch.int32),
            seq_lens=torch.tensor([*lengths, *[0] * padding], dtype=torch.int32, device=self.device),
            block_tables=torch.cat((self.tables, self.tables.new_zeros(padding, self.tables.shape[1]))).to(self.device),
            slot_mapping=torch.cat((self.slots[self.rows], self.slots.new_full((padding,), -1))).to(self.device),
            max_query_len=max(news),
            max_seq_len=max(lengths),
            block_size=self.block_size,
        )

    def run(self, backend: AttentionBackend, hints: Mapping[str, Hints] | None = None, **how: Any) -> None:
        """Calls the backend and compares what it returned; `hints` replace the usual ones of a kind of mistake."""
        out = backend.forward(*self.build(**how).values())
        self.compare(out, hints, 0.05 if how.get("dtype") or how.get("cache_dtype") else TOLERANCE)

    # -- what must come out -------------------------------------------------------------------------------------

    def turned_keys(self) -> Tensor:
        """[num_tokens, num_kv_heads, head_dim]: what belongs into the cache."""
        return rotate(self.k, self.cos, self.sin)

    def weights(self) -> Tensor:
        """[num_new_tokens, num_heads, num_tokens] float64: how much each new token's query sees of each token."""
        group = self.q.shape[1] // self.k.shape[1]
        q = rotate(self.q, self.cos, self.sin)[self.rows].double()
        k = self.turned_keys().double().repeat_interleave(group, dim=1)
        scores = torch.einsum("qhd,khd->qhk", q, k) * self.q.shape[2] ** -0.5
        seen = self.owner[self.rows, None] == self.owner
        seen &= self.position <= self.position[self.rows, None]
        return scores.masked_fill(~seen[:, None], -math.inf).softmax(-1)

    def expected(self) -> Tensor:
        """[num_new_tokens, num_heads, head_dim] float64."""
        values = self.v.double().repeat_interleave(self.q.shape[1] // self.k.shape[1], dim=1)
        return torch.einsum("qhk,khd->qhd", self.weights(), values)

    def compare(self, out: Tensor, hints: Mapping[str, Hints] | None = None, tolerance: float = TOLERANCE) -> None:
        """Raises `CheckFailed` for the first query whose result isn't what it must be."""
        found, expected = out[: len(self.rows)].detach().double().cpu(), self.expected()
        wrong = ~((found - expected).abs().amax(-1) <= tolerance)
        if not wrong.any():
            return
        row, head = wrong.nonzero()[0].tolist()
        kind = self._kind(found[row, head], expected[row, head], max(0.002, tolerance))
        hint, strong = {**KINDS, **(hints or {})}[kind]
        raise CheckFailed(
            f"{self}: query {self.name(self.rows[row])} in head {head} sees {self._seen(found[row, head])}; "
            f"expected {self._seen(expected[row, head])}",
            hint=hint,
            strong_hint=strong,
        )

    def _kind(self, found: Tensor, expected: Tensor, threshold: float) -> str:
        """Which kind of mistake leads from `expected` to `found`, both [head_dim]."""
        if not found.isfinite().all():
            return "nan"
        extra = (found.abs() > threshold) & (expected == 0)
        if extra[-2]:
            return "unwritten"
        tokens = range(self.num_tokens)
        if others := [t for t in tokens if extra[t]]:
            texts = {int(self.owner[t]) for t in tokens if expected[t] > 0}
            return "future" if all(int(self.owner[t]) in texts for t in others) else "foreign"
        if any(expected[t] > threshold > found[t].abs() for t in tokens):
            return "missing"
        return "head" if (found[-1] - expected[-1]).abs() > threshold else "weights"

    def _seen(self, mean: Tensor) -> str:
        if not mean.isfinite().all():
            return "NaN or infinity"
        parts = [f"{mean[t]:.2f} {self.name(t)}" for t in range(self.num_tokens) if mean[t].abs() > 0.001]
        if mean[-2].abs() > 0.001:
            parts.append(f"{mean[-2]:.2f} of what no token was written to")
        return f"{' + '.join(parts) or 'nothing'}, KV head {mean[-1]:.3g}"

    # -- words --------------------------------------------------------------------------------------------------

    def name(self, token: int | Tensor) -> str:
        """A token in words: A0 is the first of the first text."""
        return f"{chr(ord('A') + int(self.owner[token]))}{int(self.position[token])}"

    def __str__(self) -> str:
        parts = []
        for i, (length, new) in enumerate(self.texts):
            what = "all new" if new == length else f"the last {new} of them new"
            tokens = f"{length} token{'' if length == 1 else 's'}"
            parts.append(f"text {chr(ord('A') + i)} has {tokens}, {what}")
        return f"{'; '.join(parts)} (blocks of {self.block_size})"


def tensors(arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors among the arguments of `forward`, those in the metadata too, by name."""
    found = {name: value for name, value in arguments.items() if isinstance(value, Tensor)}
    inside = {f"metadata.{name}": value for name, value in vars(arguments["metadata"]).items()}
    return found | {name: value for name, value in inside.items() if isinstance(value, Tensor)}


def same(one: Tensor, other: Tensor) -> Tensor:
    """Where two tensors are equal, NaN being equal to NaN."""
    return (one == other) | (one.isnan() & other.isnan())
