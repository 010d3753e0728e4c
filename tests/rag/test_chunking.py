"""Chunks keep to the structure, overlap, and lose nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rag_files import NOW

from minillm.rag import Block, Chunker, Document, Provenance, RagError

ABOUT = Provenance("a.md", "Handbook", "Ann", NOW)


def cut(*blocks: Block, **options: int) -> list[tuple[str, str]]:
    return [(c.heading, c.text) for c in Chunker(**options).chunks(Document(ABOUT, blocks))]


def test_a_heading_begins_a_chunk_and_stands_above_it() -> None:
    blocks = (Block("a"), Block("b", ("Leave",)), Block("c", ("Leave",)), Block("d", ("Handbook", "Leave")))
    assert cut(*blocks) == [("Handbook", "a"), ("Handbook › Leave", "b\n\nc"), ("Handbook › Leave", "d")]


def test_a_paragraph_is_not_cut_where_it_fits_the_next_chunk() -> None:
    assert cut(Block("a" * 60), Block("b" * 60), max_characters=100, overlap=0) == [
        ("Handbook", "a" * 60),
        ("Handbook", "b" * 60),
    ]


def test_the_end_of_a_chunk_stands_at_the_beginning_of_the_next() -> None:
    sentences = [f"This is sentence number {n}." for n in range(10, 20)]
    texts = [text for _, text in cut(Block(" ".join(sentences)), max_characters=100, overlap=30)]
    assert texts[0] == " ".join(sentences[:3])
    assert texts[1] == " ".join(sentences[2:5])


def test_code_is_cut_between_lines_and_keeps_its_indentation() -> None:
    lines = [f"    line_{n} = {n}" for n in range(30)]
    texts = [text for _, text in cut(Block("\n".join(lines), kind="code"), max_characters=100, overlap=20)]
    assert all(line in lines for text in texts for line in text.split("\n"))
    assert texts[0].startswith("    line_0")


def test_a_long_word_is_cut_anywhere() -> None:
    assert [text for _, text in cut(Block("x" * 250), max_characters=100, overlap=0)] == ["x" * 100] * 2 + ["x" * 50]


BLOCKS = st.lists(
    st.builds(
        Block,
        st.text(st.sampled_from("ab .!?\n“。"), min_size=1, max_size=300).filter(str.strip),
        st.sampled_from([(), ("A",), ("A", "B")]),
        st.sampled_from(["text", "code"]),
    ),
    max_size=6,
)


@settings(max_examples=150)
@given(BLOCKS, st.integers(40, 120), st.integers(0, 20))
def test_nothing_is_lost_and_nothing_too_long(blocks: list[Block], size: int, overlap: int) -> None:
    chunks = Chunker(size, overlap).chunks(Document(ABOUT, tuple(blocks)))
    assert [chunk.position for chunk in chunks] == list(range(len(chunks)))
    assert all(0 < len(chunk.text) <= size for chunk in chunks)
    # Without its white space, each chunk goes on where the ones before end, or repeats at most an overlap of them.
    whole = "".join("".join(block.text.split()) for block in blocks)
    reached = 0
    for chunk in chunks:
        text = "".join(chunk.text.split())
        starts = [start for start in range(max(0, reached - overlap), reached + 1) if whole.startswith(text, start)]
        assert starts
        reached = max(reached, max(start + len(text) for start in starts if start + len(text) >= reached))
    assert reached == len(whole)


@pytest.mark.parametrize(("size", "overlap"), [(39, 0), (100, 51), (100, -1)])
def test_sizes_that_make_no_sense_are_refused(size: int, overlap: int) -> None:
    with pytest.raises(RagError, match="at least 40"):
        Chunker(size, overlap)
