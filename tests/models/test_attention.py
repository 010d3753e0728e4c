"""Attention on its own, against softmax written out, one query at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from minillm.attention import Attention, ContiguousKVCache, DenseAttention


def written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention with grouped queries: q [tokens, heads, dim], k and v [tokens, kv_heads, dim]."""
    out = torch.empty_like(q)
    group = q.shape[1] // k.shape[1]
    for token in range(q.shape[0]):
        for head in range(q.shape[1]):
            keys, values = k[: token + 1, head // group], v[: token + 1, head // group]
            weights = (keys @ q[token, head] / q.shape[2] ** 0.5).softmax(0)
            out[token, head] = weights @ values
    return out


def random_qkv(tokens: int, heads: int, kv_heads: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(  # type: ignore[return-value]
        torch.randn(tokens, count, dim, generator=generator) for count in (heads, kv_heads, kv_heads)
    )


def attend(attention: Attention, q: Tensor, k: Tensor, v: Tensor, layer: int = 0) -> Tensor:
    """Attention of tokens that all stand at position 0, where RoPE turns nothing."""
    return attention(layer, q, k, v, torch.ones(len(q), q.shape[-1]), torch.zeros(len(q), q.shape[-1]))


def new_cache(max_tokens: int, kv_heads: int, dim: int, layers: int = 1) -> ContiguousKVCache:
    return ContiguousKVCache(
        num_layers=layers, num_kv_heads=kv_heads, head_dim=dim, max_tokens=max_tokens, dtype=torch.float32
    )


@settings(max_examples=60)
@given(
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    dim=st.sampled_from([2, 8, 16]),
    room=st.integers(0, 5),
)
def test_any_chunking_gives_causal_attention(chunks: list[int], kv_heads: int, group: int, dim: int, room: int) -> None:
    total = sum(chunks)
    q, k, v = random_qkv(total, kv_heads * group, kv_heads, dim)
    expected = written_out(q, k, v)
    torch.testing.assert_close(attend(DenseAttention(), q, k, v), expected, rtol=1e-5, atol=1e-5)
    cache, begin = new_cache(total + room, kv_heads, dim), 0
    for size in chunks:
        rows = slice(begin, begin + size)
        torch.testing.assert_close(attend(cache, q[rows], k[rows], v[rows]), expected[rows], rtol=1e-5, atol=1e-5)
        cache.advance(size)
        begin += size
    assert cache.num_computed_tokens == total


def test_layers_do_not_mix() -> None:
    cache = new_cache(8, 2, 4, layers=3)
    first = [random_qkv(5, 4, 2, 4, seed=layer) for layer in range(3)]
    second = [random_qkv(3, 4, 2, 4, seed=10 + layer) for layer in range(3)]
    for layer, qkv in enumerate(first):
        attend(cache, *qkv, layer=layer)
    cache.advance(5)
    for layer, qkv in enumerate(second):
        q, k, v = (torch.cat(parts) for parts in zip(first[layer], qkv, strict=True))
        torch.testing.assert_close(attend(cache, *qkv, layer=layer), written_out(q, k, v)[5:], rtol=1e-5, atol=1e-5)


def test_a_pass_that_was_not_counted_is_overwritten() -> None:
    """If a forward pass fails halfway, the cache still stands where it stood."""
    q, k, v = random_qkv(6, 2, 2, 8)
    cache = new_cache(6, 2, 8)
    attend(cache, q[:3], k[:3], v[:3])
    cache.advance(3)
    attend(cache, *random_qkv(3, 2, 2, 8, seed=1))
    torch.testing.assert_close(attend(cache, q[3:], k[3:], v[3:]), written_out(q, k, v)[3:], rtol=1e-5, atol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    cache = new_cache(4, 1, 2)
    attend(cache, *random_qkv(3, 1, 1, 2))
    cache.advance(3)
    with pytest.raises(ValueError, match="holds 4 tokens; 5 are needed"):
        attend(cache, *random_qkv(2, 1, 1, 2))
    attend(cache, *random_qkv(1, 1, 1, 2))


def test_the_cache_may_begin_as_garbage() -> None:
    """Its memory isn't cleared, so what lies behind the computed tokens must never be looked at."""
    q, k, v = random_qkv(4, 2, 1, 8)
    cache = new_cache(64, 1, 8)
    cache.keys.fill_(torch.nan)
    cache.values.fill_(torch.nan)
    torch.testing.assert_close(attend(cache, q, k, v), written_out(q, k, v), rtol=1e-5, atol=1e-5)
