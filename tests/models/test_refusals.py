"""Models that minillm doesn't run are refused by name, before a single weight is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import write_json
from oracle import SHAPE
from transformers import AutoConfig, GPT2Config, MistralConfig, MixtralConfig, PreTrainedConfig, Qwen3MoeConfig

from minillm.errors import MinillmError, UnsupportedModelError, WeightsError
from minillm.models import load_model

LLAMA = SHAPE | {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
QWEN2 = SHAPE | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}


def refusal(folder: Path, config: dict[str, Any]) -> str:
    write_json(folder / "config.json", config)
    with pytest.raises(UnsupportedModelError) as caught:
        load_model(folder, torch.float32)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("config", "architecture"),
    [
        (MistralConfig(), "MistralForCausalLM"),
        (MixtralConfig(), "MixtralForCausalLM"),
        (Qwen3MoeConfig(), "Qwen3MoeForCausalLM"),
        (GPT2Config(), "GPT2LMHeadModel"),
        (AutoConfig.for_model("bert"), "BertModel"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_architectures(config: PreTrainedConfig, architecture: str, tmp_path: Path) -> None:
    message = refusal(tmp_path, config.to_dict() | {"architectures": [architecture]})
    assert architecture in message
    assert "LlamaForCausalLM" in message


def test_an_architecture_that_is_not_named(tmp_path: Path) -> None:
    assert "phi3" in refusal(tmp_path, SHAPE | {"model_type": "phi3"})
    assert "none named" in refusal(tmp_path, SHAPE)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "'dynamic'"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}}, "'dynamic'"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}, "'longrope'"),
        ({"rope_scaling": {"type": "su"}}, "'su'"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e6}}}, "layer to layer"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"partial_rotary_factor": 0.25}, "partial_rotary_factor"),
        ({"hidden_act": "gelu"}, "'gelu'"),
        ({"hidden_act": "relu2"}, "'relu2'"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "'gptq'"),
        ({"quantization_config": {"quant_method": "fp8"}}, "'fp8'"),
        ({"quantization_config": {"load_in_4bit": True}}, "quantized"),
        ({"num_attention_heads": 6, "num_key_value_heads": 4}, "multiple"),
        ({"hidden_size": None}, '"hidden_size"'),
        ({"num_hidden_layers": None}, '"num_hidden_layers"'),
        ({"vocab_size": None}, '"vocab_size"'),
    ],
    ids=str,
)
def test_options_that_would_change_the_logits(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    assert named in refusal(tmp_path, LLAMA | change)


def test_sliding_windows(tmp_path: Path) -> None:
    window = {"use_sliding_window": True, "sliding_window": 128, "max_window_layers": 1}
    assert "sliding-window" in refusal(tmp_path, QWEN2 | window)


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": "wide"},
        {"num_attention_heads": 0},
        {"num_attention_heads": -4},
        {"num_hidden_layers": 0},
        {"num_hidden_layers": [3]},
        {"vocab_size": -1},
        {"head_dim": 15},
        {"head_dim": 2**40},
        {"intermediate_size": 2**31 - 1, "hidden_size": 2**31 - 4, "head_dim": 16, "vocab_size": 2**31 - 1},
        {"max_position_embeddings": -5},
        {"rope_theta": 0.5},
        {"rope_theta": "large"},
        {"rope_scaling": "linear"},
        {"rope_scaling": {"type": "linear"}},
        {"rope_scaling": {"type": "llama3"}},
        {"rope_scaling": {"type": "linear", "factor": -1}},
        {"rope_scaling": {"type": "yarn", "factor": "double"}},
        {"quantization_config": "gptq"},
        {"architectures": 7},
    ],
    ids=str,
)
def test_values_that_make_no_sense(change: dict[str, Any], tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", LLAMA | change)
    with pytest.raises(WeightsError) as caught:
        load_model(tmp_path, torch.float32)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"llama"', "\x00\x01"], ids=repr)
def test_a_config_that_is_not_a_json_object(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(WeightsError, match=r"config\.json"):
        load_model(tmp_path, torch.float32)


def test_a_config_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MinillmError, match=r"config\.json"):
        load_model(tmp_path, torch.float32)
