"""Markdown to blocks."""

from __future__ import annotations

from dataclasses import replace

from markdown_it import MarkdownIt
from markdown_it.token import Token

from minillm.rag.document import Block
from minillm.rag.html import html_blocks

_CODE = ("fence", "code_block")
_BY_LINES = (*_CODE, "table_open")


def markdown_blocks(text: str) -> list[Block]:
    """The paragraphs, lists, tables and pieces of code under their headings, each as its lines stand in the file."""
    lines = text.split("\n")
    blocks: list[Block] = []
    open_headings: list[tuple[int, str]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for token, following in zip(tokens, [*tokens[1:], None], strict=False):
        if token.level or token.map is None:
            continue
        if token.type == "heading_open":
            level = int(token.tag[1])
            open_headings = [heading for heading in open_headings if heading[0] < level]
            open_headings.append((level, _words(following)))
            continue
        headings, place = tuple(name for _, name in open_headings if name), f"line {token.map[0] + 1}"
        if token.type == "html_block":
            inside = html_blocks(token.content)
            blocks += [replace(block, headings=headings + block.headings, place=place) for block in inside]
        elif token.type != "hr":
            by_lines = token.type in _BY_LINES
            piece = token.content if token.type in _CODE else "\n".join(lines[token.map[0] : token.map[1]])
            if piece.strip():
                blocks.append(Block(piece.strip("\n").rstrip(), headings, "code" if by_lines else "text", place))
    return blocks


def _words(inline: Token | None) -> str:
    """A heading's text without its markup."""
    children = (inline.children if inline else None) or []
    pieces = [" " if child.type.endswith("break") else child.content for child in children]
    return " ".join("".join(pieces).split())
