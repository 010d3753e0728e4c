"""Our encoder against transformers: random BERTs that transformers wrote, and MiniLM itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import randomize
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, BertConfig, BertModel

from minillm.errors import UnsupportedModelError, WeightsError
from minillm.models.encoder import load_encoder, pool
from minillm.weights import resolve

SHAPE = {
    "vocab_size": 96,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 40,
    "layer_norm_eps": 1e-5,
}


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A random checkpoint in which every parameter matters."""
    model = BertModel(BertConfig(**SHAPE)).eval()
    randomize(model, seed=0)
    model.save_pretrained(tmp_path)
    return tmp_path


def batch(lengths: list[int], vocab_size: int = 96) -> tuple[Tensor, Tensor]:
    """Random token ids, padded with 0, and the mask."""
    generator = torch.Generator().manual_seed(0)
    token_ids = torch.randint(1, vocab_size, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return token_ids * mask, mask


def edit_config(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@torch.inference_mode()
def check(folder: Path, token_ids: Tensor, mask: Tensor) -> None:
    theirs = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()(token_ids, attention_mask=mask.long())
    ours = load_encoder(folder)(token_ids, mask)
    assert theirs.last_hidden_state[mask].std() > 0.1, "states that hardly differ would prove nothing"
    torch.testing.assert_close(ours[mask], theirs.last_hidden_state[mask], atol=2e-5, rtol=0)


@pytest.mark.parametrize("lengths", [[1], [40], [40, 7, 1, 23]], ids=str)
def test_a_random_bert_has_the_oracles_hidden_states(bert: Path, lengths: list[int]) -> None:
    check(bert, *batch(lengths))


def test_minilm_has_the_oracles_hidden_states() -> None:
    check(resolve("all-minilm-l6-v2", progress=False), *batch([256, 12, 90], vocab_size=30522))


@torch.inference_mode()
def test_padding_changes_nothing(bert: Path) -> None:
    encoder = load_encoder(bert)
    token_ids, mask = batch([9, 30])
    alone = encoder(token_ids[:1, :9], mask[:1, :9])
    torch.testing.assert_close(encoder(token_ids, mask)[0, :9], alone[0], atol=1e-5, rtol=0)
    token_ids[0, 9:] = 5
    torch.testing.assert_close(encoder(token_ids, mask)[0, :9], alone[0], atol=1e-5, rtol=0)


def test_pooling_is_the_mean_of_the_tokens_or_the_first_one_at_length_one() -> None:
    hidden = torch.tensor([[[3.0, 0.0], [5.0, 8.0], [100.0, 100.0]]], dtype=torch.bfloat16)
    mask = torch.tensor([[True, True, False]])
    assert torch.allclose(pool(hidden, mask), torch.tensor([[2**-0.5, 2**-0.5]]))
    assert torch.equal(pool(hidden, mask, "cls"), torch.tensor([[1.0, 0.0]]))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"architectures": ["LlamaForCausalLM"]}, UnsupportedModelError, "LlamaForCausalLM"),
        ({"architectures": None}, UnsupportedModelError, "BertModel"),
        ({"hidden_act": "relu"}, UnsupportedModelError, "hidden_act='relu'"),
        ({"position_embedding_type": "relative_key"}, UnsupportedModelError, "relative_key"),
        ({"is_decoder": True}, UnsupportedModelError, "is_decoder"),
        ({"num_attention_heads": 5}, WeightsError, "config.json is broken"),
        ({"num_attention_heads": 0}, WeightsError, "config.json is broken"),
        ({"hidden_size": "48"}, WeightsError, "config.json is broken"),
        ({"vocab_size": None}, WeightsError, "config.json is broken"),
        ({"layer_norm_eps": None}, WeightsError, "config.json is broken"),
        ({"vocab_size": 97}, WeightsError, r"word_embeddings.*\[96, 48\].*\[97, 48\]"),
        ({"num_hidden_layers": 4}, WeightsError, "lacks 16 of the encoder's tensors, such as layers.3"),
        ({"num_hidden_layers": 2}, UnsupportedModelError, "'encoder.layer.2.*no place for"),
    ],
    ids=str,
)
def test_what_it_cannot_run_is_refused_by_name(
    bert: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    edit_config(bert, **changes)
    with pytest.raises(error, match=message):
        load_encoder(bert)


def test_a_lacking_tensor_is_named(bert: Path) -> None:
    file = bert / "model.safetensors"
    tensors = load_file(file)
    del tensors["encoder.layer.1.attention.self.key.bias"]
    save_file(tensors, file)
    with pytest.raises(WeightsError, match=r"lacks 1 .*layers\.1\.key\.bias"):
        load_encoder(bert)
