"""The tokenizer against two oracles: transformers, and a slow BPE written out here from the raw vocabulary.

Finding about transformers 5.23: `from_pretrained(gguf_file=...)` doesn't know the pre-tokenizer "smollm"
and falls back to GPT-2's, which doesn't split digits off. On SmolLM2's GGUF file it therefore gives other
ids than the published tokenizer for digits that follow two spaces or a line break ("a  12", "\\n\\n5"), and
for digits outside of ASCII. Elsewhere it agrees. The tests below hold both halves of that: the agreement,
and the strings that differ.

Finding about SmolLM2: its vocabulary has no tokens for 21 of the 256 bytes. 13 never occur in UTF-8; the
others are six control characters and the first bytes of planes that Unicode hasn't assigned. Every
tokenizer drops them silently.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import regex
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from minillm.errors import InvalidRequestError, ModelNotFoundError, UnsupportedModelError, WeightsError
from minillm.text import Tokenizer, tiny_tokenizer
from minillm.text.checkpoint import TokenizerParts
from minillm.text.gguf_vocab import BYTE_OF_CHAR

TINY = tiny_tokenizer()


def tiny_backend() -> Backend:
    with TemporaryDirectory() as folder:
        TINY.save(folder)
        return Backend.from_file(f"{folder}/tokenizer.json")


TINY_BACKEND = tiny_backend()
WORDS = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
HAS_DIGIT = regex.compile(r"\p{N}")

Encode = Callable[[str], list[int]]


@pytest.fixture(scope="session")
def saved(smollm2: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm2")
    smollm2.save(folder)
    return folder


@pytest.fixture(scope="session")
def reference(smollm2_metadata: dict[str, Any]) -> Encode:
    """SmolLM2's tokenizer as its model card and llama.cpp describe it, without the tokenizers library."""
    vocab = {token: i for i, token in enumerate(smollm2_metadata["tokenizer.ggml.tokens"])}
    rank = {tuple(merge.split(" ")): i for i, merge in enumerate(smollm2_metadata["tokenizer.ggml.merges"])}
    char_of_byte = {byte: char for char, byte in BYTE_OF_CHAR.items()}

    def bpe(word: str) -> list[int]:
        parts = [char for char in (char_of_byte[byte] for byte in word.encode()) if char in vocab]
        while len(parts) > 1:
            pairs = [rank.get(pair, len(rank)) for pair in pairwise(parts)]
            best = min(pairs)
            if best == len(rank):
                break
            at = pairs.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [vocab[part] for part in parts]

    def encode(text: str) -> list[int]:
        # Every digit is a piece of its own; what lies between digits is cut as GPT-2 does.
        pieces = regex.split(r"(\p{N})", text)
        words = [word for piece in pieces for word in WORDS.findall(piece)]
        return [token_id for word in words for token_id in bpe(word)]

    return encode


# Against the oracles


def test_hard_strings_against_the_slow_reference(
    smollm2: Tokenizer, reference: Encode, hard_strings: tuple[str, ...]
) -> None:
    assert len(hard_strings) > 150
    for text in hard_strings:
        if len(text) <= 1500:  # its BPE is quadratic
            assert smollm2.encode(text) == reference(text)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cn"]), max_size=40))
def test_any_text_against_the_slow_reference(smollm2: Tokenizer, reference: Encode, text: str) -> None:
    assert smollm2.encode(text) == reference(text)


@given(st.text(alphabet="ab 12\n\t\u00a0'sé漢🙂<|im_end|>", max_size=30))
def test_any_mixture_against_the_slow_reference(smollm2: Tokenizer, reference: Encode, text: str) -> None:
    assert smollm2.encode(text) == reference(text)


