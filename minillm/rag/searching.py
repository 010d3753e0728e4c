"""The two searches, by words and by vectors, what they may find, and how their results become one list."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

import apsw
import numpy as np

from minillm.rag.chunking import Chunk
from minillm.rag.document import CLASSIFICATIONS, DEFAULT_CLASSIFICATION, DEFAULT_TENANT, Provenance
from minillm.rag.embedding import Vectors
from minillm.rag.errors import RagError
from minillm.rag.words import search_terms

Mode = Literal["hybrid", "words", "vectors"]

MAX_TERMS = 32  # of a query; more words make it slower, and better hardly ever
CANDIDATES = 400
"""How many of the nearest codes get an exact distance. See `minillm.rag.growth` for what that finds."""

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True)
class Filters:
    """What a search may find. It's part of the SQL, so what it keeps out isn't even counted among the candidates.

    Attributes:
        tenant: whose documents. There's no search through several tenants'.
        sources: names that are allowed, with * and ? as in file names ("handbook/*"; * stands for slashes too). None
            allows all, an empty tuple none.
        clearance: the highest classification that may be read.
        max_age: none older than this.
    """

    tenant: str = DEFAULT_TENANT
    sources: tuple[str, ...] | None = None
    clearance: str = DEFAULT_CLASSIFICATION
    max_age: timedelta | None = None

    def __post_init__(self) -> None:
        if self.clearance not in CLASSIFICATIONS:
            raise RagError(f"The clearance is {self.clearance!r}; expected one of {', '.join(CLASSIFICATIONS)}.")
        if isinstance(self.sources, str):
            raise RagError(f"sources is one text, {self.sources!r}; expected a tuple of patterns.")

    def sql(self, now: datetime) -> tuple[str, dict[str, Any]]:
        """A condition on the table `documents`, and the values of its parameters."""
        values: dict[str, Any] = {"tenant": self.tenant, "clearance": CLASSIFICATIONS.index(self.clearance)}
        condition = "documents.tenant = :tenant and documents.classification <= :clearance"
        if self.max_age is not None:
            values["oldest"] = (now - self.max_age).timestamp()
            condition += " and documents.updated >= :oldest"
        if self.sources is not None:
            names = {f"source{i}": pattern for i, pattern in enumerate(self.sources)}
            values |= names
            condition += f" and ({' or '.join(f'documents.source glob :{name}' for name in names) or 'false'})"
        return condition, values


@dataclass(frozen=True)
class Hit:
    """A chunk that was found.

    Attributes:
        chunk: its text and place.
        provenance: of its document.
        score: what the list is sorted by, the greater the better: of the fusion, or 1 / (60 + rank) of one search.
        word_rank: its place in the search by words, from 1 on; None if it isn't there.
        vector_rank: its place in the search by vectors.
        similarity: the cosine of the angle between its vector and the question's; None if it's not in that search.
    """

    chunk: Chunk
    provenance: Provenance
    score: float
    word_rank: int | None = None
    vector_rank: int | None = None
    similarity: float | None = None

    @property
    def title(self) -> str:
        """What to show above its text: "Handbook › Leave (People team, 2026-03-12)"."""
        return f"{self.chunk.heading} ({self.provenance.owner}, {self.provenance.updated:%Y-%m-%d})"


def find_words(database: apsw.Connection, query: str, filters: Filters, depth: int, now: datetime) -> list[int]:
    """The chunks with any of the query's words, best first by BM25; a word in a heading counts twice.

    Returns:
        Ids of at most `depth` chunks.
    """
    terms = search_terms(query)[:MAX_TERMS]
    if not terms:
        return []
    condition, values = filters.sql(now)
    # In quotes a term is words to look for, whatever FTS5 would otherwise take it for. No letter in it is a quote.
    values |= {"terms": " OR ".join(f'"{term}"' for term in terms), "depth": depth}
    rows = database.execute(
        f"""select codes.chunk from words join codes on codes.chunk = words.rowid
            join documents on documents.id = codes.document
            where words match :terms and {condition}
            order by bm25(words, 2.0, 1.0), documents.source, codes.position limit :depth""",
        values,
    )
    return [row[0] for row in rows]


def find_vectors(
    database: apsw.Connection, vector: Vectors, filters: Filters, depth: int, now: datetime
) -> list[tuple[int, float]]:
    """The chunks whose vectors point most nearly the same way.

    The codes' Hamming distances choose the candidates, the vectors themselves their order.

    Args:
        database: the index.
        vector: [1, dimensions], of length 1.
        filters: which chunks count.
        depth: how many to return.
        now: what ages are counted from.

    Returns:
        Ids and cosines, the nearest first.
    """
    condition, values = filters.sql(now)
    values |= {"code": code_of(vector[0]), "vector": vector.astype("<f4").tobytes(), "depth": depth}
    values["candidates"] = max(CANDIDATES, 4 * depth)
    rows = database.execute(
        f"""with nearest as (
                select chunk from codes where document in (select id from documents where {condition})
                order by vec_distance_hamming(vec_bit(code), vec_bit(:code)) limit :candidates
            )
            select chunks.id, vec_distance_cosine(vectors.vector, :vector) as distance
            from nearest join chunks on chunks.id = nearest.chunk
            join vectors on vectors.digest = chunks.digest join documents on documents.id = chunks.document
            order by distance, documents.source, chunks.position limit :depth""",
        values,
    )
    return [(chunk, 1.0 - distance) for chunk, distance in rows]


def code_of(vector: Any) -> bytes:
    """A bit for each number of a vector, 1 where it's above 0; as many as make whole bytes."""
    return np.packbits(np.asarray(vector) > 0, bitorder="little").tobytes()


def reciprocal_rank_fusion(rankings: Sequence[Sequence[T]], constant: int = 60) -> list[tuple[T, float]]:
    """Several rankings of the same things as one (Cormack, Clarke and Büttcher, SIGIR 2009).

    A thing's score is the sum of 1 / (constant + rank) over the rankings that it's in, ranks from 1 on. Scores of the
    searches themselves, which can't be compared, don't count.

    Returns:
        Things and scores, best first; of those with the same score, the one that was met first.
    """
    scores: dict[T, float] = {}
    for ranking in rankings:
        for rank, thing in enumerate(ranking, 1):
            scores[thing] = scores.get(thing, 0.0) + 1.0 / (constant + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


_PROVENANCE = "source, title, owner, updated, classification, tenant, version, documents.digest"


def load_hits(database: apsw.Connection, ids: Sequence[int]) -> dict[int, Hit]:
    """The chunks with their provenance, by id, their scores still 0."""
    rows = database.execute(
        f"""select chunks.id, text, heading, position, place, {_PROVENANCE}
            from chunks join documents on documents.id = chunks.document
            where chunks.id in ({", ".join("?" * len(ids))})""",
        tuple(ids),
    )
    return {row[0]: Hit(Chunk(*row[1:5]), _provenance(*row[5:]), 0.0) for row in rows}


def load_provenance(database: apsw.Connection, tenant: str | None) -> list[Provenance]:
    """Where the documents come from, by name; of one tenant, or of all if None."""
    rows = database.execute(
        f"select {_PROVENANCE} from documents where :tenant is null or tenant = :tenant order by source",
        {"tenant": tenant},
    )
    return [_provenance(*row) for row in rows]


def _provenance(
    source: str, title: str, owner: str, updated: int, classification: int, tenant: str, version: str, digest: str
) -> Provenance:
    when = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=updated)
    return Provenance(source, title, owner, when, CLASSIFICATIONS[classification], tenant, version, digest)
