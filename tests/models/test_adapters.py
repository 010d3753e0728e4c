"""Adapters and their files: PEFT is the oracle, in both directions; then everything that is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from oracle import (
    FAMILIES,
    assert_same_logits,
    dense_logits,
    load_oracle,
    oracle_logits,
    random_token_ids,
    save,
)
from peft import LoraConfig, PeftModel, get_peft_model
from random_adapters import random_adapter
from safetensors.torch import load_file, save_file

from minillm.errors import MinillmError, ModelNotFoundError, UnsupportedModelError, WeightsError
from minillm.kernels import quantize
from minillm.models import ModelConfig, load_model
from minillm.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE, read_adapter, save_adapter
from minillm.models.loader import read_json
from minillm.models.lora import LoRAAdapter, LoRAFactors, product_shapes
from minillm.models.tiny import tiny_config

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("llama"), "llama")


def config_of(checkpoint: Path) -> ModelConfig:
    return ModelConfig.from_hf(read_json(checkpoint / "config.json"))


def peft_adapter(checkpoint: Path, folder: Path, **settings: Any) -> PeftModel:
    """Makes an adapter with PEFT, with random factors, and saves it."""
    model = get_peft_model(load_oracle(checkpoint), LoraConfig(task_type="CAUSAL_LM", **settings))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2, generator=generator)
    model.save_pretrained(folder)
    return model.eval()


def edit(folder: Path, **changes: Any) -> None:
    file = folder / CONFIG_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter of ours, to be spoilt."""
    save_adapter(tmp_path / "adapter", random_adapter(tiny_config(300)))
    return tmp_path / "adapter"


# -- PEFT --------------------------------------------------------------------------------------------------------


def test_peft_reads_our_files_and_gives_our_logits(checkpoint: Path, tmp_path: Path) -> None:
    adapter = random_adapter(config_of(checkpoint))
    save_adapter(tmp_path, adapter)
    theirs = PeftModel.from_pretrained(load_oracle(checkpoint), tmp_path, local_files_only=True).eval()
    ours = load_model(checkpoint, torch.float32, adapter=adapter)
    token_ids = random_token_ids(40)
    assert_same_logits(dense_logits(ours, token_ids), oracle_logits(theirs, token_ids), 1e-3)
    plain = dense_logits(load_model(checkpoint, torch.float32), token_ids)
    assert (dense_logits(ours, token_ids) - plain).abs().max() > 0.5