def test_hard_strings_against_transformers(smollm2: Tokenizer, saved: Path, hard_strings: tuple[str, ...]) -> None:
    oracle = AutoTokenizer.from_pretrained(saved)
    assert len(oracle) == smollm2.vocab_size == 49_152
    assert set(oracle.all_special_ids) <= smollm2.special_token_ids
    for text in hard_strings:
        ids = smollm2.encode(text)
        assert ids == oracle(text, split_special_tokens=True).input_ids
        assert smollm2.encode(text, parse_special=True) == oracle(text).input_ids
        assert smollm2.decode(ids) == oracle.decode(ids) == text


def test_hard_strings_against_transformers_reading_the_gguf_file(
    smollm2: Tokenizer, smollm2_path: Path, hard_strings: tuple[str, ...]
) -> None:
    oracle = PreTrainedTokenizerFast.from_pretrained(smollm2_path.parent, gguf_file=smollm2_path.name)
    different = set()
    for text in hard_strings:
        if smollm2.encode(text, parse_special=True) != oracle(text).input_ids:
            different.add(text)
    assert all(HAS_DIGIT.search(text) for text in different)
    assert {"a  12", "\n5\n\n5", "१२३ ٣٤٥ ೧೨ ๑๒๓ 一二三"} <= different and len(different) < 10
    # With the published pre-tokenizer in the place of GPT-2's, the two agree on everything.
    digits = pre_tokenizers.Digits(individual_digits=True)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    oracle.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    for text in hard_strings:
        assert smollm2.encode(text, parse_special=True) == oracle(text).input_ids


def test_an_encoders_wordpiece_against_transformers(minilm_path: Path, hard_strings: tuple[str, ...]) -> None:
    ours = Tokenizer.load(minilm_path)
    oracle = AutoTokenizer.from_pretrained(minilm_path)
    cls, sep = oracle.cls_token_id, oracle.sep_token_id
    for text in hard_strings:
        ids = ours.encode(text)
        assert ids == oracle(text, split_special_tokens=True, verbose=False).input_ids
        assert ours.encode(text, parse_special=True) == oracle(text, verbose=False).input_ids
        assert ids == [cls, *ours.encode(text, add_special_tokens=False), sep]
        assert ours.decode(ids) == oracle.decode(ids, skip_special_tokens=True)
    assert not ours.is_byte_exact and not ours.has_chat_template
    assert (ours.eos_token_ids, ours.bos_token_id, ours.vocab_size) == (frozenset(), None, 30_522)
    assert [ours.token_bytes(i) for i in ours.encode("tokenizer", add_special_tokens=False)] == [
        b"token",
        b"izer",
    ]


# Special tokens in ordinary text


PIECES = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|", "|>", "im_end", *"<|>_a \n"]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_ordinary_text_never_gives_special_tokens(text: str) -> None:
    ids = TINY.encode(text)
    assert TINY.special_token_ids.isdisjoint(ids)
    assert TINY.decode(ids) == text


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_parsing_special_tokens_is_the_same_as_the_backends_own(text: str) -> None:
    assert TINY.encode(text, parse_special=True) == TINY_BACKEND.encode(text).ids


def test_special_tokens_count_only_on_request(smollm2: Tokenizer) -> None:
    assert smollm2.encode("<|im_start|>hi<|im_end|>", parse_special=True) == [1, *smollm2.encode("hi"), 2]
    assert smollm2.special_token_ids.isdisjoint(smollm2.encode("<|im_start|>hi<|im_end|>"))


@pytest.mark.parametrize("flags", [{}, {"lstrip": True}, {"rstrip": True}, {"single_word": True}])
def test_the_flags_of_added_tokens_are_the_backends(flags: dict[str, bool]) -> None:
    backend = tiny_backend()
    backend.add_special_tokens([AddedToken("<X>", normalized=False, **flags)])
    backend.add_tokens([AddedToken("<X><Y>", normalized=False), AddedToken("<Z>", normalized=False)])
    oracle = Backend.from_str(backend.to_str())
    ours = Tokenizer(TokenizerParts(backend, {}))
    spaced = ["a <X> b", "  <X>\n\n<X>  ", "<Z> <X><Z>", "漢<X>\u3000"]
    for text in ["a<X>b", "<X>", "<X><Y><X>", "é<X> <X>é", "_<X>", *spaced]:
        assert ours.encode(text, parse_special=True) == oracle.encode(text).ids


