"""Folders that something is wrong with: one clear sentence each, never a traceback from a library."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from checkpoint_files import edit_json, edit_weights, write_json
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import save

from minillm.errors import MinillmError, UnsupportedModelError, WeightsError
from minillm.models import load_model


def failure(folder: Path, kind: type[MinillmError] = WeightsError) -> str:
    with pytest.raises(kind) as caught:
        load_model(folder, torch.float32)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(tmp_path / "model", num_hidden_layers=1)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return save(tmp_path / "model", num_hidden_layers=1, max_shard_size="30KB")


def test_the_folders_are_sound_before_they_are_broken(folder: Path) -> None:
    load_model(folder, torch.float32)


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "config.json" in failure(folder)


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "config.json" in failure(tmp_path)


def test_a_missing_folder(tmp_path: Path) -> None:
    assert "missing" in failure(tmp_path / "missing")


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    assert "model.bin" in failure(tmp_path / "model.bin")


def test_the_weights_of_a_folder_in_place_of_the_folder(folder: Path) -> None:
    assert "model.safetensors" in failure(folder / "model.safetensors")


def test_no_weights_at_all(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "model.safetensors" in failure(folder)


def test_weights_as_pickles_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = failure(folder)
    assert "pytorch_model.bin" in message
    assert "converted" in message


def test_a_missing_shard_is_named(shards: Path) -> None:
    lost = sorted(shards.glob("model-*.safetensors"))[1]
    lost.unlink()
    assert lost.name in failure(shards)


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {"x": 3}}, {"weight_map": {}}], ids=str)
def test_an_index_without_shards(index: dict[str, object], shards: Path) -> None:
    write_json(shards / "model.safetensors.index.json", index)
    failure(shards)


def test_an_index_cannot_lead_out_of_its_folder(shards: Path, tmp_path: Path) -> None:
    """A checkpoint from the hub must not make us read other files of its reader."""
    outside = tmp_path / "outside.safetensors"
    next(shards.glob("model-*.safetensors")).rename(outside)
    index = json.loads((shards / "model.safetensors.index.json").read_text())
    for name in ("../outside.safetensors", str(outside)):
        write_json(
            shards / "model.safetensors.index.json", index | {"weight_map": dict.fromkeys(index["weight_map"], name)}
        )
        assert "outside.safetensors" in failure(shards)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    edit_weights(folder / "model.safetensors", lambda weights: weights.pop("model.layers.0.mlp.up_proj.weight"))
    assert "layers.0.mlp.up_proj.weight" in failure(folder)


def test_a_missing_bias_is_named(folder: Path) -> None:
    edit_json(folder / "config.json", attention_bias=True)
    assert "_proj.bias" in failure(folder)


def test_a_missing_output_matrix_is_named(folder: Path) -> None:
    edit_weights(folder / "model.safetensors", lambda weights: weights.pop("lm_head.weight"))
    assert "lm_head.weight" in failure(folder)


def test_an_extra_tensor_is_named(folder: Path) -> None:
    extra = {"model.layers.0.self_attn.sinks": torch.zeros(4)}
    edit_weights(folder / "model.safetensors", lambda weights: weights.update(extra))
    assert "layers.0.self_attn.sinks" in failure(folder, UnsupportedModelError)


def test_more_layers_than_the_config_says(folder: Path, tmp_path: Path) -> None:
    deep = save(tmp_path / "deep", num_hidden_layers=2)
    (deep / "model.safetensors").rename(folder / "model.safetensors")
    assert "layers.1." in failure(folder, UnsupportedModelError)


@pytest.mark.parametrize("shape", [(112, 65), (64, 112), (112 * 64,), (0, 64), ()], ids=str)
def test_a_wrong_shape_is_named_with_the_right_one(shape: tuple[int, ...], folder: Path) -> None:
    wrong = {"model.layers.0.mlp.up_proj.weight": torch.zeros(shape)}
    edit_weights(folder / "model.safetensors", lambda weights: weights.update(wrong))
    message = failure(folder)
    assert "layers.0.mlp.up_proj.weight" in message
    assert str(list(shape)) in message
    assert "[112, 64]" in message


def test_a_vocabulary_of_another_size(folder: Path) -> None:
    edit_json(folder / "config.json", vocab_size=100)
    assert "[100, 64]" in failure(folder)


def test_a_cut_file(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    for length in (0, 1, 7, 8, 100, 2000, len(content) // 2, len(content) - 1):
        (folder / "model.safetensors").write_bytes(content[:length])
        assert "model.safetensors" in failure(folder)


def test_a_cut_shard(shards: Path) -> None:
    shard = sorted(shards.glob("model-*.safetensors"))[-1]
    shard.write_bytes(shard.read_bytes()[:-100])
    assert shard.name in failure(shards)


def test_a_file_of_another_kind(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    assert "model.safetensors" in failure(folder)


def test_a_folder_in_place_of_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    assert "model.safetensors" in failure(folder)


@settings(max_examples=60)
@given(data=st.data())
def test_flipped_bytes_in_the_header(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = save(tmp_path_factory.mktemp("flips"), num_hidden_layers=1)
    content = bytearray((folder / "model.safetensors").read_bytes())
    (header_size,) = struct.unpack_from("<Q", content)
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, 8 + header_size - 1))] = data.draw(st.integers(0, 255))
    (folder / "model.safetensors").write_bytes(content)
    message = ""
    try:
        load_model(folder, torch.float32)
    except MinillmError as error:
        message = str(error)
    assert "\n" not in message
