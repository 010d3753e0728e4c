"""The attention suite: right backends pass, each typical mistake fails the right lines with the right hint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from minillm.attention import AttentionMetadata, TorchBackend
from minillm.attention.cpu_backend import CPUBackend
from minillm.kernels.reference import rotate
from minillm.testing import check_attention_backend

CALL = "has a name and a method forward that returns a tensor of q's shape and dtype"
SLOTS = "writes each new token at its slot and nowhere else"
KEYS = "keys are turned by the angles given before they are stored"
VALUES = "values are stored as they are"
MEAN = "a query finds the mean of the values, weighted by softmax(q · k / √head_dim)"
QUERIES = "queries are turned by the angles given"
CAUSAL = "a query sees the text up to itself, and nothing after it"
GROUPS = "each query head reads the KV head of its group"
CHUNK = "a chunk sees what came before it"
BLOCKS = "a text's blocks may lie in any order"
SEQUENCES = "each sequence sees its own text only"
BEHIND = "what lies behind a text in its last block isn't seen"
NAN = "it isn't seen even if it is NaN"
MIXES = "prefill, chunks and single tokens go together in one call"
AGREE = "a text gives the same in one go, in chunks and token by token"
NEEDLE = "finds a token anywhere in a long text"
LONG = "takes the mean over a long text"
LARGE = "large scores don't overflow"
VIEWS = "q, k and v may be views of one tensor"
DTYPES = "the result has q's dtype, whatever the cache's is"
INPUTS = "leaves its inputs as they were"
PADDING = "a padding row (slot -1, of a sequence of length 0) is neither written nor in the way"
ENGINE = "the engine generates the same tokens with it as with the reference"


class Plain:
    """A right backend the way a student might write it: sequence by sequence, softmax by hand.

    The mutants below each change one method.
    """

    name = "plain"

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cos: Tensor,
        sin: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        metadata: AttentionMetadata,
    ) -> Tensor:
        self.write(self.turn_key(k, cos, sin), v, key_cache, value_cache, metadata)
        q = self.turn_query(q, cos, sin)
        out = torch.zeros_like(q)
        for i in range(len(metadata.seq_lens)):
            rows = self.rows(i, metadata)
            keys, values = (self.gather(cache, i, metadata).to(q.dtype) for cache in (key_cache, value_cache))
            out[rows] = self.attend(q[rows], keys, values, int(metadata.seq_lens[i]))
        return out

    def turn_key(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return rotate(x, cos, sin)

    def turn_query(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return rotate(x, cos, sin)

    def slots(self, metadata: AttentionMetadata) -> Tensor:
        return metadata.slot_mapping

    def write(self, k: Tensor, v: Tensor, key_cache: Tensor, value_cache: Tensor, metadata: AttentionMetadata) -> None:
        slots, size = self.slots(metadata), metadata.block_size
        kept = slots >= 0
        slots = slots[kept]
        key_cache[slots // size, :, slots % size] = k[kept].to(key_cache.dtype)
        value_cache[slots // size, :, slots % size] = v[kept].to(value_cache.dtype)

    def rows(self, i: int, metadata: AttentionMetadata) -> slice:
        return slice(int(metadata.query_start_loc[i]), int(metadata.query_start_loc[i + 1]))

    def blocks(self, i: int, count: int, metadata: AttentionMetadata) -> Tensor:
        return metadata.block_tables[i, :count].long()

    def gather(self, cache: Tensor, i: int, metadata: AttentionMetadata) -> Tensor:
        """[length, num_kv_heads, head_dim]"""
        length = int(metadata.seq_lens[i])
        count = -(-length // metadata.block_size)
        return cache[self.blocks(i, count, metadata)].transpose(1, 2).flatten(0, 1)[: self.seen(length)]

    def seen(self, length: int) -> int:
        return length

    def spread(self, x: Tensor, group: int) -> Tensor:
        return x.repeat_interleave(group, dim=1)

    def mask(self, n: int, length: int) -> Tensor:
        return torch.ones(n, length, dtype=torch.bool).tril(length - n)

    def scale(self, head_dim: int) -> float:
        return head_dim**-0.5

    def softmax(self, scores: Tensor) -> Tensor:
        return scores.softmax(-1)

    def attend(self, q: Tensor, keys: Tensor, values: Tensor, length: int) -> Tensor:
        group = q.shape[1] // keys.shape[1]
        keys, values = self.spread(keys, group), self.spread(values, group)
        scores = torch.einsum("qhd,khd->hqk", q, keys) * self.scale(q.shape[-1])
        mask = torch.nn.functional.pad(self.mask(len(q), length), (0, len(keys) - length))
        return torch.einsum("hqk,khd->qhd", self.softmax(scores.masked_fill(~mask, -torch.inf)), values)


@pytest.mark.parametrize(
    "backend",
    [TorchBackend, TorchBackend(deterministic=True), CPUBackend, Plain, Plain()],
    ids=["torch", "deterministic", "cpu", "class", "instance"],
)
def test_right_backends_pass(backend: Any) -> None:
    report = check_attention_backend(backend).raise_if_failed()
    assert len(report.behaviors) == 23


# -- mistakes ---------------------------------------------------------------------------------------------------


class NeverTurns(Plain):
    def turn_key(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return x


class TurnsNeighbours(Plain):
    def turn_key(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        other = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)
        half = cos.shape[1] // 2
        cos, sin = (table[:, None, :half].repeat_interleave(2, dim=-1) for table in (cos, sin))
        return x * cos + other * sin


class TurnsValues(Plain):
    def forward(self, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, *rest: Any) -> Tensor:
        return super().forward(q, k, rotate(v, cos, sin), cos, sin, *rest)


class TurnsOnlyKeys(Plain):
    def turn_query(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return x


class WritesByPosition(Plain):
    """Takes each text to begin in block 1."""

    def slots(self, metadata: AttentionMetadata) -> Tensor:
        n = len(metadata.slot_mapping)
        return torch.arange(n) + int(metadata.seq_lens[0]) - n + metadata.block_size


class WritesIntoACopy(Plain):
    def write(self, k: Tensor, v: Tensor, key_cache: Tensor, value_cache: Tensor, metadata: AttentionMetadata) -> None:
        super().write(k, v, key_cache.clone(), value_cache.clone(), metadata)


class WritesPadding(Plain):
    def write(self, k: Tensor, v: Tensor, key_cache: Tensor, value_cache: Tensor, metadata: AttentionMetadata) -> None:
        slots, size = metadata.slot_mapping, metadata.block_size
        key_cache[slots // size, :, slots % size] = k.to(key_cache.dtype)
        value_cache[slots // size, :, slots % size] = v.to(value_cache.dtype)


class DoesNotScale(Plain):
    def scale(self, head_dim: int) -> float:
        return 1.0


class SeesTheFuture(Plain):
    def mask(self, n: int, length: int) -> Tensor:
        return torch.ones(n, length, dtype=torch.bool)


class DoesNotSeeItself(Plain):
    def mask(self, n: int, length: int) -> Tensor:
        mask = super().mask(n, length).tril(length - n - 1)
        mask[:, 0] = True
        return mask


class MasksFromTheUpperLeft(Plain):
    """Right for whole prompts and, by a case of its own, for single tokens."""

    def mask(self, n: int, length: int) -> Tensor:
        return super().mask(n, length) if n == 1 else torch.ones(n, length, dtype=torch.bool).tril()


class MixesUpGroups(Plain):
    def spread(self, x: Tensor, group: int) -> Tensor:
        return x.repeat(1, group, 1)


class TakesBlocksAsNeighbours(Plain):
    def blocks(self, i: int, count: int, metadata: AttentionMetadata) -> Tensor:
        last = int(metadata.block_tables.max()) + 2
        return (metadata.block_tables[i, 0] + torch.arange(count)).clamp(max=last).long()


class TakesTheFirstTable(Plain):
    def blocks(self, i: int, count: int, metadata: AttentionMetadata) -> Tensor:
        return super().blocks(0, count, metadata)


class SeesWholeBlocks(Plain):
    def attend(self, q: Tensor, keys: Tensor, values: Tensor, length: int) -> Tensor:
        return super().attend(q, keys, values, len(keys))

    def mask(self, n: int, length: int) -> Tensor:
        return torch.ones(n, length, dtype=torch.bool) if n == 1 else super().mask(n, length)

    def seen(self, length: int) -> int:
        return length + 1000


class MasksWhatLiesBehind(Plain):
    """Hides keys behind the text with a weight of 0 only."""

    def seen(self, length: int) -> int:
        return length + 1000


class OnlyOneKindPerBatch(Plain):
    """Knows prefill and decode only, and in a batch one of them."""

    def forward(self, *arguments: Any) -> Tensor:
        metadata = arguments[-1]
        if metadata.max_query_len > 1 and (metadata.query_start_loc.diff() == 1).any():
            raise ValueError("a batch is either prefill or decode")
        return super().forward(*arguments)


class ForgetsTheBeginning(Plain):
    """Has room for 512 scores."""

    def mask(self, n: int, length: int) -> Tensor:
        mask = super().mask(n, length)
        mask[:, : max(0, length - 512)] = False
        return mask


class Overflows(Plain):
    def softmax(self, scores: Tensor) -> Tensor:
        weights = scores.exp()
        return weights / weights.sum(-1, keepdim=True)


class NeedsDenseMemory(Plain):
    def turn_query(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return super().turn_query(x.view(-1, x.shape[2]).view(x.shape), cos, sin)


class TurnsInPlace(Plain):
    def turn_query(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return x.copy_(rotate(x, cos, sin))


class AlwaysFloat32(Plain):
    def forward(self, *arguments: Any) -> Tensor:
        return super().forward(*arguments).float()


class KeepsTheFirstLayersCache(Plain):
    """Correct in each test of one call on a new object; a model has more than one layer."""

    cache: Tensor | None = None

    def gather(self, cache: Tensor, i: int, metadata: AttentionMetadata) -> Tensor:
        if cache.shape[0] == 64:  # the engine's pool
            self.cache = cache = cache if self.cache is None else self.cache
        return super().gather(cache, i, metadata)


MISTAKES: list[tuple[type, set[str], str]] = [
    (NeverTurns, {KEYS}, "not turned"),
    (TurnsNeighbours, {KEYS}, "wrong dimensions paired"),
    (TurnsValues, {VALUES}, "The values were turned like keys"),
    (TurnsOnlyKeys, {QUERIES}, "turning by RoPE"),
    (WritesByPosition, {SLOTS}, "than slot_mapping says"),
    (WritesIntoACopy, {SLOTS}, "write into it"),
    (WritesPadding, {PADDING}, "Slot -1 means"),
    (DoesNotScale, {MEAN}, "wrong size before the softmax"),
    (SeesTheFuture, {CAUSAL}, "tokens that come after it"),
    (DoesNotSeeItself, {MEAN}, "doesn't see all of its text"),
    (MasksFromTheUpperLeft, {CHUNK, MIXES, AGREE, NEEDLE, ENGINE}, "before the chunk"),
    (MixesUpGroups, {GROUPS}, "KV head that isn't its own"),
    (TakesBlocksAsNeighbours, {BLOCKS, MIXES, AGREE, NEEDLE, LONG, ENGINE}, "than the block table says"),
    (TakesTheFirstTable, {SEQUENCES, MIXES, PADDING, ENGINE}, "tokens of another sequence"),
    (SeesWholeBlocks, {BEHIND, NAN, MIXES, AGREE, LONG, PADDING, ENGINE}, "hold no token of its text"),
    (MasksWhatLiesBehind, {NAN}, "NaN"),
    (OnlyOneKindPerBatch, {MIXES, ENGINE}, "what else is in the batch"),
    (ForgetsTheBeginning, {NEEDLE, LONG}, "With a long text something gets lost"),
    (Overflows, {LARGE}, "exp of a large score"),
    (NeedsDenseMemory, {VIEWS, ENGINE}, "gaps in memory"),
    (TurnsInPlace, {INPUTS}, "belongs to the caller"),
    (AlwaysFloat32, {DTYPES}, "other dtypes than float32"),
    (KeepsTheFirstLayersCache, {ENGINE}, "several layers"),
]


@pytest.mark.parametrize(("backend", "lines", "hint"), MISTAKES, ids=lambda value: getattr(value, "__name__", ""))
def test_each_mistake_fails_its_lines_and_a_hint_names_it(backend: type, lines: set[str], hint: str) -> None:
    report = check_attention_backend(backend)
    assert {behavior.name for behavior in report.failed} == lines, str(report)
    assert hint in report.failed[0].hint, str(report)
    assert all(behavior.detail and behavior.hint and behavior.strong_hint for behavior in report.failed)


def test_the_smallest_example_says_which_tokens_a_query_sees() -> None:
    failed = check_attention_backend(SeesTheFuture).failed[0]
    assert failed.detail.startswith("text A has 2 tokens, all new (blocks of 2): query A0 in head 0 sees 0.")
    assert failed.detail.endswith("A1, KV head 0; expected 1.00 A0, KV head 0")


@pytest.mark.parametrize(
    ("returned", "said"),
    [(None, "NoneType"), (torch.zeros(4, 64), r"[4, 64]"), (torch.zeros(4, 4, 16).double(), "torch.float64")],
    ids=["nothing", "flat", "float64"],
)
def test_what_is_no_result_is_said_first_and_alone(returned: Any, said: str) -> None:
    class Wrong(Plain):
        def forward(self, *arguments: Any) -> Tensor:
            return returned

    report = check_attention_backend(Wrong)
    assert [behavior.name for behavior in report.behaviors] == [CALL]
    assert said in report.failed[0].detail


def test_an_unwritten_backend_is_said_to_be_unwritten() -> None:
    class Unwritten(Plain):
        def forward(self, *arguments: Any) -> Tensor:
            raise NotImplementedError

    assert "not written yet" in check_attention_backend(Unwritten()).failed[0].detail
