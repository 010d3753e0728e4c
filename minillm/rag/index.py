"""The index: documents go in, chunks come out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from minillm.rag.chunking import Chunk, Chunker
from minillm.rag.database import FORMAT, open_database
from minillm.rag.document import Document, Provenance
from minillm.rag.embedding import EmbedsTexts
from minillm.rag.errors import RagError, UnreadableError
from minillm.rag.python_docs import PythonModule
from minillm.rag.redaction import Redactor
from minillm.rag.searching import Filters, Hit, Mode, find_vectors, find_words, load_hits, load_provenance
from minillm.rag.searching import reciprocal_rank_fusion as fuse
from minillm.rag.sources import Source, gather
from minillm.rag.writing import Prepared, Writer, check_embedder, digest_of

BATCH_SIZE = 64
"""Texts of one request to the embedder; also how much work an interruption can cost."""


@dataclass(frozen=True)
class Progress:
    """How far an ingest has come.

    Attributes:
        done: documents that are finished with.
        total: documents that there are.
        source: the document that is next, or "" at the end.
        embedded: texts that were embedded so far.
    """

    done: int
    total: int
    source: str
    embedded: int


@dataclass
class AddReport:
    """What an ingest has done.

    Attributes:
        added: sources that are new in the index.
        changed: sources that were there in another state.
        unchanged: how many were there as they are.
        removed: sources that are gone, and so are their chunks.
        failed: sources that could not be read, and why. They aren't in the index, not even as they were before.
        embedded: texts that were embedded. The other chunks' vectors were there already.
    """

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    unchanged: int = 0
    removed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    embedded: int = 0


class Index:
    """Documents in one file, found by words and by meaning.

    One thread uses it at a time. Several may have the same file open, in as many processes: searches go on while one of
    them adds documents.

    Attributes:
        path: the file.
        base: the folder that the names of files are relative to; files outside of it go by their whole paths.
    """

    def __init__(
        self,
        path: str | Path,
        embedder: EmbedsTexts | None = None,
        *,
        chunker: Chunker | None = None,
        redactor: Redactor | None = None,
        create: bool = True,
        base: str | Path | None = None,
    ) -> None:
        """Opens the index, or makes an empty one.

        Args:
            path: the file; ":memory:" is an index that goes when it's closed.
            embedder: makes the vectors. Without one, `search` takes mode="words" only, and nothing can be added.
            chunker: cuts the documents.
            redactor: takes secrets out of what the embedder gets; one of all kinds if None. The index keeps the
                documents as they are.
            create: make the file if it isn't there.
            base: see above; the folder of the file if None.

        Raises:
            RagError: if the file isn't there or isn't an index.
        """
        self.path = Path(path)
        in_memory = str(path) == ":memory:"
        self.base = Path(base if base is not None else "." if in_memory else self.path.parent).resolve()
        self._embedder = embedder
        self._chunker = chunker or Chunker()
        self._redactor = redactor or Redactor()
        self._database = open_database(path, create=create)

    def add(
        self,
        paths: Iterable[str | Path | PythonModule | Document],
        *,
        tenant: str | None = None,
        owner: str | None = None,
        classification: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> AddReport:
        """Brings the index up to date with these files, folders, modules and documents.

        What hasn't changed is left alone, what is gone from a folder goes from the index, and a text that has been
        embedded isn't embedded again. If it's interrupted, the next call goes on from there.

        Args:
            paths: files, folders with all that can be read in them, Python modules, or documents.
            tenant: whose they are. One that says it's another's is refused.
            owner: of those that name none.
            classification: of those that name none.
            progress: is told before each document, and after each request to the embedder.

        Raises:
            RagError: if there's no such path, no embedder, or it's another than that which made the index.
            ServerError: if the embedder fails. What was embedded before is kept.
        """
        embedder = self._needed_embedder()
        defaults = {"tenant": tenant, "owner": owner, "classification": classification}
        stated = {name: value for name, value in defaults.items() if value is not None}
        with self._reading():
            rows: list[Any] = self._database.execute("select source, state, is_file from documents").fetchall()
        states = {source: state for source, state, _ in rows}
        sources, gone = gather(paths, self.base, [source for source, _, is_file in rows if is_file])
        writer, report = Writer(self._database, embedder, BATCH_SIZE), AddReport(removed=gone)
        writer.remove(gone)

        group: list[Prepared] = []
        for done, source in enumerate([*sources, None]):
            name = source.name if source else ""

            def tell(done: int = done, name: str = name) -> None:
                if progress:
                    progress(Progress(done, len(sources), name, writer.num_embedded))

            tell()
            if source is None or sum(len(each.texts) for each in group) >= BATCH_SIZE:
                for _ in writer.write(group):
                    tell()
                group.clear()
            if source is not None:
                prepared = self._prepared(source, stated, states, report)
                group += [prepared] if prepared else []
                if source.name in report.failed:
                    writer.remove([source.name])
        writer.throw_out_unused()
        report.embedded = writer.num_embedded
        return report

    def _prepared(
        self, source: Source, defaults: dict[str, str], states: dict[str, str], report: AddReport
    ) -> Prepared | None:
        """The source, read and cut; None if it's in the index as it is, or can't be read. The report says which."""
        try:
            made_of = [FORMAT, repr(self._chunker), self._redactor.kinds, sorted(defaults.items()), source.state()]
            state = digest_of(json.dumps(made_of))
            if states.get(source.name) == state:
                report.unchanged += 1
                return None
            document = source.read(defaults)
        except UnreadableError as error:
            report.failed[source.name] = str(error)
            return None
        chunks = [
            replace(chunk, text=storable(chunk.text), heading=storable(chunk.heading))
            for chunk in self._chunker.chunks(document)
        ]
        texts = [self._redactor.redact(chunk.embedded) for chunk in chunks]
        (report.changed if source.name in states else report.added).append(source.name)
        fields: dict[str, Any] = vars(document.provenance)
        about = Provenance(**{n: storable(v) if isinstance(v, str) else v for n, v in fields.items()})  # type: ignore[arg-type]
        return Prepared(about, state, source.is_file, chunks, texts)

    def remove(self, sources: Iterable[str]) -> None:
        """Takes documents out by their names. What isn't there is passed over."""
        writer = Writer(self._database, self._needed_embedder(), BATCH_SIZE)
        writer.remove(sources)
        writer.throw_out_unused()

    def search(
        self,
        query: str,
        k: int = 8,
        *,
        mode: Mode = "hybrid",
        filters: Filters | None = None,
        now: datetime | None = None,
    ) -> list[Hit]:
        """The chunks that fit a question or some words, best first.

        Args:
            query: a question, or words.
            k: the most to return.
            mode: "words" by BM25, "vectors" by the angle to the question's vector, "hybrid" both, fused by their ranks.
            filters: what may be found: by default, whatever is internal or public of the tenant "default".
            now: what ages are counted from; the present if None.

        Raises:
            RagError: if k is less than 1, or the mode needs vectors and there is no embedder, or another one.
            ServerError: if the embedder fails.
        """
        if k < 1 or mode not in ("hybrid", "words", "vectors"):
            raise RagError(f"k is {k} and mode {mode!r}; expected 1 or more, and hybrid, words or vectors.")
        filters, now = filters or Filters(), now or datetime.now(UTC)
        query, depth = storable(query), max(50, 4 * k)
        vector = None
        if mode != "words":
            embedder = self._needed_embedder()
            check_embedder(self._database, embedder)
        if mode != "words" and query.strip():
            vector = embedder.embed([self._redactor.redact(query)])
            check_embedder(self._database, embedder, vector)
        with self._reading():
            by_words = find_words(self._database, query, filters, depth, now) if mode != "vectors" else []
            nearest = [] if vector is None else find_vectors(self._database, vector, filters, depth, now)
            by_vectors = [chunk for chunk, _ in nearest]
            best = fuse([by_words, by_vectors])[:k]
            hits = load_hits(self._database, [chunk for chunk, _ in best])
        word_ranks = {chunk: rank for rank, chunk in enumerate(by_words, 1)}
        vector_ranks = {chunk: rank for rank, chunk in enumerate(by_vectors, 1)}
        cosines = dict(nearest)
        return [
            replace(
                hits[chunk],
                score=score,
                word_rank=word_ranks.get(chunk),
                vector_rank=vector_ranks.get(chunk),
                similarity=cosines.get(chunk),
            )
            for chunk, score in best
        ]

    def documents(self, tenant: str | None = None) -> list[Provenance]:
        """What is in the index, sorted by name: of one tenant, or of all if None."""
        with self._reading():
            return load_provenance(self._database, tenant)

    def chunks(self, source: str) -> list[Chunk]:
        """A document's chunks in order; none if it isn't in the index."""
        rows = self._database.execute(
            """select text, heading, position, place from chunks
                where document = (select id from documents where source = ?) order by position""",
            (source,),
        )
        return [Chunk(*row) for row in rows]

    def __len__(self) -> int:
        """How many chunks there are."""
        count: int = self._database.execute("select count(*) from chunks").get
        return count

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _needed_embedder(self) -> EmbedsTexts:
        if self._embedder is None:
            raise RagError('The index was opened without an embedder; give it one, or search with mode="words".')
        return self._embedder

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One state of the index for several queries, whatever another process writes meanwhile."""
        self._database.execute("begin deferred")
        try:
            yield
        finally:
            self._database.execute("commit")


def storable(text: str) -> str:
    """The text without what SQLite can't keep: halves of characters, which file names and PDFs have, and zero bytes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", " ")
