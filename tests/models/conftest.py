"""The real model as transformers reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

# SmolLM2-135M as its authors publish it (arXiv:2502.02737): transformers' defaults but for these.
SMOLLM2_SHAPE: dict[str, Any] = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="session")
def transformers_smollm2(smollm2_path: Path) -> PreTrainedModel:
    """The same GGUF file, read and dequantized by transformers, in float32.

    `from_pretrained(gguf_file=…)` does no more than this, but reads the file's header three times, at several
    seconds each, and wants the package accelerate.
    """
    config = LlamaConfig(
        **SMOLLM2_SHAPE, rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 100000.0}
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    read = load_gguf_checkpoint(str(smollm2_path), return_tensors=True, model_to_load=model)
    described = read["config"]
    assert {key: described[key] for key in SMOLLM2_SHAPE} == SMOLLM2_SHAPE
    assert described["rms_norm_eps"] == pytest.approx(1e-5)
    assert described["rope_theta"] == 100000.0
    model = LlamaForCausalLM(config)
    model.load_state_dict(read["tensors"], strict=False)
    model.tie_weights()
    return model.eval()