@pytest.mark.parametrize(
    "settings",
    [
        {"r": 8, "lora_alpha": 16, "target_modules": ALL},
        {"r": 4, "lora_alpha": 4, "target_modules": "all-linear"},
        {"r": 2, "lora_alpha": 3, "target_modules": ["q_proj", "v_proj"], "use_rslora": True},
        {
            "r": 4,
            "target_modules": ALL,
            "rank_pattern": {"up_proj": 6, "layers.1.self_attn.q_proj": 2},
            "alpha_pattern": {"v_proj": 1, "model.layers.2.mlp.*": 20},
        },
        {"r": 4, "target_modules": ["o_proj", "down_proj"], "layers_to_transform": [1], "lora_dropout": 0.1},
        {"r": 4, "target_modules": r".*layers\.[02]\.mlp\.(up|gate)_proj", "init_lora_weights": "gaussian"},
    ],
)
def test_we_read_pefts_files_and_give_its_logits(checkpoint: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    theirs = peft_adapter(checkpoint, tmp_path, **settings)
    adapter = read_adapter(tmp_path, "theirs")
    assert (adapter.name, adapter.base_model) == ("theirs", str(checkpoint))
    token_ids = random_token_ids(40)
    ours = dense_logits(load_model(checkpoint, torch.float32, adapter=adapter), token_ids)
    assert_same_logits(ours, oracle_logits(theirs, token_ids), 1e-3)
    # What we make of it is the same to PEFT.
    save_adapter(tmp_path / "again", adapter, dtype=torch.float32)
    again = PeftModel.from_pretrained(load_oracle(checkpoint), tmp_path / "again", local_files_only=True).eval()
    assert torch.allclose(oracle_logits(again, token_ids), oracle_logits(theirs, token_ids), atol=1e-4)
    assert {key for key, _ in again.named_parameters() if "lora" in key} == {
        key for key, _ in theirs.named_parameters() if "lora" in key
    }


# -- Files -------------------------------------------------------------------------------------------------------


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    adapter = random_adapter(tiny_config(300), scale=1.5)
    save_adapter(tmp_path / "mine", adapter)
    read = read_adapter(tmp_path / "mine")
    assert (read.name, read.base_model, read.fingerprint) == ("mine", "some/model", adapter.fingerprint)
    assert read.factors.keys() == adapter.factors.keys()
    assert sorted(file.name for file in (tmp_path / "mine").iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]
    assert json.loads((tmp_path / "mine" / CONFIG_FILE).read_text())["target_modules"] == sorted(ALL)


def test_products_may_differ_in_rank_and_scale(tmp_path: Path) -> None:
    config = tiny_config(300)
    parts = [
        random_adapter(config, only=["mlp"], rank=2, scale=0.25),
        random_adapter(config, only=["layers.1.self_attn"], rank=5, scale=3.0),
    ]
    adapter = LoRAAdapter("both", {path: each for part in parts for path, each in part.factors.items()})
    save_adapter(tmp_path, adapter)
    assert read_adapter(tmp_path).fingerprint == adapter.fingerprint


def test_the_fingerprint_tells_adapters_apart_by_their_numbers_only() -> None:
    config = tiny_config(300)
    one = random_adapter(config)
    assert one.fingerprint == LoRAAdapter("other", dict(reversed(one.factors.items()))).fingerprint
    others = [
        random_adapter(config, seed=1),
        random_adapter(config, rank=5),
        random_adapter(config, scale=0.75),
        random_adapter(config, only=["mlp"]),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 5


def test_rank_16_for_smollm2_takes_less_than_12_mb(tmp_path: Path) -> None:
    smollm2 = ModelConfig(
        architecture="llama", vocab_size=49152, hidden_size=576, intermediate_size=1536, num_layers=30, num_heads=9,
        num_kv_heads=3, head_dim=64, max_model_len=8192, tie_word_embeddings=True,
    )  # fmt: skip
    save_adapter(tmp_path, random_adapter(smollm2, rank=16))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 12e6


def test_merging_comes_before_rounding_and_quantizing(llama: Path) -> None:
    adapter = random_adapter(config_of(llama))
    plain = load_model(llama, torch.float32)
    rounded = load_model(llama, torch.bfloat16, adapter=adapter)
    quantized = load_model(llama, torch.float32, adapter=adapter, convert=lambda weight: quantize(weight, "int8"))
    factors = adapter.factors["layers.1.mlp.down_proj"]
    expected = plain.layers[1].mlp.down_proj.weight + factors.scale * factors.b @ factors.a
    assert torch.equal(rounded.layers[1].mlp.down_proj.weight, expected.bfloat16())
    assert torch.equal(quantized.layers[1].mlp.down_proj.weight.data, quantize(expected, "int8").data)


def test_the_paths_are_those_of_the_decoder(llama: Path) -> None:
    model = load_model(llama, torch.float32)
    for path, shape in product_shapes(model.config).items():
        assert model.get_submodule(path).weight.shape == shape
    products = {name for name, module in model.named_modules() if name.endswith("_proj") and hasattr(module, "parts")}
    fused = {name for name in products if name.endswith(("qkv_proj", "gate_up_proj"))}
    assert products - fused == product_shapes(model.config).keys()


# -- Refusals ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "'IA3'; minillm has 'LORA'"),
        ({"peft_type": None}, "None"),
        ({"use_dora": True}, "DoRA"),
        ({"lora_bias": True}, "biases"),
        ({"bias": "all"}, "bias='all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [1]}, "embeddings"),
        ({"fan_in_fan_out": True}, "fan_in_fan_out"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "layer_replication"),
        ({"target_parameters": ["mlp.experts"]}, "target_parameters"),
        ({"init_lora_weights": "pissa_niter_4"}, "pissa_niter_4"),
        ({"init_lora_weights": "OLoRA"}, "OLoRA"),
    ],
)
def test_options_that_change_what_is_computed(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit(folder, **changes)
    with pytest.raises(UnsupportedModelError) as caught:
        read_adapter(folder)
    assert message in str(caught.value)
    assert "'adapter'" in str(caught.value)


@pytest.mark.parametrize("settings", [{"use_dora": True}, {"bias": "lora_only"}, {"modules_to_save": ["norm"]}])
def test_such_files_from_peft_are_refused(llama: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    peft_adapter(llama, tmp_path, target_modules=["q_proj"], **settings)
    with pytest.raises(UnsupportedModelError):
        read_adapter(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 8}, "has the rank 4, and adapter_config.json says 8"),
        ({"rank_pattern": {"up_proj": 3}}, "up_proj has the rank 4"),
        ({"rank_pattern": {"(": 3}}, "is broken"),
        ({"rank_pattern": [1]}, "is broken"),
        ({"lora_alpha": "much"}, "is broken"),
        ({"lora_alpha": None}, "is broken"),
        ({"lora_alpha": float("nan")}, "alpha nan"),
    ],
)
def test_configurations_that_contradict_the_factors(folder: Path, changes: dict[str, Any], message: str) -> None:
    edit(folder, **changes)
    with pytest.raises(WeightsError) as caught:
        read_adapter(folder)
    assert message in str(caught.value)


