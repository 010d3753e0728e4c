"""The streamed text equals `decode` of all ids, for every sequence of ids, and never shows half a
character."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from minillm.errors import InvalidRequestError, UnsupportedModelError
from minillm.text import Detokenizer, Tokenizer, tiny_tokenizer

TINY = tiny_tokenizer()
PICTURES = "👩🏽‍💻 🏳️‍🌈 🇩🇪 漢字 नमस्ते e\u0301 각 ﷽ 𓀀 \x00 \ufffd"


def streamed(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.push(token_id) for token_id in ids), detokenizer.flush()]


@given(st.lists(st.integers(0, TINY.vocab_size + 5), max_size=60))
def test_stream_equals_decode_for_any_ids(ids: list[int]) -> None:
    assert "".join(streamed(TINY, ids)) == TINY.decode(ids)


@given(st.binary(max_size=40))
@example(b"\xf0\x9f\x98")  # an emoji without its end
@example(b"\xf0\x9f\x98A")
@example(b"\xed\xa0\x80")  # a surrogate, which UTF-8 forbids
@example(b"\xc0\x80\xff\xfe")
@example(b"\xf4\x90\x80\x80")  # beyond Unicode
def test_stream_equals_decode_for_any_bytes(data: bytes) -> None:
    id_of_byte = {TINY.token_bytes(token_id): token_id for token_id in range(3, 259)}
    ids = [id_of_byte[bytes([byte])] for byte in data]
    assert "".join(streamed(TINY, ids)) == TINY.decode(ids) == data.decode("utf-8", errors="replace")


@given(st.text(max_size=60))
def test_text_survives_token_by_token(text: str) -> None:
    pieces = streamed(TINY, TINY.encode(text))
    assert "".join(pieces) == text
    shown = ""
    for piece in pieces:
        shown += piece
        assert text.startswith(shown), "half a character was shown"


@given(st.lists(st.integers(0, 49_151), max_size=40))
def test_stream_equals_decode_on_the_real_vocabulary(smollm2: Tokenizer, ids: list[int]) -> None:
    assert "".join(streamed(smollm2, ids)) == smollm2.decode(ids)


def test_nothing_is_shown_until_a_character_is_complete(smollm2: Tokenizer) -> None:
    ids = smollm2.encode("🙂")
    assert len(ids) > 1
    assert streamed(smollm2, ids) == [""] * (len(ids) - 1) + ["🙂", ""]


def test_an_unfinished_character_becomes_a_replacement_at_the_end(smollm2: Tokenizer) -> None:
    ids = [*smollm2.encode("ok"), *smollm2.encode("🙂")[:-1]]
    assert "".join(streamed(smollm2, ids)) == smollm2.decode(ids) == "ok\ufffd"


def test_emoji_and_scripts_round_trip(smollm2: Tokenizer, hard_strings: tuple[str, ...]) -> None:
    for text in (PICTURES, *hard_strings):
        assert "".join(streamed(smollm2, smollm2.encode(text))) == text


def test_special_tokens_are_skipped_even_inside_a_character(smollm2: Tokenizer) -> None:
    first, *rest = smollm2.encode("🙂")
    ids = [1, first, 2, *rest, 0]
    assert "".join(streamed(smollm2, ids)) == smollm2.decode(ids) == "🙂"


def test_special_tokens_can_be_kept(tiny: Tokenizer) -> None:
    detokenizer = Detokenizer(tiny, skip_special_tokens=False)
    assert detokenizer.push(1) + detokenizer.flush() == "<|im_start|>"
    assert tiny.decode([1], skip_special_tokens=False) == "<|im_start|>"


def test_elements_of_a_tensor_are_token_ids(tiny: Tokenizer) -> None:
    detokenizer = Detokenizer(tiny)
    ids = torch.tensor([1, *tiny.encode("hi"), 2])
    assert "".join(map(detokenizer.push, ids)) == "hi"


def test_flush_makes_it_ready_for_the_next_stream(tiny: Tokenizer) -> None:
    detokenizer = Detokenizer(tiny)
    detokenizer.push(tiny.encode("🙂")[0])
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.push(tiny.encode("a")[0]) == "a"
    assert detokenizer.flush() == ""


def test_negative_ids_are_refused(tiny: Tokenizer) -> None:
    with pytest.raises(InvalidRequestError, match="0 or more"):
        Detokenizer(tiny).push(-1)


def test_an_encoders_tokens_are_refused(minilm_path: object) -> None:
    tokenizer = Tokenizer.from_folder(str(minilm_path))
    with pytest.raises(UnsupportedModelError, match="encoder"):
        Detokenizer(tokenizer)
