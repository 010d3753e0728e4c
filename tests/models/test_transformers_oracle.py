"""Our decoder against transformers, on random checkpoints that transformers wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import (
    FAMILIES,
    assert_same_logits,
    cached_logits,
    dense_logits,
    load_oracle,
    oracle_logits,
    random_token_ids,
    save,
)
from safetensors.torch import load_file, save_file

from minillm.models import load_model


def check(folder: Path, length: int = 40) -> None:
    token_ids = random_token_ids(length)
    theirs = oracle_logits(load_oracle(folder), token_ids)
    assert_same_logits(dense_logits(load_model(folder, torch.float32), token_ids), theirs)


def edit_config(folder: Path, **changes: Any) -> None:
    """Sets keys of config.json; None removes one."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_has_the_oracles_logits_with_and_without_a_cache(name: str, tmp_path: Path) -> None:
    save(tmp_path, name)
    token_ids = random_token_ids(60)
    theirs = oracle_logits(load_oracle(tmp_path), token_ids)
    model = load_model(tmp_path, torch.float32)
    assert_same_logits(dense_logits(model, token_ids), theirs)
    for chunk_size in (1, 7, 60):
        assert_same_logits(cached_logits(model, token_ids, chunk_size), theirs)


@pytest.mark.parametrize("name", FAMILIES)
def test_shards_give_the_same_weights_as_one_file(name: str, tmp_path: Path) -> None:
    save(tmp_path / "whole", name)
    save(tmp_path / "shards", name, max_shard_size="30KB")
    assert len(list((tmp_path / "shards").glob("model-*-of-*.safetensors"))) > 3
    whole = load_model(tmp_path / "whole", torch.float32).state_dict()
    shards = load_model(tmp_path / "shards", torch.float32).state_dict()
    assert whole.keys() == shards.keys()
    assert all(torch.equal(whole[key], shards[key]) for key in whole)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        pytest.param("llama", {"attention_bias": True, "mlp_bias": True}, id="llama with all biases"),
        pytest.param("llama", {"attention_bias": True}, id="llama with attention bias"),
        pytest.param("llama", {"mlp_bias": True}, id="llama with mlp bias"),
        pytest.param("llama", {"head_dim": 24}, id="llama with a head_dim of its own"),
        pytest.param("llama", {"tie_word_embeddings": True}, id="llama tied"),
        pytest.param("llama", {"num_key_value_heads": 1}, id="multi-query attention"),
        pytest.param("llama", {"num_key_value_heads": 4}, id="multi-head attention"),
        pytest.param("llama", {"rms_norm_eps": 0.1}, id="a large epsilon"),
        pytest.param("smollm2", {"tie_word_embeddings": False}, id="smollm2 untied"),
        pytest.param("qwen2", {"tie_word_embeddings": False}, id="qwen2 untied"),
        pytest.param("qwen2", {"use_sliding_window": False, "sliding_window": 8}, id="qwen2, its window off"),
        pytest.param("qwen3", {"tie_word_embeddings": True}, id="qwen3 tied"),
        pytest.param("qwen3", {"attention_bias": True}, id="qwen3 with attention bias"),
        pytest.param("qwen3", {"head_dim": 16, "num_key_value_heads": 1}, id="qwen3 with one kv head"),
    ],
)
def test_variants_of_the_families(name: str, overrides: dict[str, Any], tmp_path: Path) -> None:
    check(save(tmp_path, name, **overrides))


# Texts of 200 tokens on models made for 32, so that stretching matters.
SCALED_ROPE: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "llama3 with other frequencies": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 2.0,
        "high_freq_factor": 9.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 32},
    "yarn with an attention factor": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 32,
        "attention_factor": 0.7,
    },
    "yarn with mscale": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 32,
        "mscale": 1.4,
        "mscale_all_dim": 0.6,
    },
    "yarn with betas": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 64,
        "beta_fast": 16,
        "beta_slow": 2,
    },
    "yarn, not truncated": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 64,
        "truncate": False,
    },
    "yarn without a factor": {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 64},
    "yarn without an original length": {"rope_type": "yarn", "factor": 4.0},
}


