"""Checks of lesson 03's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from minillm.attention import ContiguousKVCache
from minillm.engine import LLM
from minillm.kernels.reference import rotate
from minillm.sampling import SamplingParams
from minillm.testing import Case, CheckFailed, Report, run_cases

# -- warm-up ----------------------------------------------------------------------------------------------------

Floats: TypeAlias = NDArray[np.float32]
CosineTopK = Callable[[Floats, Floats, int], tuple[Any, Any]]


def check_cosine_top_k(function: CosineTopK) -> Report:
    """`cosine_top_k(queries, vectors, k)`: the k nearest vectors of each query, and their cosines."""

    def call(queries: Any, vectors: Any, k: int) -> tuple[list[Any], list[Any]]:
        result = function(np.array(queries, np.float32), np.array(vectors, np.float32), k)
        if not isinstance(result, tuple) or len(result) != 2:
            raise CheckFailed(f"it returned {type(result).__name__}; expected two arrays, numbers and cosines")
        numbers, cosines = (np.asarray(part) for part in result)
        if numbers.shape != (len(queries), k) or cosines.shape != (len(queries), k):
            raise CheckFailed(
                f"for {len(queries)} queries and k = {k} the shapes are {list(numbers.shape)} and "
                f"{list(cosines.shape)}; expected [{len(queries)}, {k}] twice"
            )
        return numbers.tolist(), cosines.tolist()

    def returns_two_arrays() -> None:
        call([[1, 0], [0, 1], [1, 1]], [[1, 0], [0, 1], [1, 2], [2, 1]], 2)

    def looks_at_directions() -> None:
        # Where the first query looks: along the axis. By dot product [3, 3] wins, by distance [0.6, 0.6].
        for other, measure in (([3, 3], "dot product"), ([0.6, 0.6], "Euclidean distance")):
            long = [1.0, 0.0] if measure == "dot product" else [4.0, 0.0]
            numbers, _ = call([[1, 0]], [other, long], 1)
            if numbers[0][0] != 1:
                raise CheckFailed(
                    f"for the query [1, 0], {long} has cosine 1 and {other} has 0.71, yet it took {other}: "
                    f"the {measure} does that"
                )

    def puts_the_best_first() -> None:
        numbers, cosines = call([[1, 0]], [[0, 1], [1, 0], [1, 1], [-1, 0]], 3)
        if numbers[0] == [3, 0, 2]:
            raise CheckFailed("it took the three farthest ones, in the order of the worst first")
        if sorted(numbers[0]) != [0, 1, 2]:
            raise CheckFailed(f"of cosines 0, 1, 0.71 and -1 the three best are 0, 1 and 2; it took {numbers[0]}")
        if numbers[0] != [1, 2, 0] or cosines[0] != sorted(cosines[0], reverse=True):
            raise CheckFailed(f"the best are 1, 2, 0 in this order; it returned {numbers[0]}")

    def returns_the_cosines() -> None:
        _, cosines = call([[0, 2]], [[3, 4], [0, 5]], 2)
        expected = [1.0, 0.8]
        if not np.allclose(cosines[0], expected, atol=1e-5):
            raise CheckFailed(
                f"for the query [0, 2] and the vectors [0, 5] and [3, 4] it returned {cosines[0]}, not {expected}"
            )

    def keeps_queries_apart() -> None:
        queries = [[1, 0, 0], [0, 10, 0], [0, 0, 0.1]]
        numbers, cosines = call(queries, [[0, 0, 5], [7, 0, 0], [0, 1, 0]], 1)
        if [row[0] for row in numbers] != [1, 2, 0] or not np.allclose(cosines, 1, atol=1e-5):
            raise CheckFailed(
                f"each of three queries has a vector in its own direction: 1, 2, 0, with cosine 1; it returned "
                f"{[row[0] for row in numbers]} with {[round(row[0], 3) for row in cosines]}"
            )

    def survives_zeros() -> None:
        with np.errstate(all="ignore"):
            numbers, cosines = call([[1, 0], [0, 0]], [[0, 0], [1, 1], [-1, 0]], 3)
        if not np.isfinite(cosines).all():
            raise CheckFailed(f"with a vector of zeros the cosines are {cosines[0]}")
        if numbers[0] != [1, 0, 2] or not np.allclose(cosines[1], 0):
            raise CheckFailed(f"zeros should have cosine 0; the order is {numbers[0]} instead of [1, 0, 2]")

    def settles_ties() -> None:
        numbers, _ = call([[1, 0]], [[0, 1], [2, 0], [0, 3], [1, 0], [3, 0], [0, 1]], 5)
        if numbers[0] != [1, 3, 4, 0, 2]:
            raise CheckFailed(f"1, 3 and 4 have the same cosine, 0 and 2 as well; it returned {numbers[0]}")

    def leaves_its_input() -> None:
        queries, vectors = np.array([[3, 4]], np.float32), np.array([[0, 2], [5, 0]], np.float32)
        function(queries, vectors, 1)
        if queries.tolist() != [[3, 4]] or vectors.tolist() != [[0, 2], [5, 0]]:
            raise CheckFailed(f"afterwards the vectors are {vectors.tolist()}; they were [[0, 2], [5, 0]]")

    def has_no_loop() -> None:
        rng = np.random.default_rng(0)
        queries, vectors = (rng.standard_normal((n, 16)).astype(np.float32) for n in (1000, 6000))
        function(queries, vectors, 3)

    return run_cases(
        "Warm-up: the nearest vectors, without a loop",
        [
            Case(
                "returns two arrays of the right shape",
                returns_two_arrays,
                "One row per query, k columns: numbers first, cosines second.",
                "Sort the whole row, then keep [:, :k]; np.take_along_axis fetches the cosines of these numbers.",
            ),
            Case(
                "looks at directions, not at lengths",
                looks_at_directions,
                "Nobody promised vectors of length 1.",
                "Divide every query and vector by its own length first: x / norm(x, axis=1, keepdims=True).",
            ),
            Case(
                "puts the best first",
                puts_the_best_first,
                "np.argsort sorts from small to large, and np.argpartition doesn't sort at all.",
                "np.argsort(-cosines, axis=1, kind='stable')[:, :k].",
            ),
            Case(
                "returns the cosines",
                returns_the_cosines,
                "A cosine is the dot product divided by both lengths.",
                "Is only one side divided by its length, or the other way round, is it a distance or an angle?",
            ),
            Case(
                "keeps the queries apart",
                keeps_queries_apart,
                "Each query has its own length, its own order, its own row.",
                "A length is taken along axis=1 with keepdims=True; without an axis, norm gives one number for all.",
            ),
            Case(
                "gives a vector of zeros the cosine 0",
                survives_zeros,
                "A length of 0 stands under the division.",
                "Replace lengths of 0 by 1: np.where(lengths == 0, 1, lengths). Zeros divided by 1 stay zeros.",
            ),
            Case(
                "puts the lower number first where two are equally near",
                settles_ties,
                "Not every sort keeps the order of equals.",
                "kind='stable' keeps it. Reversing an ascending order with [::-1] turns equals around.",
            ),
            Case(
                "leaves its input as it was",
                leaves_its_input,
                "An operation like x /= … changes the array of the caller.",
                "Write unit = x / lengths, which makes a new array.",
            ),
            Case(
                "takes a thousand queries at once",
                has_no_loop,
                "Six million pairs are too many for a loop in Python.",
                "All cosines at once are one product of matrices: unit(queries) @ unit(vectors).T.",
                time_limit=20,
            ),
        ],
    )


# -- core -------------------------------------------------------------------------------------------------------


class TiledAttention(Protocol):
    """What the student writes."""

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, causal: bool = False, tile: int = 64) -> Tensor:
        """[heads, queries, dim], [kv_heads, keys, dim] twice → [heads, queries, dim]."""
        ...


@dataclass(frozen=True)
class _Inputs:
    """One example: q [heads, queries, dim], k and v [kv_heads, keys, dim]."""

    q: Tensor
    k: Tensor
    v: Tensor
    causal: bool
    tile: int

    @classmethod
    def make(
        cls,
        heads: int,
        kv_heads: int,
        queries: int,
        keys: int,
        *,
        causal: bool = False,
        tile: int = 4,
        scale: float = 1.0,
    ) -> _Inputs:
        generator = torch.Generator().manual_seed(7)
        q = torch.randn(heads, queries, 8, generator=generator) * scale
        k, v = (torch.randn(kv_heads, keys, 8, generator=generator) for _ in range(2))
        return cls(q, k, v, causal, tile)

    def __str__(self) -> str:
        heads = f"{self.q.shape[0]} heads" if len(self.q) == len(self.k) else f"{len(self.q)} heads over {len(self.k)}"
        what = f"{heads}, {self.q.shape[1]} queries, {self.k.shape[1]} keys, tiles of {self.tile}"
        return f"{what}, causal" if self.causal else what

    def scores(self, *, ahead: int = 0, offset: bool = True, scaled: bool = True, wrong_head: bool = False) -> Tensor:
        """The whole table, [heads, queries, keys]; the options make it wrong in one way."""
        heads, group = torch.arange(len(self.q)), len(self.q) // len(self.k)
        kv = heads % len(self.k) if wrong_head else heads // group
        table = self.q @ self.k[kv].transpose(1, 2) / (math.sqrt(self.q.shape[-1]) if scaled else 1.0)
        return table.masked_fill(self.future(ahead=ahead, offset=offset), -math.inf) if self.causal else table

    def future(self, *, ahead: int = 0, offset: bool = True) -> Tensor:
        """[queries, keys], True where a query mustn't look."""
        queries, keys = self.q.shape[1], self.k.shape[1]
        places = torch.arange(queries) + (keys - queries if offset else 0) + ahead
        return torch.arange(keys) > places[:, None]

    def mix(self, scores: Tensor, *, wrong_head: bool = False) -> Tensor:
        """Softmax and the values, [heads, queries, dim]."""
        heads, group = torch.arange(len(self.q)), len(self.q) // len(self.k)
        return scores.softmax(-1) @ self.v[heads % len(self.k) if wrong_head else heads // group]

    def online(self, *, rescale_sum: bool = True, rescale_values: bool = True, divide: bool = True) -> Tensor:
        """Online softmax over tiles of keys, with a step left out."""
        table = self.scores()
        values = self.v.repeat_interleave(len(self.q) // len(self.k), 0)
        best = torch.full((*table.shape[:2], 1), -math.inf)
        total, mixed = torch.zeros_like(best), torch.zeros_like(self.q)
        for start in range(0, table.shape[2], self.tile):
            scores = table[..., start : start + self.tile]
            higher = torch.maximum(best, scores.amax(-1, keepdim=True))
            factor, powers = (best - higher).exp(), (scores - higher).exp()
            total = total * (factor if rescale_sum else 1) + powers.sum(-1, keepdim=True)
            mixed = mixed * (factor if rescale_values else 1) + powers @ values[:, start : start + self.tile]
            best = higher
        return mixed / total if divide else mixed


_Mistake: TypeAlias = tuple[Tensor, str, str, str]


def _mistakes(x: _Inputs) -> Iterator[_Mistake]:
    """What typical wrong answers give for these inputs: (result, what it is, hint, stronger hint)."""
    rescale = (
        "What was gathered before belongs to the old maximum. What has to happen to it when a larger score turns up?"
    )
    yield (
        x.online(rescale_sum=False, rescale_values=False),
        "that's what comes out when the maximum grows and nothing that was gathered is rescaled",
        rescale,
        "Multiply both s and o by (m - higher).exp() before the new tile is added.",
    )
    yield (
        x.online(rescale_sum=False),
        "that's what comes out when o is rescaled and s isn't",
        rescale,
        "s needs the same factor as o: s = s * factor + powers.sum(…).",
    )
    yield (
        x.online(rescale_values=False),
        "that's what comes out when s is rescaled and o isn't",
        rescale,
        "o needs the same factor as s: o = o * factor + powers @ values.",
    )
    yield (
        x.online(divide=False),
        "that's the weighted sum, not yet divided by s",
        "The shares of softmax add up to 1. Do yours?",
        "After the last tile of keys: o / s.",
    )
    yield (
        x.mix(x.scores(scaled=False)),
        "that's attention with scores that weren't divided by the root of head_dim",
        "The scores are too large.",
        "Divide the queries by math.sqrt(q.shape[-1]) once, before the loop over the keys.",
    )
    if len(x.q) != len(x.k):
        yield (
            x.mix(x.scores(wrong_head=True), wrong_head=True),
            "that's attention in which query head h uses key head h % num_kv_heads",
            "Neighboring query heads share a key head: which one is it for query head 1?",
            "The wrong KV head: it's h // (num_heads // num_kv_heads). k.repeat_interleave(group, 0) does that, "
            "k.repeat doesn't.",
        )
    whole = x.k.shape[1] // x.tile * x.tile
    if 0 < whole < x.k.shape[1]:
        yield (
            x.mix(x.scores().index_fill(2, torch.arange(whole, x.k.shape[1]), -math.inf)),
            f"that's attention over the first {whole} keys only: the last tile, which isn't full, is missing",
            "How many tiles are there when the number of keys isn't a multiple of the tile?",
            "Step through range(0, num_keys, tile) and slice k[:, column : column + tile], shorter at the end; "
            "num_keys // tile rounds down.",
        )
    if x.causal:
        yield from _causal_mistakes(x, whole)


def _causal_mistakes(x: _Inputs, whole: int) -> Iterator[_Mistake]:
    table = x.scores()
    open_table = _Inputs(x.q, x.k, x.v, False, x.tile).scores()
    yield (
        x.mix(open_table),
        "that's attention without a mask: each query sees every key, its future too",
        "With causal=True a token must not look ahead.",
        "In each tile: scores.masked_fill(columns > places of the queries, -math.inf), before the maximum is taken.",
    )
    yield (
        x.mix(x.scores(offset=False)),
        "that's a mask in which query i stands at place i, though the queries are the last tokens of the text",
        "One query and forty keys: which keys does the query see?",
        "Query i stands at place num_keys - num_queries + i. In prefill that's i, in decode it's the last place.",
    )
    yield (
        x.mix(x.scores(ahead=1)),
        "that's a mask that lets each query see one key ahead",
        "Off by one: which is the last key that query 0 may see in prefill?",
        "Mask where column > place; column > place + 1 lets the next token through.",
    )
    yield (
        x.mix(x.scores(ahead=-1)),
        "that's a mask that hides from each query its own key",
        "Off by one: a token sees itself.",
        "Mask where column > place, not where column >= place.",
    )
    last = whole if whole < x.k.shape[1] else x.k.shape[1] - x.tile
    forgotten = torch.cat([table[..., :last], open_table[..., last:]], -1)
    yield (
        x.mix(forgotten),
        "the mask is missing in the last tile of keys",
        "Every tile can hold keys from a query's future, also the last one and one that isn't full.",
        "Forgotten mask in the last tile: compare the column's number in the whole text, column + torch.arange(…), "
        "with the query's place, in every tile.",
    )


def _compare(function: TiledAttention, x: _Inputs) -> None:
    """Raises CheckFailed with the cause, if the result isn't that of softmax attention."""
    found = function(x.q, x.k, x.v, causal=x.causal, tile=x.tile)
    expected = x.mix(x.scores())
    if not isinstance(found, Tensor) or found.shape != expected.shape:
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise CheckFailed(f"{x}: it returned {shape}; expected a tensor of shape {list(expected.shape)}")
    if torch.allclose(found, expected, atol=1e-4):
        return
    for result, meaning, hint, strong in _mistakes(x):
        # Rows in which a wrong mask leaves nothing are nan in both.
        if torch.allclose(found, result, atol=1e-4, equal_nan=True):
            raise CheckFailed(f"{x}: {meaning}", hint=hint, strong_hint=strong)
    if not bool(found.isfinite().all()):
        head, query = (int(i) for i in (~found.isfinite().all(-1)).nonzero()[0])
        largest = float(x.scores().amax())
        if largest > 88:  # e to that power is the last finite float32
            raise CheckFailed(f"{x}: the largest score is {largest:.0f}, and head {head}, query {query} is no number")
        raise CheckFailed(
            f"{x}: head {head}, query {query} is {float(found[head, query][~found[head, query].isfinite()][0])}",
            hint="−∞ − (−∞) is nan. Where could that turn up?",
            strong_hint="A tile in which a query sees nothing has the maximum −∞. Begin with the first tile of keys: "
            "key 0 is seen by all, so m is finite from there on.",
        )
    wrong = (found - expected).abs().amax(-1) > 1e-4
    head, query = (int(i) for i in wrong.nonzero()[0])
    raise CheckFailed(
        f"{x}: head {head}, query {query} begins {[round(n, 3) for n in found[head, query, :3].tolist()]} instead of "
        f"{[round(n, 3) for n in expected[head, query, :3].tolist()]}; {int(wrong.sum())} of {wrong.numel()} differ"
    )


class _LargestTensor(TorchDispatchMode):
    """Notes the largest tensor that is made, and PyTorch's own attention if it's called."""

    def __init__(self) -> None:
        super().__init__()
        self.shape: list[int] = []
        self.size = 0
        self.ready_made = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.ready_made = self.ready_made or "attention" in str(func)
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, list | tuple) else [result]:
            # A view that repeats (expand) has strides of 0 and holds nothing.
            if isinstance(item, Tensor) and 0 not in item.stride() and item.numel() > self.size:
                self.shape, self.size = list(item.shape), item.numel()
        return result


def check_tiled_attention(function: TiledAttention) -> Report:
    """`tiled_attention(q, k, v, causal, tile)`: by itself, then in a cache that serves requests."""

    def on(*examples: _Inputs) -> Callable[[], None]:
        def compare_all() -> None:
            for example in examples:
                _compare(function, example)

        return compare_all

    def never_builds_the_table() -> None:
        x = _Inputs.make(4, 2, 192, 192, causal=True, tile=16)
        with _LargestTensor() as largest:
            function(x.q, x.k, x.v, causal=True, tile=16)
        if largest.ready_made:
            raise CheckFailed("it calls PyTorch's own attention; here it's yours that is asked for")
        if largest.size > 8000:  # queries, keys and values have 6,144 numbers; a tile of all heads has 1,024
            raise CheckFailed(
                f"{x}: it made a tensor of shape {largest.shape}, {largest.size:,} numbers; a tile of all heads: 1,024"
            )

    def leaves_its_input() -> None:
        x = _Inputs.make(2, 1, 5, 5, causal=True)
        before = [part.clone() for part in (x.q, x.k, x.v)]
        function(x.q, x.k, x.v, causal=True, tile=4)
        for name, old, new in zip("qkv", before, (x.q, x.k, x.v), strict=True):
            if not torch.equal(old, new):
                raise CheckFailed(f"{name} isn't what it was before the call")

    def serves() -> None:
        llm = LLM("tiny-random", device="cpu")
        prompt = "The quick brown fox jumps over the lazy dog."
        expected = llm.generate(prompt, SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)).token_ids
        found = _generate(llm, function, llm.tokenizer.encode(prompt), 8)
        if found != expected:
            at = next(i for i, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
            raise CheckFailed(f"token {at} is {found[at]}; the engine's is {expected[at]}")

    make = _Inputs.make
    return run_cases(
        "Core: a decoder's attention in tiles",
        [
            Case(
                "is attention, in a single tile",
                on(make(2, 2, 3, 3, tile=8)),
                "Begin with the lesson's function.",
                "softmax(q kᵀ / √head_dim) v, for each head.",
            ),
            Case(
                "joins several tiles of keys",
                on(make(1, 1, 4, 8), make(2, 2, 8, 16, scale=3)),
                "Online softmax: a maximum, a sum and a weighted sum per query.",
                "Go through the lesson's table on paper with your code's variables.",
            ),
            Case(
                "takes what doesn't divide evenly",
                on(make(1, 1, 4, 6), make(2, 2, 7, 10), make(2, 2, 3, 5, tile=1), make(2, 2, 5, 3, tile=100)),
                "The last tile of queries and the last tile of keys may be smaller than the others.",
                "Slices end by themselves: k[:, column : column + tile]. Whatever has a tile's size gets it there.",
            ),
            Case(
                "lets query heads share keys and values",
                on(make(6, 2, 3, 5), make(9, 3, 5, 7), make(4, 1, 2, 9)),
                "Query head h uses key head h // (num_heads // num_kv_heads).",
                "k.repeat_interleave(num_heads // num_kv_heads, dim=0), or queries viewed as [num_kv_heads, group, …].",
            ),
            Case(
                "hides the future",
                on(make(1, 1, 8, 8, causal=True), make(1, 1, 3, 3, causal=True), make(4, 2, 10, 10, causal=True)),
                "With causal=True query i sees the keys up to its own place.",
                "scores.masked_fill(columns > places[:, None], -math.inf), with both counted in the whole text.",
            ),
            Case(
                "knows that the queries are the last tokens",
                on(
                    make(1, 1, 1, 6, causal=True),
                    make(6, 2, 1, 10, causal=True),
                    make(2, 2, 5, 13, causal=True),
                    make(2, 1, 6, 7, causal=True),
                ),
                "In decode there's one query, and it sees every key.",
                "places = torch.arange(row, row + …) + num_keys - num_queries.",
            ),
            Case(
                "survives scores of 1,000",
                on(make(1, 1, 3, 9, scale=1000), make(2, 2, 7, 7, causal=True, scale=1000)),
                "e to the power of 89 is infinite in float32.",
                "Subtract the maximum before exp: (scores - higher).exp().",
            ),
            Case(
                "never builds the table",
                never_builds_the_table,
                "Neither the scores nor a mask may be as large as queries times keys, not even a whole row of tiles.",
                "Two loops: a tile of queries, inside it a tile of keys. Make the mask for each tile from its numbers.",
            ),
            Case(
                "leaves its input as it was",
                leaves_its_input,
                "An operation like q /= … changes the caller's tensor.",
                "Write queries = q[…] / math.sqrt(head_dim), which makes a new tensor.",
            ),
            Case(
                "serves a request, prefill and decode",
                serves,
                "The same tokens as the engine's, if all the lines above hold.",
                "In prefill the cache calls it with as many queries as keys, in decode with one query.",
                time_limit=60,
            ),
        ],
    )


class _Cache(ContiguousKVCache):
    """Lesson 02's cache around the student's attention."""

    attend: TiledAttention

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        start, end = self.num_computed_tokens, self.num_computed_tokens + len(q)
        self.keys[layer, :, start:end] = rotate(k, cos, sin).transpose(0, 1)
        self.values[layer, :, start:end] = v.transpose(0, 1)
        queries = rotate(q, cos, sin).transpose(0, 1)
        keys, values = self.keys[layer, :, :end], self.values[layer, :, :end]
        return self.attend(queries, keys, values, causal=True, tile=4).transpose(0, 1)


@torch.inference_mode()
def _generate(llm: LLM, attend: TiledAttention, prompt_ids: list[int], max_tokens: int) -> list[int]:
    config = llm.model.config
    cache = _Cache(
        num_layers=config.num_layers,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        max_tokens=len(prompt_ids) + max_tokens,
        dtype=torch.float32,
    )
    cache.attend = attend
    new, tokens = list(prompt_ids), []
    for _ in range(max_tokens):
        positions = torch.arange(cache.num_computed_tokens, cache.num_computed_tokens + len(new))
        hidden = llm.model(torch.tensor(new), positions, cache)
        cache.advance(len(new))
        new = [int(llm.model.logits(hidden[-1:]).argmax())]
        tokens += new
    return tokens


# -- stretch ----------------------------------------------------------------------------------------------------

_SHARE, _RECALL, _K = 0.1, 0.95, 10


class Index(Protocol):
    """What the student's class makes."""

    codes: Any

    def search(self, query: Floats, k: int, fetch: Callable[[Any], Floats]) -> Any:
        """The numbers of the k nearest vectors, best first."""


@dataclass
class _Disk:
    """Gives out full vectors and counts the bytes."""

    vectors: Floats
    read: int = 0

    def fetch(self, numbers: Any) -> Floats:
        rows: Floats = self.vectors[np.asarray(numbers)]
        self.read += rows.nbytes
        return rows


def _collection(count: int = 2000, dimensions: int = 384) -> tuple[Floats, Floats]:
    """Vectors as an embedding model makes them (few directions carry most of it), and queries near some of them."""
    rng = np.random.default_rng(3)
    basis = rng.standard_normal((48, dimensions))
    vectors = rng.standard_normal((count, 48)) @ basis + rng.standard_normal((count, dimensions))
    queries = vectors[rng.choice(count, 20, replace=False)] + 3 * rng.standard_normal((20, dimensions))
    vectors, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, queries))
    return vectors.astype(np.float32), queries.astype(np.float32)


