"""PDF to blocks, page by page."""

from __future__ import annotations

import io
import logging
import re
from contextlib import suppress

from pypdf import PdfReader

from minillm.rag.document import Block
from minillm.rag.errors import UnreadableError

_BROKEN_WORD = re.compile(r"(?<=[^\W\d_])-\n(?=[a-zà-ÿ])")


def pdf_document(data: bytes, source: str) -> tuple[dict[str, str], list[Block]]:
    """The fields and the paragraphs of a PDF. A paragraph ends at an empty line or with its page.

    Args:
        data: the file.
        source: its name, for errors.

    Raises:
        UnreadableError: if it's damaged, needs a password, or has no text, as a scan.
    """
    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it reports every slip of the programs that write PDFs
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableError(f"{source}: the PDF needs a password.")
        pages = [page.extract_text() for page in reader.pages]
        fields = _fields(reader)
    except UnreadableError:
        raise
    except Exception as error:  # damaged files make the library raise nearly anything
        raise UnreadableError(f"{source}: the PDF can't be read ({type(error).__name__}: {error}).") from error
    blocks = [
        Block(paragraph, place=f"page {number}")
        for number, text in enumerate(pages, 1)
        for part in re.split(r"\n\s*\n", text)
        if (paragraph := " ".join(_BROKEN_WORD.sub("", part).split()))
    ]
    if not blocks:
        raise UnreadableError(f"{source}: the PDF has no text. If it's a scan, run it through OCR first.")
    return fields, blocks


def _fields(reader: PdfReader) -> dict[str, str]:
    fields: dict[str, str] = {}
    with suppress(Exception):  # a wrong date in a file that can be read otherwise
        about = reader.metadata
        if about is not None:
            fields = {"title": about.title or "", "owner": about.author or ""}
            moment = about.modification_date or about.creation_date
            if moment is not None:
                fields["updated"] = moment.isoformat()
    return fields
