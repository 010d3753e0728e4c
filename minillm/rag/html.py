"""HTML to blocks: what a reader of the page sees, and no more."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

from bs4 import BeautifulSoup, Comment, MarkupResemblesLocatorWarning
from bs4.element import NavigableString, PageElement, PreformattedString, Tag

from minillm.rag.document import Block

_UNSEEN = (
    "script",
    "style",
    "noscript",
    "template",
    "svg",
    "head",
    "title",
    "nav",
    "footer",
    "form",
    "button",
    "iframe",
)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BLOCK_NAMES = (
    "address article aside blockquote body caption center dd details dialog div dl dt fieldset figcaption figure "
    "header hgroup hr html li main menu ol p section summary table tbody tfoot thead tr ul"
)
_BLOCKS = frozenset(_BLOCK_NAMES.split())


def html_blocks(markup: str | bytes) -> list[Block]:
    """The text under its headings. Scripts, navigation and what the page hides are left out.

    What is hidden from people, by attribute or by its own style, is a favourite place for orders to models.
    """
    soup = parse(markup)
    for element in list(soup.find_all(True)):
        if not element.decomposed and _is_unseen(element):
            element.decompose()
    return list(_Walk().blocks(soup))


def html_fields(markup: str | bytes) -> dict[str, str]:
    """The title and the `<meta name=… content=…>` of a page, by their names in small letters."""
    soup = parse(markup)
    fields: dict[str, str] = {}
    for meta in soup.find_all("meta"):
        name, content = meta.get("name"), meta.get("content")
        if isinstance(name, str) and isinstance(content, str):
            fields.setdefault(name.strip().lower(), content)
    if soup.title is not None:
        fields.setdefault("title", soup.title.get_text())
    return fields


def parse(markup: str | bytes) -> BeautifulSoup:
    """The tree of a page; its encoding is what the page says, or UTF-8."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)  # a page may well be one short word
        return BeautifulSoup(markup, "html.parser")


def _is_unseen(element: Tag) -> bool:
    style = str(element.get("style") or "").replace(" ", "").lower()
    return (
        element.name in _UNSEEN
        or element.has_attr("hidden")
        or element.get("aria-hidden") == "true"
        or "display:none" in style
        or "visibility:hidden" in style
        or "font-size:0" in style
    )


class _Walk:
    """Goes through the tree in order, gathers the text of a paragraph, and gives it out where a block ends."""

    def __init__(self) -> None:
        self._open: list[tuple[int, str]] = []
        self._pieces: list[str] = []

    def blocks(self, element: Tag) -> Iterator[Block]:
        # A stack rather than recursion: pages nest deeper than Python calls.
        pending: list[PageElement | None] = [element]
        while pending:
            node = pending.pop()
            if node is None:  # a block's end
                yield from self._paragraph()
            elif isinstance(node, Tag):
                yield from self._enter(node, pending)
            elif isinstance(node, NavigableString) and not isinstance(node, PreformattedString | Comment):
                self._pieces.append(str(node))
        yield from self._paragraph()

    def _enter(self, tag: Tag, pending: list[PageElement | None]) -> Iterator[Block]:
        if tag.name in _HEADINGS:
            yield from self._paragraph()
            level, words = _HEADINGS[tag.name], " ".join(tag.get_text().split())
            self._open = [heading for heading in self._open if heading[0] < level]
            self._open += [(level, words)] if words else []
        elif tag.name == "pre":
            yield from self._paragraph()
            if code := tag.get_text().strip("\n").rstrip():
                yield self._block(code, "code")
        elif tag.name == "br":
            self._pieces.append("\n")
        elif tag.name in ("td", "th"):  # a row stays one paragraph
            self._pieces.append(" | " if any(piece.strip() for piece in self._pieces) else " ")
            pending.extend(reversed(list(tag.children)))
        else:
            if tag.name in _BLOCKS:
                yield from self._paragraph()
                pending.append(None)
            pending.extend(reversed(list(tag.children)))

    def _paragraph(self) -> Iterator[Block]:
        text = " ".join("".join(self._pieces).split())
        self._pieces.clear()
        if text:
            yield self._block(text, "text")

    def _block(self, text: str, kind: str) -> Block:
        headings = tuple(words for _, words in self._open)
        return Block(text, headings, "code" if kind == "code" else "text")