def check_two_stage_index(index_class: Callable[[Floats], Index]) -> Report:
    """`TwoStageIndex`: what it finds, and how many bytes it reads for it."""
    vectors, queries = _collection()
    exact = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :_K]
    budget = int(vectors.nbytes * _SHARE)

    def search(index: Index, query: Floats) -> tuple[list[int], int]:
        disk = _Disk(vectors)
        found = index.search(query, _K, disk.fetch)
        return [int(number) for number in np.asarray(found).tolist()], disk.read

    def returns_k_numbers() -> None:
        found, _ = search(index_class(vectors), queries[0])
        if len(found) != _K or len(set(found)) != _K:
            raise CheckFailed(f"for k = {_K} it returned {len(found)} numbers, {len(set(found))} of them different")
        if not all(0 <= number < len(vectors) for number in found):
            raise CheckFailed(f"there are {len(vectors)} vectors, and it returned number {max(found)}")

    def puts_the_best_first() -> None:
        for query in queries[:5]:
            found, _ = search(index_class(vectors), query)
            similarity = vectors[found] @ query
            if (np.diff(similarity) > 1e-6).any():
                worst_first = bool((np.diff(similarity) >= -1e-6).all())
                meaning = "the worst comes first" if worst_first else "that's not their order by the full vectors"
                raise CheckFailed(f"the similarities of what it found are {similarity.round(3).tolist()}: {meaning}")

    def finds_them() -> None:
        index = index_class(vectors)
        hits = sum(
            len(set(search(index, query)[0]) & set(right)) for query, right in zip(queries, exact.tolist(), strict=True)
        )
        recall = hits / exact.size
        if recall < _RECALL:
            _, read = search(index, queries[0])
            raise CheckFailed(
                f"of the {_K} nearest it finds {recall:.0%} on average, {_RECALL:.0%} are asked for; it fetched "
                f"{read // vectors[0].nbytes} of {len(vectors)} vectors per search"
            )

    def stays_within_its_budget() -> None:
        index = index_class(vectors)
        kept = np.asarray(index.codes).nbytes
        read = max(search(index, query)[1] for query in queries)
        if kept > budget:
            raise CheckFailed(
                f"codes alone take {kept:,} bytes; a tenth of everything is {budget:,}",
                hint="How many bytes does a sign take in your array?",
                strong_hint="An array of bool has a byte per sign. np.packbits puts eight signs into a byte.",
            )
        if kept + read > budget:
            raise CheckFailed(
                f"codes take {kept:,} bytes and a search fetches {read:,}: together "
                f"{(kept + read) / vectors.nbytes:.1%} of all, and {_SHARE:.0%} are allowed"
            )

    def keeps_no_vectors() -> None:
        index = index_class(vectors)
        for name, value in vars(index).items():
            if isinstance(value, np.ndarray | list | tuple) and name != "codes" and np.asarray(value).nbytes > budget:
                raise CheckFailed(f"self.{name} holds {np.asarray(value).nbytes:,} bytes")

    return run_cases(
        "Stretch: two stages at a tenth of the bytes",
        [
            Case(
                "returns k different numbers",
                returns_k_numbers,
                "The result are numbers of vectors, not places in the list of candidates.",
                "candidates[order[:k]]: the order within the candidates leads back to their numbers.",
            ),
            Case(
                "ranks by the full vectors, best first",
                puts_the_best_first,
                "Signs only choose the candidates. Who's first is decided by the full vectors.",
                "similarity = fetch(candidates) @ query; sort by -similarity.",
            ),
            Case(
                "finds 95 of 100",
                finds_them,
                "The true neighbors are among the nearest by signs, but not always among the first ten.",
                "Fetch many more candidates than k: all that the budget allows. And candidates are those whose signs "
                "differ in the *fewest* places: np.bitwise_count(codes ^ query_code).sum(axis=1), ascending.",
            ),
            Case(
                "reads a tenth of the bytes at most",
                stays_within_its_budget,
                "Codes and fetched vectors count together.",
                "Fetch fewer candidates: (a tenth of all bytes − those of the codes) / those of one vector, at most.",
            ),
            Case(
                "keeps no vectors beside the codes",
                keeps_no_vectors,
                "What's in memory counts, under whatever name.",
                "Keep self.codes and get full vectors with fetch.",
            ),
        ],
    )


CHECKS: Mapping[str, Callable[..., Report]] = {
    "warm-up": check_cosine_top_k,
    "core": check_tiled_attention,
    "stretch": check_two_stage_index,
}
