"""The block hashes, and the default prefix cache where the suite for students' own doesn't look."""

from __future__ import annotations

import hashlib
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import MinillmError
from minillm.kv import HashPrefixCache, hash_block, root_hash

ROOT = root_hash("alice", "model", "float32")


def test_whatever_the_keys_depend_on_changes_the_hash() -> None:
    """Parent, tokens, their order and number, model, tenant, dtype, adapter, image."""
    tokens = [1, 2, 3, 4]
    hashes = [
        hash_block(ROOT, tokens, ()),
        hash_block(hash_block(ROOT, tokens, ()), tokens, ()),
        hash_block(root_hash("bob", "model", "float32"), tokens, ()),
        hash_block(root_hash("alice", "other model", "float32"), tokens, ()),
        hash_block(root_hash("alice", "model", "bfloat16"), tokens, ()),
        hash_block(ROOT, [1, 2, 3, 5], ()),
        hash_block(ROOT, [4, 3, 2, 1], ()),
        hash_block(ROOT, [1, 2, 3], ()),
        hash_block(ROOT, tokens, ("adapter:course",)),
        hash_block(ROOT, tokens, ("image:5f3c",)),
        hash_block(ROOT, tokens, ("adapter:course", "image:5f3c")),
        hash_block(ROOT, tokens, ("image:5f3c", "adapter:course")),
    ]
    for a, b in combinations(hashes, 2):
        assert a != b


def test_equal_blocks_have_equal_hashes() -> None:
    assert hash_block(ROOT, [1, 2], ["x"]) == hash_block(bytes(ROOT), (1, 2), ("x",))
    assert len(ROOT) == len(hash_block(ROOT, [1], ())) == hashlib.sha256().digest_size


@given(st.lists(st.lists(st.text(max_size=3), min_size=3, max_size=3), min_size=2, max_size=2, unique_by=tuple))
def test_no_two_roots_are_alike(parts: list[list[str]]) -> None:
    """("ab", "c", "") isn't ("a", "bc", "")."""
    assert root_hash(*parts[0]) != root_hash(*parts[1])


_block = st.tuples(st.lists(st.integers(0, 2**20), max_size=3), st.lists(st.text(max_size=2), max_size=3))


@given(_block, _block)
def test_no_two_blocks_are_alike(a: tuple[list[int], list[str]], b: tuple[list[int], list[str]]) -> None:
    assert (hash_block(ROOT, *a) == hash_block(ROOT, *b)) == (a == b)


def test_a_forced_collision_is_a_miss() -> None:
    cache = HashPrefixCache()
    assert cache.put(b"same", [1, 2], 1)
    assert cache.get(b"same", [1, 3]) is None
    assert not cache.put(b"same", [1, 3], 2)
    assert cache.get(b"same", [1, 2]) == 1


def test_a_block_is_known_by_one_hash_only() -> None:
    cache = HashPrefixCache()
    assert cache.put(b"one", [1], 1)
    assert not cache.put(b"two", [2], 1)
    assert cache.get(b"two", [2]) is None
    assert len(cache) == 1


def test_tails_are_evicted_first_and_blocks_in_use_never() -> None:
    cache = HashPrefixCache()
    for block in (1, 2, 3, 4):
        cache.put(bytes([block]), [block], block)
    for block in (4, 3, 2):
        cache.release(block)
    assert cache.num_evictable_blocks == 3
    assert [cache.evict() for _ in range(4)] == [4, 3, 2, None]
    assert 1 in cache and len(cache) == 1


def test_a_block_that_is_not_cached_cannot_be_acquired_or_released() -> None:
    cache = HashPrefixCache()
    with pytest.raises(MinillmError, match="Block 3"):
        cache.release(3)
    with pytest.raises(MinillmError, match="Block 3"):
        cache.acquire(3)
    assert cache.evict() is None
