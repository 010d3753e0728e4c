"""The KV cache's books: which block belongs to whom, and what can be used again. Plain Python; tensors in cache.py."""

from minillm.kv.allocator import (
    BlockAllocator,
    BlockNotAllocatedError,
    DoubleFreeError,
    NoFreeBlocksError,
    RefCountingBlockAllocator,
)
from minillm.kv.manager import (
    CachedRequest,
    KVCacheCorruptionError,
    KVCacheManager,
    KVCacheStats,
    TrimError,
    UnknownRequestError,
)
from minillm.kv.prefix_cache import HashPrefixCache, PrefixCache, hash_block, root_hash

__all__ = [
    "BlockAllocator",
    "BlockNotAllocatedError",
    "CachedRequest",
    "DoubleFreeError",
    "HashPrefixCache",
    "KVCacheCorruptionError",
    "KVCacheManager",
    "KVCacheStats",
    "NoFreeBlocksError",
    "PrefixCache",
    "RefCountingBlockAllocator",
    "TrimError",
    "UnknownRequestError",
    "hash_block",
    "root_hash",
]
