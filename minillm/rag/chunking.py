"""Documents cut into chunks: small enough to be one thought, large enough to be understood alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from minillm.rag.document import Block, Document
from minillm.rag.errors import RagError

_SENTENCE_END = re.compile(r"""(?<=[.!?…])\s+|(?<=[.!?…]["')\]”’])\s+|\n+|(?<=[。！？])""")


@dataclass(frozen=True)
class Chunk:
    """A stretch of a document.

    Attributes:
        text: as in the document.
        heading: the document's title and the headings above, such as "Handbook › Leave › Carry-over".
        position: its place among the document's chunks, from 0 on.
        place: where it begins, for people: "line 12", "page 3", or "".
    """

    text: str
    heading: str
    position: int
    place: str = ""

    @property
    def embedded(self) -> str:
        """What is embedded: the text below its heading, without which many a paragraph says little."""
        return f"{self.heading}\n{self.text}"


@dataclass(frozen=True)
class Chunker:
    """Cuts along the structure: never across a heading, between blocks rather than in one, and then between sentences.

    Attributes:
        max_characters: of a chunk's text. 800 are about 200 tokens of English; all-MiniLM-L6-v2 reads 256.
        overlap: at most so many characters at the end of a chunk stand at the beginning of the next as well, in whole
            sentences or lines, so that what refers to the sentence before is found with it.
    """

    max_characters: int = 800
    overlap: int = 120

    def __post_init__(self) -> None:
        if self.max_characters < 40 or not 0 <= self.overlap <= self.max_characters // 2:
            raise RagError(
                f"max_characters is {self.max_characters} and overlap {self.overlap}; expected at least 40, and at "
                "most half of it."
            )

    def chunks(self, document: Document) -> list[Chunk]:
        """The document's chunks, in order. Each character of its blocks that isn't white space is in at least one."""
        title = document.provenance.title
        found: list[Chunk] = []
        for headings, blocks in groupby(document.blocks, key=lambda block: block.headings):
            above = headings if headings[:1] == (title,) else (title, *headings)
            for pieces in self._packed(self._pieces(blocks)):
                text = pieces[0].text + "".join(piece.separator + piece.text for piece in pieces[1:])
                found.append(Chunk(text, " › ".join(above), len(found), pieces[0].place))
        return found

    def _pieces(self, blocks: Iterable[Block]) -> Iterator[_Piece]:
        """Blocks that fit, whole; of the others, their sentences or lines."""
        for block in blocks:
            if len(block.text) <= self.max_characters:
                yield _Piece(block.text, "\n\n", block.place)
                continue
            parts = block.text.split("\n") if block.kind == "code" else _sentences(block.text)
            separator = "\n\n"
            for part in parts:
                for piece in self._cut(part):
                    yield _Piece(piece, separator, block.place)
                    separator = "\n" if block.kind == "code" else " "

    def _cut(self, text: str) -> Iterator[str]:
        """A sentence that's too long, at spaces, or anywhere if it has none."""
        while len(text) > self.max_characters:
            end = text.rfind(" ", self.max_characters // 2, self.max_characters)
            end = self.max_characters if end < 0 else end
            yield text[:end].rstrip()
            text = text[end:].lstrip()
        if text:
            yield text

    def _packed(self, pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
        packed: list[_Piece] = []
        for piece in pieces:
            if packed and _length([*packed, piece]) > self.max_characters:
                yield packed
                packed = self._tail(packed)
                if _length([*packed, piece]) > self.max_characters:
                    packed = []
            packed.append(piece)
        if packed:
            yield packed

    def _tail(self, pieces: list[_Piece]) -> list[_Piece]:
        """The last pieces, as many as the overlap holds."""
        start = len(pieces)
        while start > 1 and _length(pieces[start - 1 :]) <= self.overlap:
            start -= 1
        return pieces[start:]


@dataclass(frozen=True)
class _Piece:
    text: str
    separator: str
    place: str


def _length(pieces: list[_Piece]) -> int:
    """Of the text that they make, the separator before the first left out."""
    return sum(len(piece.separator) + len(piece.text) for piece in pieces) - len(pieces[0].separator) if pieces else 0


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
