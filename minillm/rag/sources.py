"""What is named to an index, as a list of documents to be read."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from minillm.rag.document import Document, belonging
from minillm.rag.errors import RagError
from minillm.rag.files import READERS, FileSource, files_in
from minillm.rag.python_docs import PythonModule


class Source(Protocol):
    """A document that can be read."""

    @property
    def name(self) -> str:
        """What it's called in the index."""
        ...

    @property
    def is_file(self) -> bool:
        """Whether it goes from the index when its file is gone."""
        ...

    def state(self) -> str:
        """Another text whenever `read` would give another document."""
        ...

    def read(self, defaults: Mapping[str, str]) -> Document:
        """The document, with these fields where it doesn't say anything else."""
        ...


@dataclass(frozen=True)
class GivenSource:
    """A document that the caller has read already."""

    document: Document
    is_file: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Its source."""
        return self.document.provenance.source

    def state(self) -> str:
        """A hash of all that's in it."""
        return hashlib.sha256(repr(self.document).encode("utf-8", "surrogatepass")).hexdigest()

    def read(self, defaults: Mapping[str, str]) -> Document:
        """The document, for the tenant that it's added for."""
        return belonging(self.document, defaults.get("tenant"))


def gather(
    paths: Iterable[str | Path | PythonModule | Document], base: Path, known: Sequence[str]
) -> tuple[list[Source], list[str]]:
    """The documents that are to be read, each once, and the names of those that are gone.

    Args:
        paths: what the caller named.
        base: what the names of files are relative to.
        known: the names of the files that are in the index.

    Raises:
        RagError: if there's nothing at a path and there never was, or two documents have one name.
    """
    sources: dict[str, Source] = {}
    gone: dict[str, None] = {}
    for path in paths:
        if isinstance(path, PythonModule | Document):
            document = path.read() if isinstance(path, PythonModule) else path
            if document.provenance.source in sources:
                raise RagError(f"Two documents are called {document.provenance.source}; names must differ.")
            sources[document.provenance.source] = GivenSource(document)
            continue
        place = Path(path)
        place = Path(place.parent.resolve(), place.name) if place.is_file() else place.resolve()
        for file in _files(place):
            sources[_name(file, base)] = FileSource(file, _name(file, base))
        below = [name for name in known if (base / name).is_relative_to(place)]
        gone |= dict.fromkeys(below)
        if not below and not place.exists():
            raise RagError(f"There's nothing at {path}.")
    return list(sources.values()), [name for name in gone if name not in sources]


def _files(place: Path) -> Iterable[Path]:
    if place.is_dir():
        return files_in(place)
    if not place.exists():
        return ()
    if place.suffix.lower() not in READERS:
        raise RagError(f"{place.name} can't be read; files that can be end in {', '.join(READERS)}.")
    return (place,)


def _name(file: Path, base: Path) -> str:
    name = file.relative_to(base) if file.is_relative_to(base) else file
    # Not every file name is text; what isn't stays distinct.
    return os.fsencode(name.as_posix()).decode("utf-8", "backslashreplace")
