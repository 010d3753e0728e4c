"""What a query costs as an index grows: `minillm rag bench`.

The documents are made up: words drawn as often as in English (Zipf's law, the commonest left out, as a search leaves
out "the" and "of"), and random vectors around some hundred centres, 384 numbers each, in place of a model's. They cost
a search the same time as real ones. The time that the server needs for the question's own vector is not in it.

Measured on two threads of one core of an AMD EPYC (AVX2), by the clock, while little else ran; median and 95th
percentile of 50 queries of six words, in milliseconds:

    chunks   added in  words        vectors      hybrid        filtered
     1,000     0.5 s    1.0 /  1.3   1.8 /  2.1   3.0 /   3.5   0.9 /  1.4
    10,000     6.0 s    3.6 /  5.3   5.8 /  6.2   9.2 /  11.3   9.4 / 10.8
   100,000    72.4 s   46.8 / 77.5  37.6 / 46.2  74.4 / 114.2  38.0 / 65.2

Both searches read something of every chunk, so the cost grows with the index, by less than tenfold each time. On a
machine with other work the same queries take several times as long by the clock.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from minillm.rag.document import Block, Document, Provenance
from minillm.rag.embedding import Vectors
from minillm.rag.index import Index
from minillm.rag.searching import Filters, Mode

SIZES = (1_000, 10_000, 100_000)
"""Chunks; the last is what the index is made for."""

_CHUNKS_OF_A_DOCUMENT, _WORDS_OF_A_CHUNK, _VOCABULARY, _DIMENSIONS = 10, 100, 20_000, 384
_QUERIES, _WORDS_OF_A_QUERY = 50, 6
_NOW = datetime(2026, 1, 1, tzinfo=UTC)

SEARCHES: tuple[tuple[str, Mode, Filters], ...] = (
    ("words", "words", Filters(clearance="restricted")),
    ("vectors", "vectors", Filters(clearance="restricted")),
    ("hybrid", "hybrid", Filters(clearance="restricted")),
    ("filtered", "hybrid", Filters(sources=("made-up/*",), max_age=timedelta(days=200))),
)
"""What is timed: a name, the mode, and the filters. The last one's let about a quarter of the chunks through."""


@dataclass(frozen=True)
class Row:
    """One size of the index.

    Attributes:
        num_chunks: in the index.
        seconds_to_add: of the whole ingest, without a model's time.
        megabytes: of the file.
        medians: milliseconds of a query for each of SEARCHES, by its name.
        p95s: the same, but 95 of 100 queries are faster.
    """

    num_chunks: int
    seconds_to_add: float
    megabytes: float
    medians: dict[str, float]
    p95s: dict[str, float]


class RandomVectors:
    """In place of a model: random vectors, the same ones for the same texts in the same order."""

    model = "random"

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)
        self._centres = self._random.standard_normal((300, _DIMENSIONS), dtype=np.float32)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """[len(texts), 384], each of length 1."""
        near = self._centres[self._random.integers(len(self._centres), size=len(texts))]
        vectors = near + self._random.standard_normal(near.shape, dtype=np.float32)
        scaled: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return scaled


def measure(
    folder: Path, sizes: Sequence[int] = SIZES, *, progress: Callable[[str], None] | None = None
) -> Iterator[Row]:
    """Fills an index for each size and times queries on it.

    Args:
        folder: where to put the files; 100,000 chunks need about 500 MB.
        sizes: numbers of chunks.
        progress: is told what is being done.

    Yields:
        A row for each size, as soon as it's measured.
    """
    tell = progress or (lambda text: None)
    for size in sizes:
        with Index(folder / f"{size}.db", RandomVectors()) as index:
            start = time.perf_counter()
            done = 0
            documents = _documents()
            while done < size:
                some = list(itertools.islice(documents, min(100, -(-(size - done) // _CHUNKS_OF_A_DOCUMENT))))
                index.add(some)
                done += _CHUNKS_OF_A_DOCUMENT * len(some)
                tell(f"{done:,} of {size:,} chunks")
            seconds = time.perf_counter() - start
            times = {name: _times(index, mode, filters) for name, mode, filters in SEARCHES}
            yield Row(
                num_chunks=len(index),
                seconds_to_add=seconds,
                megabytes=(folder / f"{size}.db").stat().st_size / 1e6,
                medians={name: float(np.median(samples)) for name, samples in times.items()},
                p95s={name: float(np.quantile(samples, 0.95)) for name, samples in times.items()},
            )


def _times(index: Index, mode: Mode, filters: Filters) -> list[float]:
    """Milliseconds of each query, the first few left out: they read the file."""
    samples = []
    for query in [" ".join(words) for words in itertools.islice(_texts(1, _WORDS_OF_A_QUERY), _QUERIES + 3)]:
        start = time.perf_counter()
        index.search(query, mode=mode, filters=filters, now=_NOW)
        samples.append(1000 * (time.perf_counter() - start))
    return samples[3:]


def _documents() -> Iterator[Document]:
    """Half of them internal and half restricted, half of them younger than 200 days."""
    texts = (" ".join(words) for words in _texts(0, _WORDS_OF_A_CHUNK))
    for number in itertools.count():
        blocks = tuple(Block(next(texts), (f"Section {part}",)) for part in range(_CHUNKS_OF_A_DOCUMENT))
        about = Provenance(
            source=f"made-up/{number}",
            title=f"Document {number}",
            owner="nobody",
            updated=_NOW - timedelta(days=number % 400),
            classification="internal" if number // 400 % 2 else "restricted",
        )
        yield Document(about, blocks)


def _texts(seed: int, length: int) -> Iterator[list[str]]:
    """Lists of `length` words; the word of rank r is drawn in proportion to 1 / (r + 50)."""
    random = np.random.default_rng(seed)
    weights = 1.0 / (np.arange(_VOCABULARY) + 50.0)
    cumulated = np.cumsum(weights / weights.sum())
    while True:
        for row in np.searchsorted(cumulated, random.random((100, length))):
            yield [f"w{number}" for number in row]
