"""An oracle for the tiny model, models that say what they are told to, and a checkpoint in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scripted import ScriptedSampler
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from minillm import LLM
from minillm.engine import Engine, EngineConfig


@pytest.fixture(scope="session")
def tiny_oracle(tiny: LLM) -> LlamaForCausalLM:
    """transformers' model with the weights of tiny-random."""
    config = tiny.model.config
    oracle = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            max_position_embeddings=config.max_model_len,
            rms_norm_eps=config.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.rope.theta},
            tie_word_embeddings=True,
        )
    )
    weights = {f"model.{name}": tensor for name, tensor in tiny.model.state_dict().items()}
    oracle.load_state_dict(weights | {"lm_head.weight": weights["model.embed_tokens.weight"]}, strict=False)
    return oracle.eval()


@pytest.fixture(scope="session")
def oracle_logits(tiny_oracle: LlamaForCausalLM) -> Callable[[list[int]], Tensor]:
    """token ids → logits of every position, [num_tokens, vocab_size]."""

    def logits(token_ids: list[int]) -> Tensor:
        with torch.inference_mode():
            return tiny_oracle(torch.tensor([token_ids])).logits[0]

    return logits


@pytest.fixture
def saying() -> Callable[[list[int]], LLM]:
    """A tiny model that says the given tokens."""

    def build(token_ids: list[int]) -> LLM:
        return LLM("tiny-random", device="cpu", sampler=ScriptedSampler(token_ids))

    return build


@pytest.fixture(scope="session")
def tiny_folder(tiny: LLM, tiny_oracle: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-random as a checkpoint in Hugging Face's format, with its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_oracle.save_pretrained(folder)
    tiny.tokenizer.save(folder)
    return folder


@pytest.fixture
def tiny_engine() -> Engine:
    """An engine that checks its books after every operation."""
    return Engine("tiny-random", EngineConfig(device="cpu", debug=True))