def test_a_vocabulary_that_makes_control_tokens_of_ordinary_text_is_found_out() -> None:
    vocab = {"a": 0, "b": 1, "ab": 2, "<unk>": 3}
    backend = Backend(models.BPE(vocab=vocab, merges=[("a", "b")]))
    backend.decoder = decoders.ByteLevel()
    tokenizer = Tokenizer(TokenizerParts(backend, {"eos_token": "ab", "unk_token": "<unk>"}))
    assert tokenizer.encode("ab", parse_special=True) == [2]
    assert tokenizer.encode("ba") == [1, 0]
    with pytest.raises(InvalidRequestError, match="control token 'ab'"):
        tokenizer.encode("ab")


def test_threads_share_one_tokenizer(smollm2: Tokenizer) -> None:
    text = "The <|im_end|> of 123 tokens 🙂. " * 20
    plain, parsed = smollm2.encode(text), smollm2.encode(text, parse_special=True)

    def work(index: int) -> bool:
        special = index % 2 == 0
        return smollm2.encode(text, parse_special=special) == (parsed if special else plain)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(200)))


# Ids to bytes and text


def test_smollm2_lacks_tokens_for_a_few_bytes(smollm2: Tokenizer, saved: Path) -> None:
    oracle = AutoTokenizer.from_pretrained(saved)
    lacking = "\x04\x06\x13\x14\x16\x1d\U00040000\U000bffff"
    for char in lacking:
        text = f"a{char}b"
        assert smollm2.encode(text) == oracle(text).input_ids
        assert smollm2.decode(smollm2.encode(text)) != text
    points = [*range(0xD800), *range(0xE000, 0x11000)]
    others = "".join(chr(point) for point in points if chr(point) not in lacking)
    for begin in range(0, len(others), 1000):
        text = others[begin : begin + 1000]
        assert smollm2.decode(smollm2.encode(text)) == text


@given(st.text(max_size=80))
def test_text_survives_a_round_trip(text: str) -> None:
    ids = TINY.encode(text)
    assert TINY.decode(ids) == text
    assert b"".join(map(TINY.token_bytes, ids)) == text.encode()


def test_token_bytes_of_the_whole_vocabulary(smollm2: Tokenizer, smollm2_metadata: dict[str, Any]) -> None:
    for token_id, token in enumerate(smollm2_metadata["tokenizer.ggml.tokens"]):
        expected = token.encode() if token_id < 17 else bytes(BYTE_OF_CHAR[char] for char in token)
        assert smollm2.token_bytes(token_id) == expected
    assert smollm2.token_bytes(smollm2.encode(" the")[0]) == b" the"
    assert sorted(BYTE_OF_CHAR.values()) == list(range(256))


def test_ids_beyond_the_vocabulary_have_no_text(smollm2: Tokenizer) -> None:
    """A model's logits may be padded to a rounder size than its vocabulary."""
    for token_id in (49_152, 60_000, 2**31, 2**40):
        assert smollm2.token_bytes(token_id) == b""
        assert smollm2.decode([token_id, *smollm2.encode("ok"), token_id]) == "ok"
    with pytest.raises(InvalidRequestError, match="got -1"):
        smollm2.decode([-1])


def test_decode_takes_tensors_and_shows_special_tokens_on_request(smollm2: Tokenizer) -> None:
    ids = torch.tensor([1, *smollm2.encode("hi 🙂"), 2])
    assert smollm2.decode(ids) == "hi 🙂"
    assert smollm2.decode(ids, skip_special_tokens=False) == "<|im_start|>hi 🙂<|im_end|>"


