"""Tokenizers rebuilt from GGUF metadata, against transformers' own classes on small vocabularies.

Findings about transformers 5.23, which these tests hold on to. Its conversion of GGUF tokenizers loses
three things that the models' published tokenizer.json files have, and that minillm keeps:

- `smollm`: the splitting of digits (test_tokenizer.py has that one, on the real model);
- `qwen2`: Unicode normalization (NFC), so decomposed accents get other ids;
- `llama-bpe`: `ignore_merges`, so words that are in the vocabulary, but that no merges lead to, are cut up,
and BOS
  isn't added when the file doesn't say whether it should be.
"""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend
from transformers import GPT2Tokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import generate_merges

from minillm.errors import UnsupportedModelError
from minillm.models.gguf import GGUFFile
from minillm.text import Detokenizer, Tokenizer
from minillm.text.gguf_vocab import BYTE, CONTROL, NORMAL, UNKNOWN, USER_DEFINED, merges_from_scores

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


def write_gguf(path: Path, **values: Any) -> Path:
    """A GGUF file with nothing but metadata: `key="value"` becomes tokenizer.ggml.key."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in values.items():
        name = f"tokenizer.ggml.{key}" if key != "chat_template" else "tokenizer.chat_template"
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        else:
            writer.add_array(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def oracle_from_gguf(path: Path) -> Any:
    return PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name)


@pytest.fixture(scope="module")
def byte_level_vocab(hard_strings: tuple[str, ...]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """About 1,200 tokens learned from the corpus with Llama 3's words, which have up to three digits."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        min_frequency=1,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(hard_strings, trainer)
    return trained(backend)


