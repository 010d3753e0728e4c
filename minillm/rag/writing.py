"""What is written into an index, one transaction for each step that is to be kept whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import apsw
import numpy as np

from minillm.rag.chunking import Chunk
from minillm.rag.database import get_setting, set_setting
from minillm.rag.document import CLASSIFICATIONS, Provenance
from minillm.rag.embedding import EmbedsTexts, Vectors
from minillm.rag.errors import RagError
from minillm.rag.searching import code_of

T = TypeVar("T")


@dataclass(frozen=True)
class Prepared:
    """A document that has been read and cut, and waits for its vectors.

    Attributes:
        provenance: where it comes from.
        state: of all that it was made from.
        is_file: whether it's in the index because it's in a folder.
        chunks: its chunks.
        texts: what is embedded of each chunk: without secrets.
    """

    provenance: Provenance
    state: str
    is_file: bool
    chunks: Sequence[Chunk]
    texts: Sequence[str]

    @property
    def digests(self) -> list[str]:
        """SHA-256 of each text."""
        return [digest_of(text) for text in self.texts]


def digest_of(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def batched(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` things, the last one shorter."""
    iterator = iter(things)
    while batch := list(islice(iterator, size)):
        yield batch


class Writer:
    """Writes into an index's database.

    Attributes:
        num_embedded: how many texts it has had embedded.
    """

    def __init__(self, database: apsw.Connection, embedder: EmbedsTexts, batch_size: int) -> None:
        self.num_embedded = 0
        self._database, self._embedder, self._batch_size = database, embedder, batch_size

    def write(self, group: Sequence[Prepared]) -> Iterator[None]:
        """Embeds what has no vector yet, and then puts the documents in the place of their older selves.

        The vectors of each request are kept at once. So whatever comes in between, nothing is asked for twice.

        Yields:
            After each request to the embedder.
        """
        texts = {digest: text for each in group for digest, text in zip(each.digests, each.texts, strict=True)}
        vectors = self._known(texts)
        missing = [digest for digest in texts if digest not in vectors]
        for batch in batched(missing, self._batch_size):
            made = self._embedder.embed([texts[digest] for digest in batch])
            blobs = {digest: row.tobytes() for digest, row in zip(batch, made.astype("<f4"), strict=True)}
            with self._database:
                _remember_embedder(self._database, self._embedder, made)
                self._keep(blobs)
            vectors |= blobs
            self.num_embedded += len(batch)
            yield
        with self._database:
            self._keep(vectors)  # another process may have thrown out those that no chunk had yet
            for each in group:
                self._replace(each, vectors)

    def remove(self, sources: Iterable[str]) -> None:
        """Takes documents out, with their chunks and words."""
        with self._database:
            self._database.executemany("delete from documents where source = ?", [(source,) for source in sources])

    def throw_out_unused(self) -> None:
        """Removes vectors that no chunk has any more."""
        with self._database:
            self._database.execute("delete from vectors where digest not in (select digest from chunks)")

    def _known(self, digests: Iterable[str]) -> dict[str, bytes]:
        known: dict[str, bytes] = {}
        for batch in batched(digests, 500):
            marks = ", ".join("?" * len(batch))
            rows: Any = self._database.execute(f"select digest, vector from vectors where digest in ({marks})", batch)
            known |= dict(rows)
        return known

    def _keep(self, vectors: Mapping[str, bytes]) -> None:
        self._database.executemany("insert or ignore into vectors (digest, vector) values (?, ?)", vectors.items())

    def _replace(self, each: Prepared, vectors: Mapping[str, bytes]) -> None:
        execute, about = self._database.execute, each.provenance
        execute("delete from documents where source = ?", (about.source,))
        execute(
            """insert into documents (source, title, owner, updated, classification, tenant, version, digest, state,
                is_file) values (:source, :title, :owner, :seconds, :level, :tenant, :version, :digest, :state,
                :is_file)""",
            vars(about)
            | {"seconds": int(about.updated.timestamp()), "level": CLASSIFICATIONS.index(about.classification)}
            | {"state": each.state, "is_file": each.is_file},
        )
        document = self._database.last_insert_rowid()
        for chunk, digest in zip(each.chunks, each.digests, strict=True):
            execute(
                "insert into chunks (document, position, heading, place, text, digest) values (?, ?, ?, ?, ?, ?)",
                (document, chunk.position, chunk.heading, chunk.place, chunk.text, digest),
            )
            code = code_of(np.frombuffer(vectors[digest], dtype="<f4"))
            place = (self._database.last_insert_rowid(), document, chunk.position)
            execute("insert into codes values (?, ?, ?, ?)", (*place, code))


def check_embedder(database: apsw.Connection, embedder: EmbedsTexts, vectors: Vectors | None = None) -> None:
    """Sees to it that all vectors of an index come from one model, and of those that are compared with them.

    Raises:
        RagError: if the embedder's model, or the number of dimensions, isn't the index's.
    """
    model, dimensions = get_setting(database, "embedding model"), get_setting(database, "dimensions")
    if model is not None and model != embedder.model:
        raise RagError(
            f"The index was made with {model}, and the embedder is {embedder.model}; their vectors can't be compared. "
            "Use the same, or make another index."
        )
    if vectors is not None and dimensions is not None and int(dimensions) != vectors.shape[1]:
        raise RagError(
            f"{embedder.model} gives vectors of {vectors.shape[1]} numbers, and those of the index have {dimensions}. "
            "It's not the same model; make another index."
        )


def _remember_embedder(database: apsw.Connection, embedder: EmbedsTexts, vectors: Vectors) -> None:
    """The first vectors decide what model the index is of."""
    check_embedder(database, embedder, vectors)
    set_setting(database, "embedding model", embedder.model)
    set_setting(database, "dimensions", str(vectors.shape[1]))