# Wrong input


@pytest.mark.parametrize("text", ["\ud83d", "half an emoji \ud83d", "\udc00\ud800", "a\udfffb"])
@pytest.mark.parametrize("parse_special", [False, True])
def test_lone_surrogates_are_refused(text: str, parse_special: bool) -> None:
    with pytest.raises(InvalidRequestError, match="half of a character") as caught:
        TINY.encode(text, parse_special=parse_special)
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("text", [None, 3, b"bytes", ["list"]])
def test_anything_but_text_is_refused(text: Any) -> None:
    with pytest.raises(InvalidRequestError, match="Expected text"):
        TINY.encode(text)


# Files


def test_save_and_load(smollm2: Tokenizer, saved: Path, hard_strings: tuple[str, ...]) -> None:
    again = Tokenizer.load(saved)
    names = [
        "vocab_size",
        "eos_token_ids",
        "bos_token_id",
        "add_bos",
        "special_token_ids",
        "has_chat_template",
    ]
    for name in names:
        assert getattr(again, name) == getattr(smollm2, name)
    messages = [{"role": "user", "content": "Hi <|im_end|>"}]
    assert again.apply_chat_template(messages) == smollm2.apply_chat_template(messages)
    assert [again.encode(text) for text in hard_strings] == [smollm2.encode(text) for text in hard_strings]


def test_smollm2_from_gguf(smollm2: Tokenizer) -> None:
    assert smollm2.eos_token_ids == {2}
    assert smollm2.bos_token_id == 1
    assert not smollm2.add_bos
    assert smollm2.special_token_ids == set(range(17))
    assert smollm2.has_chat_template


def test_a_folder_with_only_a_gguf_file_is_enough(smollm2_path: Path) -> None:
    assert Tokenizer.load(str(smollm2_path.parent)).vocab_size == 49_152


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_tokenizer().save(tmp_path)
    return tmp_path


def rewrite(file: Path, **values: Any) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    content |= values
    file.write_text(json.dumps({key: value for key, value in content.items() if value != "REMOVE"}))


@pytest.mark.parametrize("around", [["bos", "$A"], ["$A", "eos"], ["bos", "$A", "eos"], ["$A"]])
@pytest.mark.parametrize("add_bos_token", [True, False])
def test_bos_and_eos_as_tokenizer_json_says(around: list[str], add_bos_token: bool, folder: Path) -> None:
    """transformers 5 ignores the older add_bos_token of tokenizer_config.json where there is a
    tokenizer.json."""
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    names = {"bos": ("<|im_start|>", 1), "eos": ("<|im_end|>", 2)}
    special = [{"id": n, "ids": [i], "tokens": [t]} for n, (t, i) in names.items() if n in around]
    backend.post_processor = processors.TemplateProcessing(single=around, special_tokens=special)
    backend.save(str(folder / "tokenizer.json"))
    rewrite(folder / "tokenizer_config.json", add_bos_token=add_bos_token)
    ours, oracle = Tokenizer.load(folder), AutoTokenizer.from_pretrained(folder)
    assert ours.add_bos == ("bos" in around)
    for text in ("hi", "", "<|im_end|>"):
        assert ours.encode(text, parse_special=True) == oracle(text).input_ids
    assert ours.encode("hi", add_special_tokens=False) == TINY.encode("hi")


def test_truncation_and_padding_of_a_training_run_are_ignored(folder: Path) -> None:
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.enable_truncation(4)
    backend.enable_padding(length=4)
    backend.save(str(folder / "tokenizer.json"))
    ours = Tokenizer.load(folder)
    assert ours.encode("hi") == TINY.encode("hi")
    assert ours.encode("a b c d e f g h") == TINY.encode("a b c d e f g h")


