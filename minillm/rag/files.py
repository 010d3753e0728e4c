"""Files as documents: which of a folder are read, and how."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from minillm.rag.document import Block, Document, Provenance, split_front_matter, with_stated
from minillm.rag.errors import UnreadableError
from minillm.rag.html import html_blocks, html_fields
from minillm.rag.markdown import markdown_blocks
from minillm.rag.pdf import pdf_document

MAX_FILE_BYTES = 50 * 2**20
"""Larger files are refused: what is meant to be read by people isn't that large."""

Read = Callable[[bytes, str], tuple[dict[str, str], list[Block]]]


@dataclass(frozen=True)
class FileSource:
    """A file that is to be indexed.

    Attributes:
        path: where it is.
        name: what it's called in the index.
    """

    path: Path
    name: str
    is_file: ClassVar[bool] = True

    def state(self) -> str:
        """Of the file's bytes, its time and its owner.

        Raises:
            UnreadableError: if it's gone, too large or not to be read.
        """
        data, updated = self._data()
        return f"{hashlib.sha256(data).hexdigest()} {updated} {_owner(self.path)}"

    def read(self, defaults: Mapping[str, str]) -> Document:
        """The file's blocks and provenance: what the file says itself, then `defaults`, then what its folder says.

        Raises:
            UnreadableError: if it can't be read, is damaged, in an encoding other than UTF-8, without any text, or
                says that it's of another tenant than `defaults`.
        """
        data, updated = self._data()
        stated, blocks = READERS[self.path.suffix.lower()](data, self.name)
        if not blocks:
            raise UnreadableError(f"{self.name} has no text.")
        known = Provenance(
            source=self.name,
            title=next((block.headings[0] for block in blocks if block.headings), self.path.name),
            owner=_owner(self.path),
            updated=datetime.fromtimestamp(updated, UTC),
            digest=hashlib.sha256(data).hexdigest(),
        )
        about = with_stated(with_stated(known, defaults), stated)
        if "tenant" in defaults and about.tenant != defaults["tenant"]:
            raise UnreadableError(f"{self.name} says it's of tenant {about.tenant!r}, not of {defaults['tenant']!r}.")
        return Document(replace(about, version=about.version or about.digest[:12]), tuple(blocks))

    def _data(self) -> tuple[bytes, int]:
        try:
            about = self.path.stat()
            if about.st_size > MAX_FILE_BYTES:
                raise UnreadableError(
                    f"{self.name} has {about.st_size:,} bytes; files up to {MAX_FILE_BYTES:,} are read. Split it."
                )
            return self.path.read_bytes(), int(about.st_mtime)
        except OSError as error:
            raise UnreadableError(f"{self.name} can't be read ({error.strerror}).") from error


def files_in(folder: Path) -> Iterator[Path]:
    """The files of a folder, and of those in it, that can be read, in order of their names.

    Hidden ones are left out, and links that lead out of the folder: who may write into it can't publish other files.
    """
    root = folder.resolve()
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            is_inside = not path.is_symlink() or path.resolve().is_relative_to(root)
            if not name.startswith(".") and path.suffix.lower() in READERS and path.is_file() and is_inside:
                yield path


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (KeyError, NotImplementedError, OSError):  # a user without a name; Windows
        return "unknown"


def _text(data: bytes, source: str) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{source} isn't UTF-8 (byte {error.start}). Save it as UTF-8.") from error
    if "\0" in text:
        raise UnreadableError(f"{source} isn't text: it has zero bytes.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _read_markdown(data: bytes, source: str) -> tuple[dict[str, str], list[Block]]:
    stated, text = split_front_matter(_text(data, source))
    return stated, markdown_blocks(text)


def _read_text(data: bytes, source: str) -> tuple[dict[str, str], list[Block]]:
    """A block ends at an empty line."""
    blocks: list[Block] = []
    lines: list[str] = []
    for number, line in enumerate([*_text(data, source).split("\n"), ""], 1):
        if line.strip():
            lines.append(line.rstrip())
        elif lines:
            blocks.append(Block("\n".join(lines), place=f"line {number - len(lines)}"))
            lines = []
    return {}, blocks


def _read_html(data: bytes, source: str) -> tuple[dict[str, str], list[Block]]:
    return html_fields(data), html_blocks(data)


READERS: dict[str, Read] = {
    ".md": _read_markdown,
    ".markdown": _read_markdown,
    ".txt": _read_text,
    ".html": _read_html,
    ".htm": _read_html,
    ".pdf": pdf_document,
}
"""What reads a file, by its name's ending."""
