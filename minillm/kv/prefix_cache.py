"""The prefix cache: finds the block that already holds the keys and values of the same tokens after the same prefix.

A block is known by a hash over everything that its keys and values depend on: its own tokens, the hash of the block
before it (and so all tokens before), and at the root of that chain the tenant, the model and the type of the numbers.
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol

from minillm.errors import MinillmError


def root_hash(tenant: str, fingerprint: str, kv_dtype: str) -> bytes:
    """The parent hash of a first block. Tenants, models and dtypes never share a block, since their roots differ."""
    return _digest(b"root", *(_encode(part) for part in (tenant, fingerprint, kv_dtype)))


def hash_block(parent: bytes, token_ids: Sequence[int], extra_keys: Sequence[str]) -> bytes:
    """The hash of a full block.

    Args:
        parent: hash of the block before it, or `root_hash` for the first.
        token_ids: the block's tokens.
        extra_keys: what else its keys and values depend on (an adapter, an image's hash).
    """
    tokens = struct.pack(f"<{len(token_ids)}q", *token_ids)
    return _digest(b"block", parent, tokens, *(_encode(key) for key in extra_keys))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _digest(*parts: bytes) -> bytes:
    # Each part's length stands before it: ("ab", "c") must not become the same bytes as ("a", "bc").
    return hashlib.sha256(b"".join(piece for part in parts for piece in (struct.pack("<Q", len(part)), part))).digest()


class BlockNotCachedError(MinillmError):
    """A block was acquired or released that the prefix cache doesn't hold."""


class PrefixCache(Protocol):
    """Remembers full blocks by their hash. `LLM(prefix_cache=…)` takes a class that is built without arguments.

    A cached block is either in use by a request or evictable. The cache doesn't count users: the manager calls
    `acquire` when the first request takes a block up, and `release` when the last one has left it.
    """

    def get(self, block_hash: bytes, token_ids: Sequence[int]) -> int | None:
        """The block with this hash and these tokens, or None. Changes nothing.

        The tokens are compared as well, by value: if a hash is ever forged or collides, that's a miss.
        """
        ...

    def put(self, block_hash: bytes, token_ids: Sequence[int], block: int) -> bool:
        """Remembers a block, which the request that computed it still uses.

        Returns:
            False if the hash (or the block) is there already; then nothing has changed.
        """
        ...

    def acquire(self, block: int) -> None:
        """A request uses the block now: it isn't evictable."""
        ...

    def release(self, block: int) -> None:
        """No request uses the block any more: it's evictable, and the most recently used of those."""
        ...

    def evict(self) -> int | None:
        """Forgets the least recently used evictable block and returns it; None if there is none."""
        ...

    def __contains__(self, block: int) -> bool: ...

    def __len__(self) -> int:
        """Blocks in the cache, in use or evictable."""
        ...

    @property
    def num_evictable_blocks(self) -> int:
        """Cached blocks that no request uses."""
        ...


class HashPrefixCache:
    """The default: a table of hashes and the evictable blocks in order of their last use. Everything is O(1).

    A request gives its blocks back last one first, so that a prefix outlives what was built on it: without its
    parent a block could never be found.
    """

    def __init__(self) -> None:
        self._blocks: dict[bytes, int] = {}
        self._contents: dict[int, tuple[bytes, tuple[int, ...]]] = {}
        self._evictable: OrderedDict[int, None] = OrderedDict()  # least recently used first

    def get(self, block_hash: bytes, token_ids: Sequence[int]) -> int | None:
        """Looks a block up, see `PrefixCache.get`."""
        block = self._blocks.get(block_hash)
        if block is None or self._contents[block][1] != tuple(token_ids):
            return None
        return block

    def put(self, block_hash: bytes, token_ids: Sequence[int], block: int) -> bool:
        """Remembers a block, see `PrefixCache.put`."""
        if block_hash in self._blocks or block in self._contents:
            return False
        self._blocks[block_hash] = block
        self._contents[block] = (block_hash, tuple(token_ids))
        return True

    def acquire(self, block: int) -> None:
        """Marks a block as used, see `PrefixCache.acquire`."""
        self._expect(block)
        self._evictable.pop(block, None)

    def release(self, block: int) -> None:
        """Marks a block as evictable, see `PrefixCache.release`."""
        self._expect(block)
        self._evictable[block] = None
        self._evictable.move_to_end(block)

    def evict(self) -> int | None:
        """Forgets the least recently used block, see `PrefixCache.evict`."""
        if not self._evictable:
            return None
        block, _ = self._evictable.popitem(last=False)
        self._forget(block)
        return block

    def __contains__(self, block: int) -> bool:
        return block in self._contents

    def __len__(self) -> int:
        return len(self._contents)

    @property
    def num_evictable_blocks(self) -> int:
        """Cached blocks that no request uses."""
        return len(self._evictable)

    def _forget(self, block: int) -> None:
        block_hash, _ = self._contents.pop(block)
        del self._blocks[block_hash]

    def _expect(self, block: int) -> None:
        if block not in self._contents:
            raise BlockNotCachedError(f"Block {block} isn't in the prefix cache; put it there first.")
