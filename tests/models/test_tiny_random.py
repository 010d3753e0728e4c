"""The model for tests: the same everywhere, and as real as a large one."""

from __future__ import annotations

import torch

from minillm.models.tiny import random_model, tiny_config


def test_the_seed_decides_the_weights() -> None:
    config = tiny_config(64)
    first, again, other = random_model(config), random_model(config), random_model(config, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.embed_tokens.weight, other.embed_tokens.weight)


def test_other_dtypes_hold_the_same_weights_rounded() -> None:
    config = tiny_config(64)
    exact, rounded = random_model(config), random_model(config, dtype=torch.bfloat16)
    for a, b in zip(exact.parameters(), rounded.parameters(), strict=True):
        assert torch.equal(a.to(torch.bfloat16), b)
    assert rounded.dtype == torch.bfloat16
    assert rounded.rotary.inverse_frequencies.dtype == torch.float32
    assert rounded.lm_head.weight is rounded.embed_tokens.weight


def test_it_has_what_smollm2_has() -> None:
    config = tiny_config(512)
    assert config.num_kv_heads < config.num_heads
    assert config.tie_word_embeddings
    assert config.kv_bytes_per_token == 2 * 2 * 2 * 16 * 2
    model = random_model(config)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