def test_every_eos_that_the_generation_config_names(folder: Path) -> None:
    rewrite(folder / "generation_config.json", eos_token_id=[2, 0])
    assert Tokenizer.load(folder).eos_token_ids == {0, 2}
    rewrite(folder / "generation_config.json", eos_token_id=0)
    assert Tokenizer.load(folder).eos_token_ids == {0, 2}
    rewrite(folder / "generation_config.json", eos_token_id=None)
    assert Tokenizer.load(folder).eos_token_ids == {2}
    (folder / "generation_config.json").unlink()
    assert Tokenizer.load(folder).eos_token_ids == {2}


def test_special_tokens_in_the_older_forms(folder: Path) -> None:
    """As objects, and in special_tokens_map.json; a word of the vocabulary becomes special by being named."""
    word = TINY.encode(" the")
    content = TINY_BACKEND.id_to_token(word[0])
    eos = {"content": "<|im_end|>", "lstrip": False}
    rewrite(folder / "tokenizer_config.json", eos_token=eos, bos_token="REMOVE")
    rewrite(folder / "special_tokens_map.json", bos_token="<|endoftext|>", sep_token=content, pad_token="<x>")
    ours = Tokenizer.load(folder)
    assert (ours.bos_token_id, ours.eos_token_ids) == (0, {2})
    assert ours.special_token_ids == {0, 1, 2, word[0]}
    assert ours.vocab_size == 512, "a token that the model has no embedding for must not be added"


def test_chat_template_from_the_config_or_a_file(folder: Path) -> None:
    messages = [{"role": "user", "content": "x"}]
    rewrite(folder / "tokenizer_config.json", chat_template="config {{ messages[0].content }}")
    (folder / "chat_template.jinja").rename(folder / "kept")
    assert Tokenizer.load(folder).render_chat(messages) == "config x"
    entries = [
        {"name": "default", "template": "no tools"},
        {"name": "tool_use", "template": "{{ tools | length }} tools {# <tool_call> #}"},
    ]
    rewrite(folder / "tokenizer_config.json", chat_template=entries)
    assert Tokenizer.load(folder).render_chat(messages) == "no tools"
    assert Tokenizer.load(folder).render_chat(messages, tools=[{}, {}]) == "2 tools "
    (folder / "kept").rename(folder / "chat_template.jinja")
    assert Tokenizer.load(folder).render_chat(messages).startswith("<|im_start|>user\nx<|im_end|>")


def test_several_chat_templates_are_saved(folder: Path, tmp_path: Path) -> None:
    parts = TokenizerParts(tiny_backend(), {}, {"default": "d", "tool_use": "{{ tools }}t<tool_call>"})
    Tokenizer(parts).save(tmp_path / "again")
    again = Tokenizer.load(tmp_path / "again")
    assert again.render_chat([{"role": "user", "content": ""}]) == "d"
    assert again.render_chat([{"role": "user", "content": ""}], tools=[{}]) == "[{}]t<tool_call>"


def test_what_is_missing_is_said(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no file or folder"):
        Tokenizer.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnsupportedModelError, match=r"no tokenizer\.json.*save_pretrained"):
        Tokenizer.load(tmp_path / "empty")
    (folder / "tokenizer_config.json").write_text("{not json")
    with pytest.raises(UnsupportedModelError, match=r"tokenizer_config\.json isn't valid JSON"):
        Tokenizer.load(folder)
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(UnsupportedModelError, match="should hold a JSON object"):
        Tokenizer.load(folder)
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(UnsupportedModelError, match=r"tokenizer\.json can't be read"):
        Tokenizer.load(folder)


def test_a_damaged_gguf_file_is_said_to_be_damaged(tmp_path: Path, smollm2_path: Path) -> None:
    short = tmp_path / "short.gguf"
    with smollm2_path.open("rb") as source, short.open("wb") as target:
        shutil.copyfileobj(source, target)
        target.truncate(300_000)
    with pytest.raises(WeightsError, match="fetch it again"):
        Tokenizer.load(short)
