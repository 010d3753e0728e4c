"""Attention: who sees whom, and where keys and values are kept."""

from minillm.attention.backend import Attention, AttentionBackend, AttentionMetadata
from minillm.attention.contiguous import ContiguousKVCache
from minillm.attention.dense import DenseAttention
from minillm.attention.paged import PagedAttention
from minillm.attention.torch_backend import TorchBackend

__all__ = [
    "Attention",
    "AttentionBackend",
    "AttentionMetadata",
    "ContiguousKVCache",
    "DenseAttention",
    "PagedAttention",
    "TorchBackend",
]
