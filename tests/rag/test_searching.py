"""What is found, in which order, and what a filter keeps out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rag_files import NOW, WordEmbedder, document

from minillm.rag import Filters, Index, RagError, reciprocal_rank_fusion
from minillm.rag.searching import code_of

COLOURS = ("red", "green", "blue", "yellow", "brown")
THINGS = ("boat", "apple", "house", "car")
LEVELS = ("public", "internal", "confidential", "restricted")


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    """A document for each colour and thing; tenants, levels and ages are spread over them."""
    with Index(":memory:", WordEmbedder()) as opened:
        opened.add(
            [
                document(
                    f"{thing}/{colour}",
                    f"The {thing} in {colour}",
                    title="Catalogue",
                    tenant="acme" if i % 2 else "default",
                    classification=LEVELS[(i + j) % 4],
                    updated=NOW - timedelta(days=100 * j),
                )
                for i, thing in enumerate(THINGS)
                for j, colour in enumerate(COLOURS)
            ]
        )
        yield opened


def sources(index: Index, query: str, **options: object) -> list[str]:
    return [hit.provenance.source for hit in index.search(query, 50, now=NOW, **options)]  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["hybrid", "words", "vectors"])
def test_filters_let_through_exactly_what_they_say(index: Index, mode: str) -> None:
    everything = [*index.documents("default"), *index.documents("acme")]
    for tenant in ("default", "acme", "nobody"):
        for clearance in LEVELS:
            for days in (None, 0, 150, 1000):
                for patterns in (None, (), ("boat/*",), ("*/red", "apple/*")):
                    age = None if days is None else timedelta(days=days)
                    filters = Filters(tenant, patterns, clearance, age)
                    expected = {
                        about.source
                        for about in everything
                        if about.tenant == tenant
                        and LEVELS.index(about.classification) <= LEVELS.index(clearance)
                        and (age is None or NOW - about.updated <= age)
                        and (
                            patterns is None
                            or ("boat/*" in patterns and about.source.startswith("boat/"))
                            or (
                                "*/red" in patterns
                                and (about.source.endswith("/red") or about.source.startswith("apple/"))
                            )
                        )
                    }
                    query = "catalogue of boat apple house car"
                    assert set(sources(index, query, mode=mode, filters=filters)) == expected


def test_by_default_nothing_confidential_and_nobody_elses_is_found(index: Index) -> None:
    found = index.search("boat apple house car", 50, now=NOW)
    assert {hit.provenance.tenant for hit in found} == {"default"}
    assert {hit.provenance.classification for hit in found} == {"public", "internal"}


def test_words_are_found_in_their_forms_and_without_accents() -> None:
    with Index(":memory:", WordEmbedder()) as index:
        index.add([document("a", "Painting a café's façade"), document("b", "disk_usage() of a disk")])
        assert sources(index, "paintings", mode="words") == ["a"]
        assert sources(index, "CAFE", mode="words") == ["a"]
        assert sources(index, "disk_usage", mode="words") == ["b"]
        assert set(sources(index, "of a", mode="words")) == {"a", "b"}  # they're all there is to look for


@pytest.mark.parametrize(
    "query", ['"', "a AND (b", "NEAR(x)", "heading: boat", "*", "-boat", "boat OR", "^", "\0", " "]
)
def test_no_query_is_taken_for_the_language_of_fts5(index: Index, query: str) -> None:
    for mode in ("words", "hybrid"):
        found = sources(index, query, mode=mode)
        if "boat" in query and mode == "words":
            assert found
            assert all(source.startswith("boat/") for source in found)


def test_vectors_come_in_the_order_of_their_cosines(index: Index) -> None:
    embedder = WordEmbedder()
    hits = index.search("a red boat", 50, mode="vectors", now=NOW)
    question = embedder.embed(["a red boat"])[0]
    texts = [hit.chunk.embedded for hit in hits]
    expected = embedder.embed(texts) @ question
    np.testing.assert_allclose([hit.similarity for hit in hits], expected, atol=1e-6)
    assert list(expected) == sorted(expected, reverse=True)
    assert [hit.vector_rank for hit in hits] == list(range(1, len(hits) + 1))


def test_exact_distances_decide_among_many_candidates() -> None:
    """With as many chunks as candidates, the best ten are those of a search without codes."""
    embedder = WordEmbedder()
    texts = [f"{colour} {thing} {number}" for colour in COLOURS for thing in THINGS for number in range(20)]
    with Index(":memory:", embedder) as index:
        index.add([document(f"{n:03}", text) for n, text in enumerate(texts)])
        found = sources(index, "red boat 7", mode="vectors")[:10]
    vectors = embedder.embed([f"{n:03}\n{text}" for n, text in enumerate(texts)])
    nearest = np.argsort(-(vectors @ embedder.embed(["red boat 7"])[0]))[:10]
    assert found == [f"{n:03}" for n in nearest]


def test_hybrid_is_the_fusion_of_the_two(index: Index) -> None:
    for query in ("a red boat", "green apples", "the yellow house"):
        words, vectors = sources(index, query, mode="words"), sources(index, query, mode="vectors")
        hits = index.search(query, 50, now=NOW)
        for hit in hits:
            ranks = [ranking.index(hit.provenance.source) for ranking in (words, vectors)
                     if hit.provenance.source in ranking]  # fmt: skip
            assert math.isclose(hit.score, sum(1 / (61 + rank) for rank in ranks))
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        assert {hit.provenance.source for hit in hits} == {*words, *vectors}


@given(st.lists(st.lists(st.integers(0, 9), unique=True), max_size=4), st.integers(1, 100))
def test_fusion_is_the_sum_over_the_rankings(rankings: list[list[int]], constant: int) -> None:
    fused = reciprocal_rank_fusion(rankings, constant)
    things = {thing for ranking in rankings for thing in ranking}
    naive = {t: sum(1 / (constant + r.index(t) + 1) for r in rankings if t in r) for t in things}
    assert {thing for thing, _ in fused} == things
    assert len(fused) == len(things)
    assert all(math.isclose(score, naive[thing]) for thing, score in fused)
    assert [score for _, score in fused] == sorted((score for _, score in fused), reverse=True)


def test_a_code_has_a_bit_for_each_number() -> None:
    assert code_of(np.array([1.0, -1, 0, 2, 0.1, -3, 1, 1, 5])) == bytes([0b11011001, 1])


@pytest.mark.parametrize("wrong", [{"k": 0}, {"mode": "both"}, {"filters": Filters}], ids=["k", "mode", "filters"])
def test_a_search_that_makes_no_sense_is_refused(index: Index, wrong: dict[str, object]) -> None:
    if "filters" in wrong:
        with pytest.raises(RagError, match="clearance is 'secret'"):
            Filters(clearance="secret")
        with pytest.raises(RagError, match="a tuple"):
            Filters(sources="boat/*")  # type: ignore[arg-type]
    else:
        with pytest.raises(RagError, match="1 or more"):
            index.search("boat", **wrong)  # type: ignore[arg-type]