PATH = "base_model.model.model.layers.0.mlp.up_proj."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({PATH + "lora_A.weight": None}, "without the other"),
        ({PATH + "lora_B.weight": torch.ones(160, 5)}, r"\[4, 64\] and its B \[160, 5\]"),
        ({PATH + "lora_B.weight": torch.ones(160)}, "no matrix"),
        ({PATH + "lora_B.weight": torch.ones(160, 4).int()}, "no matrix"),
        ({PATH + "lora_B.weight": torch.full((160, 4), torch.inf)}, "finite"),
        ({PATH + "lora_magnitude_vector": torch.ones(160)}, "lora_magnitude_vector"),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 300)}, "lora_embedding_A"),
    ],
)
def test_tensors_that_are_no_factors(folder: Path, changes: dict[str, torch.Tensor | None], message: str) -> None:
    tensors = load_file(folder / WEIGHTS_FILE) | changes
    save_file({key: tensor for key, tensor in tensors.items() if tensor is not None}, folder / WEIGHTS_FILE)
    with pytest.raises(MinillmError, match=message):
        read_adapter(folder)


def test_files_that_are_missing_or_damaged(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="holds no adapter: expected a folder with"):
        read_adapter(tmp_path)
    whole = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(whole[:-100])
    with pytest.raises(WeightsError, match="damaged or cut short"):
        read_adapter(folder)
    save_file({}, folder / WEIGHTS_FILE)
    with pytest.raises(WeightsError, match="holds no factors"):
        read_adapter(folder)
    (folder / WEIGHTS_FILE).rename(folder / "adapter_model.bin")
    with pytest.raises(WeightsError, match="save it as safetensors"):
        read_adapter(folder)
    (folder / CONFIG_FILE).write_text("{")
    with pytest.raises(WeightsError, match="can't be read"):
        read_adapter(folder)


def test_an_adapter_for_another_model(llama: Path) -> None:
    config = config_of(llama)
    other = random_adapter(tiny_config(300))
    with pytest.raises(UnsupportedModelError, match=r"is for another model.*160 x 64.*112 x 64.*some/model"):
        load_model(llama, torch.float32, adapter=other)
    deeper = LoRAAdapter("deep", {"layers.3.mlp.up_proj": LoRAFactors(torch.ones(1, 64), torch.ones(112, 1), 1.0)})
    with pytest.raises(UnsupportedModelError, match=r"changes layers.3.mlp.up_proj; .* 3 layers"):
        deeper.check(config)
    head = LoRAAdapter("head", {"lm_head": LoRAFactors(torch.ones(1, 64), torch.ones(96, 1), 1.0)})
    with pytest.raises(UnsupportedModelError, match=r"changes lm_head; .* down_proj, gate_proj"):
        head.check(config)


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no factors"):
        save_adapter(tmp_path, LoRAAdapter("empty", {}))
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="can't be written"):
        save_adapter(tmp_path / "file", random_adapter(tiny_config(300)))