def trained(backend: Backend) -> tuple[dict[str, int], list[tuple[str, str]]]:
    model = json.loads(backend.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def gpt2_values(vocab: dict[str, int], merges: list[tuple[str, str]], pre: str, **more: Any) -> dict[str, Any]:
    tokens = sorted(vocab, key=vocab.__getitem__)
    values: dict[str, Any] = {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": [CONTROL if token in SPECIAL else NORMAL for token in tokens],
        "merges": [" ".join(merge) for merge in merges],
        "eos_token_id": 2,
    }
    return values | more


@pytest.mark.parametrize("pre", ["default", "gpt-2"])
def test_gpt2(pre: str, tmp_path: Path, byte_level_vocab: Any, hard_strings: tuple[str, ...]) -> None:
    vocab, merges = byte_level_vocab
    ours = Tokenizer.load(write_gguf(tmp_path / "m.gguf", **gpt2_values(vocab, merges, pre)))
    oracle = GPT2Tokenizer(vocab=vocab, merges=merges)
    oracle.add_special_tokens({"additional_special_tokens": SPECIAL})
    for text in hard_strings:
        assert ours.encode(text, parse_special=True) == oracle(text).input_ids
        assert ours.encode(text) == oracle(text, split_special_tokens=True).input_ids
        assert ours.decode(ours.encode(text)) == text


def test_qwen2(tmp_path: Path, byte_level_vocab: Any, hard_strings: tuple[str, ...]) -> None:
    vocab, merges = byte_level_vocab
    path = write_gguf(tmp_path / "m.gguf", **gpt2_values(vocab, merges, "qwen2"))
    ours = Tokenizer.load(path)
    oracle = Qwen2Tokenizer(vocab=vocab, merges=merges)
    oracle.add_special_tokens({"additional_special_tokens": SPECIAL})
    without_nfc = oracle_from_gguf(path)
    changed = 0
    for text in hard_strings:
        ids = ours.encode(text)
        assert ids == oracle(text, split_special_tokens=True).input_ids
        assert ours.encode(text, parse_special=True) == oracle(text).input_ids
        if unicodedata.is_normalized("NFC", text):
            assert ids == without_nfc(text, split_special_tokens=True).input_ids
        else:
            changed += ids != without_nfc(text, split_special_tokens=True).input_ids
    assert changed > 3


@pytest.mark.parametrize("pre", ["llama-bpe", "llama3", "llama-v3"])
def test_llama3(pre: str, tmp_path: Path, byte_level_vocab: Any, hard_strings: tuple[str, ...]) -> None:
    vocab, merges = byte_level_vocab
    values = gpt2_values(vocab, merges, pre, bos_token_id=1, add_bos_token=True)
    path = write_gguf(tmp_path / "m.gguf", **values)
    ours = Tokenizer.load(path)
    oracle = oracle_from_gguf(path)
    for text in hard_strings:
        assert ours.encode(text, parse_special=True) == oracle(text).input_ids
        assert ours.encode(text) == oracle(text, split_special_tokens=True).input_ids
        assert ours.encode(text)[0] == 1


def test_llama3_takes_whole_words_that_no_merge_leads_to(tmp_path: Path, byte_level_vocab: Any) -> None:
    vocab, merges = byte_level_vocab
    vocab = vocab | {"Ġquux": len(vocab)}
    values = gpt2_values(vocab, merges, "llama-bpe", bos_token_id=1)
    ours = Tokenizer.load(write_gguf(tmp_path / "m.gguf", **values))
    assert ours.encode("a quux", add_special_tokens=False)[-1] == vocab["Ġquux"]
    assert ours.add_bos, "llama.cpp adds BOS for this pre-tokenizer when the file doesn't say"
    other = Tokenizer.load(write_gguf(tmp_path / "o.gguf", **(values | {"pre": "gpt-2"})))
    assert vocab["Ġquux"] not in other.encode("a quux")
    assert not other.add_bos


def test_user_defined_tokens_are_found_whole_but_arent_special(tmp_path: Path, byte_level_vocab: Any) -> None:
    vocab, merges = byte_level_vocab
    vocab = vocab | {"<think>": len(vocab)}
    values = gpt2_values(vocab, merges, "qwen2")
    values["token_type"][vocab["<think>"]] = USER_DEFINED
    path = write_gguf(tmp_path / "m.gguf", **values)
    ours = Tokenizer.load(path)
    think = vocab["<think>"]
    ids = ours.encode("a<think>b<|im_end|>")
    assert ids == oracle_from_gguf(path)("a<think>b<|im_end|>", split_special_tokens=True).input_ids
    assert think in ids and think not in ours.special_token_ids
    assert ours.decode(ids) == "a<think>b<|im_end|>"
    assert ours.token_bytes(think) == b"<think>"


def test_control_tokens_with_characters_of_their_own(tmp_path: Path, byte_level_vocab: Any) -> None:
    vocab, merges = byte_level_vocab
    name = "<\uff5cbegin▁of▁sentence\uff5c>"
    vocab = vocab | {name: len(vocab)}
    values = gpt2_values(vocab, merges, "llama-bpe", bos_token_id=vocab[name])
    values["token_type"][vocab[name]] = CONTROL
    ours = Tokenizer.load(write_gguf(tmp_path / "m.gguf", **values))
    assert ours.vocab_size == len(vocab)
    assert ours.bos_token_id == vocab[name]
    assert ours.encode(name, parse_special=True, add_special_tokens=False) == [vocab[name]]
    assert vocab[name] not in ours.encode(name, add_special_tokens=False)
    assert ours.decode([vocab[name]], skip_special_tokens=False) == name


def test_a_file_that_names_no_pre_tokenizer_has_the_default_one(tmp_path: Path, byte_level_vocab: Any) -> None:
    values = gpt2_values(*byte_level_vocab, "default")
    named = Tokenizer.load(write_gguf(tmp_path / "named.gguf", **values))
    del values["pre"]
    unnamed = Tokenizer.load(write_gguf(tmp_path / "unnamed.gguf", **values))
    assert unnamed.encode("it's  12 漢字") == named.encode("it's  12 漢字")


def test_every_way_to_end_a_turn_is_known(tmp_path: Path, byte_level_vocab: Any) -> None:
    values = gpt2_values(*byte_level_vocab, "llama-bpe", bos_token_id=1, eot_token_id=0, eom_token_id=5)
    assert Tokenizer.load(write_gguf(tmp_path / "m.gguf", **values)).eos_token_ids == {0, 2, 5}


# SentencePiece


@pytest.fixture(scope="module")
def sentencepiece_values(hard_strings: tuple[str, ...]) -> dict[str, Any]:
    """A small Llama 2: <unk>, <s>, </s>, 256 bytes, and pieces scored by the order they were learned in."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    trainer = trainers.BpeTrainer(vocab_size=900, min_frequency=1, limit_alphabet=300, show_progress=False)
    texts = [text for text in hard_strings if "▁" not in text and "<s>" not in text]
    backend.train_from_iterator(texts, trainer)
    vocab, merges = trained(backend)
    letters = [token for token in sorted(vocab, key=vocab.__getitem__) if len(token) == 1]
    # Without pieces such as "s>", of which transformers would make "</s>" (a test below is about that).
    learned = ["".join(merge) for merge in merges if ">" not in merge[1]]
    pieces = [*dict.fromkeys(learned), *letters]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    types = [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(pieces)
    scores = [0.0] * 259 + [-float(rank) for rank in range(len(pieces))]
    ids = {"bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0}
    return {"model": "llama", "tokens": tokens, "token_type": types, "scores": scores, **ids}


def test_sentencepiece(tmp_path: Path, sentencepiece_values: dict[str, Any], hard_strings: tuple[str, ...]) -> None:
    path = write_gguf(tmp_path / "m.gguf", **sentencepiece_values)
    ours, oracle = Tokenizer.load(path), oracle_from_gguf(path)
    assert ours.add_bos and ours.is_byte_exact and ours.strips_leading_space
    for text in hard_strings:
        ids = ours.encode(text)
        assert ids == oracle(text, split_special_tokens=True).input_ids
        assert ours.encode(text, parse_special=True) == oracle(text).input_ids
        assert ours.decode(ids) == oracle.decode(ids, skip_special_tokens=True)
        detokenizer = Detokenizer(ours)
        assert "".join(map(detokenizer.push, ids)) + detokenizer.flush() == ours.decode(ids)


def test_sentencepiece_text_after_a_special_token_gets_no_space(
    tmp_path: Path, sentencepiece_values: dict[str, Any]
) -> None:
    path = write_gguf(tmp_path / "m.gguf", **sentencepiece_values)
    ours, oracle = Tokenizer.load(path), oracle_from_gguf(path)
    for text in ("<s>the</s>the <s> the", "the<s>", "</s></s>the", " <s> ", "the\n</s>\n漢"):
        assert ours.encode(text, parse_special=True) == oracle(text).input_ids


def test_sentencepiece_without_the_first_space(tmp_path: Path, sentencepiece_values: dict[str, Any]) -> None:
    values = sentencepiece_values | {"add_space_prefix": False, "add_bos_token": False}
    ours = Tokenizer.load(write_gguf(tmp_path / "m.gguf", **values))
    assert not ours.strips_leading_space
    for text in ("the end", " the end", "漢字 🙂"):
        ids = ours.encode(text)
        assert b"".join(map(ours.token_bytes, ids)).decode() == ours.decode(ids) == text


def test_sentencepiece_bytes_and_spaces(tmp_path: Path, sentencepiece_values: dict[str, Any]) -> None:
    ours = Tokenizer.load(write_gguf(tmp_path / "m.gguf", **sentencepiece_values))
    tokens = sentencepiece_values["tokens"]
    assert ours.token_bytes(3 + 0xAB) == b"\xab"
    assert ours.token_bytes(tokens.index("▁")) == b" "
    assert ours.token_bytes(2) == b"</s>"
    ids = ours.encode("\U0001f9ff", add_special_tokens=False)  # not in the vocabulary: four bytes
    assert [ours.token_bytes(token_id) for token_id in ids[-4:]] == [b"\xf0", b"\x9f", b"\xa7", b"\xbf"]
    assert ours.decode([3 + 0xE2, 3 + 0x82]) == "\ufffd"


def test_sentencepiece_without_bytes_has_one_unknown_token_for_a_run(
    tmp_path: Path, sentencepiece_values: dict[str, Any]
) -> None:
    keep = [i for i, kind in enumerate(sentencepiece_values["token_type"]) if kind != BYTE]
    lists = {key: [sentencepiece_values[key][i] for i in keep] for key in ("tokens", "token_type", "scores")}
    ours = Tokenizer.load(write_gguf(tmp_path / "m.gguf", **(sentencepiece_values | lists)))
    assert ours.encode("the\U0001f9ff\U0001f9ffend").count(0) == 1
    assert ours.decode(ours.encode("the\U0001f9ffend")) == "theend"


@given(st.dictionaries(st.text("abc", min_size=1, max_size=4), st.sampled_from([-1.0, -2.0, -3.0]), max_size=30))
def test_merges_from_scores_are_transformers_also_for_equal_scores(scores: dict[str, float]) -> None:
    vocab = {token: token_id for token_id, token in enumerate(scores)}
    assert merges_from_scores(vocab, scores) == generate_merges(vocab, scores)


def test_sentencepiece_merges_never_lead_to_a_control_token(
    tmp_path: Path, sentencepiece_values: dict[str, Any]
) -> None:
    """With "</" and "s>" in the vocabulary, transformers' merges turn the text "</s>" into the control
    token."""
    tokens = [*sentencepiece_values["tokens"], "</", "s>"]
    more = {
        "tokens": tokens,
        "token_type": [*sentencepiece_values["token_type"], NORMAL, NORMAL],
        "scores": [*sentencepiece_values["scores"], -0.5, -0.6],
    }
    path = write_gguf(tmp_path / "m.gguf", **(sentencepiece_values | more))
    text = "a</s>"
    assert 2 in oracle_from_gguf(path)(text, split_special_tokens=True).input_ids
    ids = Tokenizer.load(path).encode(text)
    assert ids[-2:] == [len(tokens) - 2, len(tokens) - 1]


# What can't be rebuilt


def test_an_unknown_pre_tokenizer_is_refused_by_name(tmp_path: Path, byte_level_vocab: Any) -> None:
    path = write_gguf(tmp_path / "m.gguf", **gpt2_values(*byte_level_vocab, "falcon"))
    with pytest.raises(UnsupportedModelError, match=r"'falcon'.*llama-bpe.*tokenizer\.json"):
        Tokenizer.load(path)


@pytest.mark.parametrize("model", ["t5", "bert", "no_vocab"])
def test_other_kinds_of_tokenizers_are_refused_by_name(model: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", model=model)
    with pytest.raises(UnsupportedModelError, match=rf"'{model}'.*tokenizer\.json"):
        Tokenizer.load(path)


def test_a_file_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="kind None"):
        Tokenizer.load(write_gguf(tmp_path / "m.gguf"))


@pytest.mark.parametrize(
    "damage",
    [{"merges": ["Q never"]}, {"token_type": [1, 1]}, {"eos_token_id": 99_999}, {"tokens": ["a", "\udc80"]}],
)
def test_metadata_that_contradict_themselves_are_refused(
    damage: dict[str, Any], tmp_path: Path, byte_level_vocab: Any
) -> None:
    path = write_gguf(tmp_path / "m.gguf", **gpt2_values(*byte_level_vocab, "gpt-2"))
    metadata = GGUFFile(path).metadata
    metadata |= {f"tokenizer.ggml.{key}": value for key, value in damage.items()}
    with pytest.raises(UnsupportedModelError, match="can't be rebuilt"):
        Tokenizer.from_gguf(metadata)
