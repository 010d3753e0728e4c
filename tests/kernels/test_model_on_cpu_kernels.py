"""A whole model on the C kernels computes what it computes in PyTorch, whatever its architecture turns on."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch

from minillm.attention import DenseAttention
from minillm.kernels import TorchKernels, quantize
from minillm.kernels.cpu import CPUKernels
from minillm.models.config import ModelConfig
from minillm.models.tiny import random_model, tiny_config

PLAIN = tiny_config(300)
FAMILIES: dict[str, ModelConfig] = {
    "llama": PLAIN,
    "untied": dataclasses.replace(PLAIN, tie_word_embeddings=False),
    "qwen2": dataclasses.replace(PLAIN, architecture="qwen2", qkv_bias=True),
    "qwen3": dataclasses.replace(PLAIN, architecture="qwen3", qk_norm=True, head_dim=24),
    "biases": dataclasses.replace(PLAIN, attention_output_bias=True, mlp_bias=True, qkv_bias=True),
}


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.15)])
def test_logits_are_those_of_the_reference(family: str, dtype: torch.dtype, tolerance: float) -> None:
    token_ids = torch.randint(0, 300, (33,), generator=torch.Generator().manual_seed(1))
    logits = []
    for kernels, model_dtype in ((TorchKernels(), torch.float32), (CPUKernels(), dtype)):
        model = random_model(FAMILIES[family], dtype=model_dtype)
        model.kernels = kernels
        logits.append(model.logits(model(token_ids, torch.arange(33), DenseAttention())))
    assert (logits[0] - logits[1]).abs().max() < tolerance


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_quantized_models_are_those_of_the_reference(quantization: str) -> None:
    """The C kernels round activations to 8 bits as well, so they differ about as much as each from the exact model."""
    token_ids = torch.randint(0, 300, (33,), generator=torch.Generator().manual_seed(1))

    def logits(kernels: TorchKernels | CPUKernels, kind: str | None) -> torch.Tensor:
        model = random_model(FAMILIES["qwen2"])
        if kind is not None:
            model.convert(partial(quantize, kind=kind))
        model.kernels = kernels
        return model.logits(model(token_ids, torch.arange(33), DenseAttention()))

    exact = logits(TorchKernels(), None)
    ours, reference = logits(CPUKernels(), quantization), logits(TorchKernels(), quantization)
    assert (ours - reference).abs().mean() < 2 * (reference - exact).abs().mean()
