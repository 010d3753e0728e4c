"""Embeddings against what sentence-transformers does, done here with transformers, and the promises around them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, AutoTokenizer

import minillm
from minillm import EmbeddingModel
from minillm.errors import InvalidRequestError, ModelNotFoundError, UnsupportedModelError, WeightsError
from minillm.weights import resolve

TEXTS = [
    "A cat sleeps on the sofa.",
    "",
    "Zürich 東京 🙂 naïve café",
    "The KV cache holds the keys and values of every token that the model has read. " * 9,
    "A kitten naps on the couch.",
    "The central bank raised interest rates.",
]


@pytest.fixture(scope="module")
def minilm() -> EmbeddingModel:
    return EmbeddingModel(device="cpu")


@pytest.fixture(scope="module")
def folder() -> Path:
    return resolve("all-minilm-l6-v2", progress=False)


@torch.inference_mode()
def oracle(folder: Path, texts: list[str]) -> np.ndarray[Any, Any]:
    """What the model's card says: at most 256 tokens, the mean of all hidden states, length 1."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    hidden = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()(**inputs).last_hidden_state
    mask = inputs["attention_mask"][:, :, None].float()
    return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy()


def test_vectors_are_the_oracles(minilm: EmbeddingModel, folder: Path) -> None:
    texts = [*TEXTS, "far too long " * 300]
    ours = minilm.embed(texts, truncate=True)
    assert (ours.shape, ours.dtype) == ((7, 384), np.float32)
    np.testing.assert_allclose(ours, oracle(folder, texts), atol=1e-5)


def test_near_meanings_are_near(minilm: EmbeddingModel) -> None:
    cat, kitten, bank = minilm.embed([TEXTS[0], TEXTS[4], TEXTS[5]])
    assert cat @ kitten > 0.6 > 0.2 > cat @ bank


def test_batches_change_nothing(folder: Path) -> None:
    small, large = EmbeddingModel(folder, device="cpu", max_batch_tokens=64), EmbeddingModel(folder, device="cpu")
    assert len(small.batches(small.encode(TEXTS))) > len(large.batches(large.encode(TEXTS)))
    np.testing.assert_allclose(small.embed(TEXTS), large.embed(TEXTS), atol=1e-6)
    np.testing.assert_allclose(small.embed(TEXTS), np.concatenate([small.embed(text) for text in TEXTS]), atol=1e-6)


@given(lengths=st.lists(st.integers(1, 256), max_size=50))
def test_batches_hold_every_text_once_and_no_more_than_their_share(minilm: EmbeddingModel, lengths: list[int]) -> None:
    batches = minilm.batches([[7] * length for length in lengths])
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * max(lengths[i] for i in batch) <= 2048


def test_token_ids_are_the_same_as_their_text(minilm: EmbeddingModel) -> None:
    ids = minilm.encode(TEXTS)
    assert ids[1] == [101, 102]
    np.testing.assert_array_equal(minilm.embed(ids), minilm.embed(TEXTS))
    np.testing.assert_array_equal(minilm.embed([np.array(ids[0]).tolist()]), minilm.embed(ids[:1]))


def test_control_tokens_in_a_text_are_text(minilm: EmbeddingModel) -> None:
    assert 102 not in minilm.encode("a [SEP] b")[0][:-1]


def test_fewer_dimensions_are_the_first_ones_at_length_one(minilm: EmbeddingModel) -> None:
    whole, short = minilm.embed(TEXTS), minilm.embed(TEXTS, dimensions=64)
    assert (short.shape, short.dtype) == ((6, 64), np.float32)
    expected = whole[:, :64] / np.linalg.norm(whole[:, :64], axis=1, keepdims=True)
    np.testing.assert_allclose(short, expected, atol=1e-6)
    np.testing.assert_array_equal(minilm.embed(TEXTS, dimensions=384), whole)


def test_no_texts_give_no_vectors(minilm: EmbeddingModel) -> None:
    assert minilm.embed([]).shape == (0, 384)


