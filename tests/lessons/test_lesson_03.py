"""Lesson 03's exercises: the stub fails, the solution passes, and typical wrong answers are told what's wrong."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from notebooks import run_cells
from torch import Tensor

from minillm.lab import Checker
from minillm.testing import Report

STEM = "03-attention-and-embeddings"
EXERCISES = {"warm-up": "cosine_top_k", "core": "tiled_attention", "stretch": "TwoStageIndex"}


def answer(folder: str, exercise: str) -> Any:
    cells = run_cells(folder, STEM, exercise)
    cells.update(torch=torch, np=np, math=math)
    return cells[EXERCISES[exercise]]


def failures(report: Report) -> dict[str, str]:
    """The failed behaviors, each with all that the student is told in the end."""
    return {b.name: f"{b.detail} {b.hint} {b.strong_hint}" for b in report.failed}


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_stub_fails(exercise: str) -> None:
    report = Checker("03")(exercise, answer("exercises", exercise))
    assert len(report.failed) == len(report.behaviors)
    assert "NotImplementedError" in str(report)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_solution_passes(exercise: str) -> None:
    Checker("03")(exercise, answer("solutions", exercise)).raise_if_failed()


# -- warm-up ----------------------------------------------------------------------------------------------------


def unit(x: Any) -> Any:
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(lengths == 0, 1, lengths)


def ranked(scores: Any, k: int, order: Callable[[Any], Any] = lambda s: np.argsort(-s, axis=1, kind="stable")) -> Any:
    numbers = order(scores)[:, :k]
    return numbers, np.take_along_axis(scores, numbers, axis=1)


def in_place(queries: Any, vectors: Any, k: int) -> Any:
    for x in (queries, vectors):
        lengths = np.linalg.norm(x, axis=1, keepdims=True)
        x /= np.where(lengths == 0, 1, lengths)
    return ranked(queries @ vectors.T, k)


def pair_by_pair(queries: Any, vectors: Any, k: int) -> Any:
    def cosine(a: Any, b: Any) -> float:
        lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
        return sum(x * y for x, y in zip(a, b, strict=True)) / (lengths or 1.0)

    return ranked(np.array([[cosine(q, v) for v in vectors.tolist()] for q in queries.tolist()]), k)


# Wrong answer → (function, the behavior that catches it, words that name the cause).
WRONG_TOP_K: dict[str, tuple[Any, str, str]] = {
    "dot product": (lambda q, v, k: ranked(q @ v.T, k), "looks at directions", "the dot product does that"),
    "distance": (
        lambda q, v, k: ranked(-np.linalg.norm(q[:, None] - v[None], axis=2), k),
        "looks at directions",
        "the Euclidean distance does that",
    ),
    "worst first": (
        lambda q, v, k: ranked(unit(q) @ unit(v).T, k, lambda s: np.argsort(s, axis=1, kind="stable")),
        "puts the best first",
        "worst first",
    ),
    "not sorted": (
        lambda q, v, k: ranked(unit(q) @ unit(v).T, k, lambda s: np.sort(np.argsort(-s, axis=1)[:, :k], axis=1)),
        "puts the best first",
        "argpartition doesn't sort",
    ),
    "only the vectors' lengths": (lambda q, v, k: ranked(q @ unit(v).T, k), "returns the cosines", "one side"),
    "one length for all": (
        lambda q, v, k: ranked((q / np.linalg.norm(q)) @ unit(v).T, k),
        "keeps the queries apart",
        "one number for all",
    ),
    "nan for zeros": (
        lambda q, v, k: ranked(
            (q / np.linalg.norm(q, axis=1, keepdims=True)) @ (v / np.linalg.norm(v, axis=1, keepdims=True)).T, k
        ),
        "gives a vector of zeros the cosine 0",
        "lengths of 0 by 1",
    ),
    "reversed order": (
        lambda q, v, k: ranked(unit(q) @ unit(v).T, k, lambda s: np.argsort(s, axis=1, kind="stable")[:, ::-1]),
        "puts the lower number first where two are equally near",
        "[::-1]",
    ),
    "in place": (in_place, "leaves its input as it was", "x /="),
    "numbers only": (lambda q, v, k: ranked(unit(q) @ unit(v).T, k)[0], "returns two arrays", "expected two arrays"),
    "all of them": (lambda q, v, k: ranked(unit(q) @ unit(v).T, len(v)), "returns two arrays", "expected [3, 2]"),
}


@pytest.mark.parametrize("mistake", WRONG_TOP_K)
def test_a_wrong_search_is_explained(mistake: str) -> None:
    function, behavior, words = WRONG_TOP_K[mistake]
    failed = failures(Checker("03")("warm-up", function))
    [told] = [text for name, text in failed.items() if name.startswith(behavior)]
    assert words in told


def test_a_loop_over_all_pairs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    from minillm.lab.checks import lesson_03

    real = lesson_03.Case
    monkeypatch.setattr(lesson_03, "Case", lambda *args, **options: real(*args, **{**options, "time_limit": 0.5}))
    # Hypothesis watches collections, and a time-out that falls into its callback would get lost.
    gc.disable()
    try:
        [told] = failures(lesson_03.check_cosine_top_k(pair_by_pair)).values()
    finally:
        gc.enable()
    assert "still running" in told and "one product of matrices" in told


# -- core -------------------------------------------------------------------------------------------------------


def wrong_tiles(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    tile: int = 64,
    *,
    rescale_sum: bool = True,
    rescale_values: bool = True,
    divide: bool = True,
    scaled: bool = True,
    subtract: bool = True,
    kv_head: Callable[[Tensor, int, int], Tensor] = lambda h, heads, kv_heads: h // (heads // kv_heads),
    drop_last: bool = False,
    mask: str = "right",
    offset: bool = True,
    ahead: int = 0,
    backwards: bool = False,
    whole_rows: bool = False,
    in_place: bool = False,
) -> Tensor:
    """Tiled attention; each option leaves a step out or does it wrong."""
    heads = torch.arange(len(q))
    keys, values = k[kv_head(heads, len(q), len(k))], v[kv_head(heads, len(q), len(v))]
    out = torch.empty_like(q)
    if in_place:
        q /= math.sqrt(q.shape[-1])
    num_keys = keys.shape[1] // tile * tile if drop_last and keys.shape[1] > tile else keys.shape[1]
    step = num_keys if whole_rows else tile
    for row in range(0, q.shape[1], tile):
        queries = q[:, row : row + tile] / (math.sqrt(q.shape[-1]) if scaled and not in_place else 1)
        places = row + torch.arange(queries.shape[1]) + (keys.shape[1] - q.shape[1] if offset else 0) + ahead
        m = torch.full((*queries.shape[:2], 1), -math.inf if subtract else 0.0)
        s, o = torch.zeros_like(m), torch.zeros_like(queries)
        columns = range(0, num_keys, step)
        for column in reversed(columns) if backwards else columns:
            scores = queries @ keys[:, column : min(column + step, num_keys)].transpose(1, 2)
            hidden = column + torch.arange(scores.shape[2]) > places[:, None]
            if causal and not (mask == "none" or (mask == "not in the last tile" and column + step >= num_keys)):
                scores = scores.masked_fill(hidden, 0.0 if mask == "zero" else -math.inf)
            higher = torch.maximum(m, scores.amax(-1, keepdim=True)) if subtract else m
            factor, powers = (m - higher).exp(), (scores - higher).exp()
            s = s * (factor if rescale_sum else 1) + powers.sum(-1, keepdim=True)
            o = o * (factor if rescale_values else 1) + powers @ values[:, column : column + powers.shape[2]]
            m = higher
        out[:, row : row + tile] = o / s if divide else o
    return out


ONE, SEVERAL, UNEVEN = (
    "is attention, in a single tile",
    "joins several tiles of keys",
    "takes what doesn't divide evenly",
)
SHARE, FUTURE, LAST = (
    "lets query heads share keys and values",
    "hides the future",
    "knows that the queries are the last tokens",
)

WRONG_TILES: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing rescaled": (
        {"rescale_sum": False, "rescale_values": False},
        SEVERAL,
        "nothing that was gathered is rescaled",
    ),
    "sum not rescaled": ({"rescale_sum": False}, SEVERAL, "s needs the same factor"),
    "values not rescaled": ({"rescale_values": False}, SEVERAL, "o needs the same factor"),
    "not divided": ({"divide": False}, ONE, "not yet divided by s"),
    "not scaled": ({"scaled": False}, ONE, "root of head_dim"),
    "last tile dropped": ({"drop_last": True}, UNEVEN, "the last tile, which isn't full, is missing"),
    "wrong KV head": ({"kv_head": lambda h, heads, kv_heads: h % kv_heads}, SHARE, "The wrong KV head"),
    "no mask": ({"mask": "none"}, FUTURE, "without a mask"),
    "mask forgotten in the last tile": ({"mask": "not in the last tile"}, FUTURE, "Forgotten mask in the last tile"),
    "masked with 0": ({"mask": "zero"}, FUTURE, "-math.inf"),
    "one key ahead": ({"ahead": 1}, FUTURE, "one key ahead"),
    "own key hidden": ({"ahead": -1}, FUTURE, "hides from each query its own key"),
    "queries counted from 0": ({"offset": False}, LAST, "query i stands at place i"),
    "tiles from the end": ({"backwards": True}, FUTURE, "Begin with the first tile of keys"),
    "maximum not subtracted": ({"subtract": False}, "survives scores of 1,000", "Subtract the maximum"),
    "whole rows": ({"whole_rows": True}, "never builds the table", "a tile of keys"),
    "in place": ({"in_place": True}, "leaves its input as it was", "q /="),
}


@pytest.mark.parametrize("mistake", WRONG_TILES)
def test_wrong_tiles_are_explained(mistake: str) -> None:
    options, behavior, words = WRONG_TILES[mistake]

    def function(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, tile: int = 64) -> Tensor:
        return wrong_tiles(q, k, v, causal, tile, **options)

    failed = failures(Checker("03")("core", function))
    assert words in failed[behavior]


def test_the_right_tiles_of_this_file_pass() -> None:
    """Otherwise the tests above would prove nothing."""
    Checker("03")("core", wrong_tiles).raise_if_failed()


def test_neither_pytorchs_attention_nor_a_mask_for_the_whole_table_pass() -> None:
    def ready_made(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, tile: int = 64) -> Tensor:
        mask = torch.ones(q.shape[1], k.shape[1], dtype=torch.bool)
        mask = mask.tril(k.shape[1] - q.shape[1]) if causal else mask
        return F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, enable_gqa=True)[0]

    def large_mask(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, tile: int = 64) -> Tensor:
        torch.ones(q.shape[1], k.shape[1], dtype=torch.bool)
        return wrong_tiles(q, k, v, causal, tile)

    assert "PyTorch's own attention" in failures(Checker("03")("core", ready_made))["never builds the table"]
    assert "[192, 192]" in failures(Checker("03")("core", large_mask))["never builds the table"]


# -- stretch ----------------------------------------------------------------------------------------------------


class TwoStages:
    """A right answer, for wrong ones to spoil."""

    num_candidates = 100

    def __init__(self, vectors: Any) -> None:
        self.codes = np.packbits(vectors > 0, axis=1)

    def candidates(self, query: Any) -> Any:
        differing = np.bitwise_count(self.codes ^ np.packbits(query > 0)).sum(axis=1).astype(int)
        return np.argsort(differing, kind="stable")[: self.num_candidates]

    def search(self, query: Any, k: int, fetch: Any) -> Any:
        candidates = self.candidates(query)
        return candidates[np.argsort(-(fetch(candidates) @ query))[:k]]


class TooFew(TwoStages):
    num_candidates = 10


class TooMany(TwoStages):
    num_candidates = 400


class Farthest(TwoStages):
    def candidates(self, query: Any) -> Any:
        return np.argsort(-np.bitwise_count(self.codes ^ np.packbits(query > 0)).sum(axis=1).astype(int))[:100]


class SignsAsBools(TwoStages):
    def __init__(self, vectors: Any) -> None:
        self.codes = vectors > 0

    def candidates(self, query: Any) -> Any:
        return np.argsort((self.codes ^ (query > 0)).sum(axis=1))[:100]


class KeepsAll(TwoStages):
    def __init__(self, vectors: Any) -> None:
        super().__init__(vectors)
        self.vectors = vectors

    def search(self, query: Any, k: int, fetch: Any) -> Any:
        return np.argsort(-(self.vectors @ query))[:k]


class SignsOnly(TwoStages):
    def search(self, query: Any, k: int, fetch: Any) -> Any:
        return self.candidates(query)[:k]


class WorstFirst(TwoStages):
    def search(self, query: Any, k: int, fetch: Any) -> Any:
        return super().search(query, k, fetch)[::-1]


class Places(TwoStages):
    def search(self, query: Any, k: int, fetch: Any) -> Any:
        return np.argsort(-(fetch(self.candidates(query)) @ query))[:k]


class AllCandidates(TwoStages):
    def search(self, query: Any, k: int, fetch: Any) -> Any:
        return super().search(query, 100, fetch)


@pytest.mark.parametrize(
    ("index", "behavior", "words"),
    [
        (TooFew, "finds 95 of 100", "Fetch many more candidates than k"),
        (TooMany, "reads a tenth of the bytes at most", "Fetch fewer candidates"),
        (Farthest, "finds 95 of 100", "*fewest* places"),
        (SignsAsBools, "reads a tenth of the bytes at most", "np.packbits puts eight signs into a byte"),
        (KeepsAll, "keeps no vectors beside the codes", "self.vectors holds"),
        (SignsOnly, "ranks by the full vectors, best first", "not their order by the full vectors"),
        (WorstFirst, "ranks by the full vectors, best first", "the worst comes first"),
        (Places, "finds 95 of 100", "all that the budget allows"),
        (AllCandidates, "returns k different numbers", "it returned 100 numbers"),
    ],
)
def test_a_wrong_index_is_explained(index: type, behavior: str, words: str) -> None:
    assert words in failures(Checker("03")("stretch", index))[behavior]


def test_the_right_index_of_this_file_passes() -> None:
    Checker("03")("stretch", TwoStages).raise_if_failed()