@pytest.mark.parametrize("scaling", SCALED_ROPE.values(), ids=SCALED_ROPE)
@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_scaled_rope_in_a_new_config(name: str, scaling: dict[str, Any], tmp_path: Path) -> None:
    save(tmp_path, name, num_hidden_layers=2)
    token_ids = random_token_ids(200)
    plain = oracle_logits(load_oracle(tmp_path), token_ids)
    edit_config(tmp_path, rope_parameters={"rope_theta": 50000.0, **scaling})
    theirs = oracle_logits(load_oracle(tmp_path), token_ids)
    assert (plain - theirs).abs().max() > 0.1, "this scaling changes nothing, so the test would prove nothing"
    model = load_model(tmp_path, torch.float32)
    assert_same_logits(dense_logits(model, token_ids), theirs, tolerance=3e-4)
    assert_same_logits(cached_logits(model, token_ids, 64), theirs, tolerance=3e-4)


@pytest.mark.parametrize("type_key", ["type", "rope_type"])
@pytest.mark.parametrize("scaling", SCALED_ROPE.values(), ids=SCALED_ROPE)
def test_scaled_rope_in_an_old_config(scaling: dict[str, Any], type_key: str, tmp_path: Path) -> None:
    save(tmp_path, num_hidden_layers=2)
    old = {type_key if key == "rope_type" else key: value for key, value in scaling.items()}
    edit_config(tmp_path, rope_parameters=None, rope_theta=50000.0, rope_scaling=old)
    check(tmp_path, length=200)


def test_an_old_config_without_scaling(tmp_path: Path) -> None:
    save(tmp_path)
    edit_config(tmp_path, rope_parameters=None, rope_theta=1000.0, rope_scaling=None)
    check(tmp_path, length=100)


def test_rope_scaling_added_by_hand_to_a_new_config_counts(tmp_path: Path) -> None:
    """Model cards tell their readers to add rope_scaling to config.json; transformers lets it win, and so do we."""
    save(tmp_path, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    edit_config(tmp_path, rope_scaling=SCALED_ROPE["yarn"])
    check(tmp_path, length=200)


def test_the_original_length_beside_the_rope_parameters_counts(tmp_path: Path) -> None:
    save(tmp_path, num_hidden_layers=2)
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    edit_config(
        tmp_path,
        rope_parameters={**scaling, "rope_theta": 10000.0, "original_max_position_embeddings": 256},
        original_max_position_embeddings=32,
    )
    check(tmp_path, length=200)


def test_old_checkpoints_with_ropes_table_and_a_copy_of_tied_embeddings(tmp_path: Path) -> None:
    save(tmp_path, "smollm2")
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    check(tmp_path)


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_half_precision_on_disk_is_widened(stored: torch.dtype, tmp_path: Path) -> None:
    save(tmp_path, "qwen3")
    weights = {key: value.to(stored) for key, value in load_file(tmp_path / "model.safetensors").items()}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    check(tmp_path)


@pytest.mark.parametrize("name", FAMILIES)
def test_bfloat16_is_as_near_to_the_truth_as_the_oracles(name: str, tmp_path: Path) -> None:
    save(tmp_path, name)
    token_ids = random_token_ids(40)
    truth = oracle_logits(load_oracle(tmp_path), token_ids)
    theirs = oracle_logits(load_oracle(tmp_path, torch.bfloat16), token_ids)
    model = load_model(tmp_path, torch.bfloat16)
    ours = dense_logits(model, token_ids)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.rotary.inverse_frequencies.dtype == torch.float32
    assert 0 < (ours - truth).abs().mean() < 1.3 * (theirs - truth).abs().mean()


def test_tied_embeddings_are_one_tensor(tmp_path: Path) -> None:
    tied = load_model(save(tmp_path / "tied", "smollm2"), torch.float32)
    assert tied.lm_head.weight is tied.embed_tokens.weight
    untied = load_model(save(tmp_path / "untied", "llama"), torch.float32)
    assert untied.lm_head.weight is not untied.embed_tokens.weight


def test_a_loaded_model_is_ready_for_inference(tmp_path: Path) -> None:
    model = load_model(save(tmp_path), torch.float32)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.is_meta for parameter in model.parameters())
    assert not any(buffer.is_meta for buffer in model.buffers())