def test_a_text_that_is_too_long_is_refused_or_cut_as_asked(minilm: EmbeddingModel) -> None:
    fits, long = "word " * 254, "word " * 255
    assert len(minilm.encode(fits)[0]) == minilm.max_length == 256
    with pytest.raises(InvalidRequestError, match=r"Text 1 has 257 tokens; .* at most 256") as refusal:
        minilm.embed([fits, long])
    assert refusal.value.param == "input"
    np.testing.assert_array_equal(minilm.embed(long, truncate=True), minilm.embed(fits))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "got NoneType"),
        (b"bytes", "got bytes"),
        ({"a": 1}, "got dict"),
        ([None], "Text 0 must be a text or a list of token ids"),
        ([1, 2], "Text 0 must be"),
        (["fine", b"bytes"], "Text 1 must be"),
        ([[]], "Text 0 must be"),
        ([[101, "a"]], "integers from 0 to 30521, got 'a'"),
        ([[True]], "got 'True'"),
        ([[1.0]], "got '1.0'"),
        ([[-1]], "got '-1'"),
        ([[30522]], "got '30522'"),
        (["a\ud800"], "surrogate"),
    ],
    ids=ascii,
)
def test_malformed_texts_are_refused(minilm: EmbeddingModel, texts: Any, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        minilm.embed(texts)


@pytest.mark.parametrize("dimensions", [0, -1, 385, True])
def test_dimensions_out_of_range_are_refused(minilm: EmbeddingModel, dimensions: int) -> None:
    with pytest.raises(InvalidRequestError, match="between 1 and 384") as refusal:
        minilm.embed("a", dimensions)
    assert refusal.value.param == "dimensions"


def test_what_is_no_encoder_is_refused(smollm2_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="takes a BERT's folder"):
        EmbeddingModel(smollm2_path)
    with pytest.raises(ModelNotFoundError):
        EmbeddingModel("no-such-model")
    with pytest.raises(InvalidRequestError, match="max_batch_tokens"):
        EmbeddingModel(max_batch_tokens=0)


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """MiniLM's folder, to change its small files."""
    for file in folder.iterdir():
        if file.suffix == ".safetensors":
            (tmp_path / file.name).symlink_to(file)
        elif file.is_file():
            shutil.copy(file, tmp_path)
    shutil.copytree(folder / "1_Pooling", tmp_path / "1_Pooling")
    return tmp_path


def test_a_model_may_take_its_first_tokens_vector_instead(copy: Path, minilm: EmbeddingModel) -> None:
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (copy / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (copy / "sentence_bert_config.json").unlink()
    model = EmbeddingModel(copy, device="cpu")
    assert model.max_length == 512
    ids = torch.tensor(minilm.encode(TEXTS[:1]))
    with torch.inference_mode():
        first = minilm.encoder(ids, torch.ones_like(ids, dtype=torch.bool))[0, 0].numpy()
    np.testing.assert_allclose(model.embed(TEXTS[0])[0], first / np.linalg.norm(first), atol=1e-6)


def test_a_folder_without_these_files_means_the_mean(copy: Path, minilm: EmbeddingModel) -> None:
    (copy / "modules.json").unlink()
    np.testing.assert_array_equal(EmbeddingModel(copy, device="cpu").embed(TEXTS), minilm.embed(TEXTS))


@pytest.mark.parametrize(
    ("file", "content", "error", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, UnsupportedModelError, "pooling_mode_max_tokens"),
        ("modules.json", [{"type": "models.Dense", "path": "2_Dense"}], UnsupportedModelError, "Dense"),
        ("modules.json", [{}], WeightsError, "can't be read"),
        ("modules.json", 3, WeightsError, "can't be read"),
    ],
    ids=str,
)
def test_steps_that_it_cannot_take_are_refused(
    copy: Path, file: str, content: Any, error: type[Exception], message: str
) -> None:
    (copy / file).write_text(json.dumps(content))
    with pytest.raises(error, match=message):
        EmbeddingModel(copy, device="cpu")


def test_it_is_there_under_the_packages_name() -> None:
    assert minillm.EmbeddingModel is EmbeddingModel
