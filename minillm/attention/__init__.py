"""Attention: who sees whom, and where keys and values are kept."""

from minillm.attention.backend import Attention
from minillm.attention.contiguous import ContiguousKVCache
from minillm.attention.dense import DenseAttention

__all__ = ["Attention", "ContiguousKVCache", "DenseAttention"]
