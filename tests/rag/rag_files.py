"""What the tests of minillm.rag share: an embedder without a model, files of each kind, and an index's content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from minillm.rag import Block, Document, Index, Provenance
from minillm.rag.embedding import Vectors

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class WordEmbedder:
    """A text's vector is the sum of its words' random directions: shared words make texts near."""

    model = "words"

    def __init__(self, dimensions: int = 64) -> None:
        self.asked: list[str] = []
        self.batches: list[int] = []
        self.fails_at: int | None = None
        self._dimensions = dimensions

    def embed(self, texts: Sequence[str]) -> Vectors:
        if self.fails_at is not None and len(self.batches) >= self.fails_at:
            raise KeyboardInterrupt
        self.batches.append(len(texts))
        self.asked += texts
        vectors = np.array([self._vector(text) for text in texts], dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _vector(self, text: str) -> Any:
        total = np.full(self._dimensions, 1e-3)
        for word in text.lower().split():
            seed = int.from_bytes(hashlib.sha256(word.strip(".,:!?").encode()).digest()[:4], "big")
            total += np.random.default_rng(seed).standard_normal(self._dimensions)
        return total


def document(source: str, text: str, **about: Any) -> Document:
    """A document of one block."""
    fields = {"title": source, "owner": "somebody", "updated": NOW} | about
    return Document(Provenance(source, **fields), (Block(text),))


def content(index: Index) -> list[Any]:
    """All that's in an index, whatever the order that it came in, and what some searches find."""
    documents = index.documents()
    found = [
        [(hit.provenance.source, hit.chunk.position, hit.score, hit.similarity) for hit in index.search(query, now=NOW)]
        for query in ("red apples", "blue", "a green boat at sea")
    ]
    return [(about, index.chunks(about.source)) for about in documents] + [found]


def write_pdf(path: Path, pages: Sequence[Sequence[str]], **about: str) -> None:
    """A PDF with these lines on its pages, written by hand: each page's text one line below the other."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    kids = []
    for lines in pages:
        shown = " ".join(f"({_escaped(line)}) Tj 0 -14 Td" for line in lines)
        stream = f"BT /F1 11 Tf 50 750 Td {shown} ET"
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        kids.append(len(objects) + 1)
        of_page = f"/Resources << /Font << /F1 3 0 R >> >> /Contents {len(objects)} 0 R"
        objects.append(f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] {of_page} >>")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] /Count {len(kids)} >>"
    objects.append("<< " + " ".join(f"/{name} ({_escaped(value)})" for name, value in about.items()) + " >>")
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    start = len(data)
    data += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    data += b"".join(f"{offset:010} 00000 n \n".encode() for offset in offsets)
    data += f"trailer << /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>\n".encode()
    path.write_bytes(data + f"startxref\n{start}\n%%EOF\n".encode())


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
