"""Lesson 04's trace and its measure: reproducible, and the same as what the engine's own prefix cache hits."""

from __future__ import annotations

import pytest

from minillm.errors import MinillmError
from minillm.kv import HashPrefixCache, KVCacheManager
from minillm.lab.traces import (
    BLOCK_SIZE,
    EvictionPolicyError,
    LeastRecentlyUsed,
    PolicyPrefixCache,
    handbook_trace,
    hit_rate,
    replay,
)
from minillm.testing import check_prefix_cache


def test_a_seed_makes_one_trace() -> None:
    assert handbook_trace(4, 30) == handbook_trace(4, 30)
    assert handbook_trace(4, 30) != handbook_trace(5, 30)


def test_the_trace_is_what_it_says() -> None:
    trace = handbook_trace(4, 200, num_tenants=3, one_off_share=0.5)
    assert {request.tenant for request in trace} == {"tenant-0", "tenant-1", "tenant-2"}
    one_offs = [request for request in trace if request.kind == "one-off"]
    assert 60 < len(one_offs) < 140
    assert all(1000 <= len(request.token_ids) < 2000 for request in one_offs)
    openings = {
        (request.tenant, tuple(request.token_ids[: 10 * BLOCK_SIZE])) for request in trace if request.kind == "question"
    }
    assert len(openings) == 3


def test_an_edition_replaces_every_page() -> None:
    def pages(edited_at: float | None) -> tuple[set[tuple[int, ...]], set[tuple[int, ...]]]:
        trace = handbook_trace(4, 200, one_off_share=0, edited_at=edited_at)
        parts = [{tuple(each.token_ids[160:288]) for each in half} for half in (trace[:100], trace[100:])]
        return parts[0], parts[1]

    before, after = pages(0.5)
    assert not before & after
    before, after = pages(None)
    assert before & after


def test_the_policy_of_the_engine_hits_what_the_engine_hits() -> None:
    trace, num_blocks = handbook_trace(4, 80), 200
    manager = KVCacheManager(num_blocks, BLOCK_SIZE, prefix_cache=HashPrefixCache(), debug=True)
    expected = []
    for request in trace:
        blocks, num_cached = manager.get_computed_blocks(request)
        assert manager.allocate_slots(request, len(request.token_ids) - num_cached, blocks)
        request.num_computed_tokens = len(request.token_ids)
        manager.cache_blocks(request)
        manager.free(request.request_id)
        expected.append(num_cached)
    assert manager.usage().free == 0, "the pool was too large for anything to be evicted"
    assert [served.num_cached_tokens for served in replay(LeastRecentlyUsed, trace, num_blocks)] == expected


def test_tenants_do_not_hit_each_other() -> None:
    first, *_ = handbook_trace(4, 1, one_off_share=0)
    [again] = handbook_trace(4, 1, one_off_share=0)
    again.request_id, again.tenant = "again", "another"
    assert [served.num_cached_tokens for served in replay(LeastRecentlyUsed, [first, again])] == [0, 0]
    again.tenant = first.tenant
    assert [served.num_cached_tokens for served in replay(LeastRecentlyUsed, [first, again])][1] > 0


def test_the_rate_counts_the_kind_that_was_asked_for() -> None:
    trace = handbook_trace(4, 60)
    questions, everything = hit_rate(LeastRecentlyUsed, trace), hit_rate(LeastRecentlyUsed, trace, kind=None)
    assert hit_rate(LeastRecentlyUsed, trace, kind="one-off") == 0
    assert 0 < everything < questions < 1
    assert hit_rate(LeastRecentlyUsed, []) == 0


def test_a_cache_with_the_engines_policy_is_a_prefix_cache() -> None:
    check_prefix_cache(lambda: PolicyPrefixCache(LeastRecentlyUsed(9))).raise_if_failed()


def test_a_policy_that_chooses_a_block_in_use_is_refused() -> None:
    class Stubborn(LeastRecentlyUsed):
        def evict(self) -> bytes:
            return b"used"

    cache = PolicyPrefixCache(Stubborn(9))
    cache.put(b"used", [1], 1)
    cache.put(b"free", [2], 2)
    cache.release(2)
    with pytest.raises(EvictionPolicyError, match="a block that a request is using"):
        cache.evict()
    assert 1 in cache and 2 in cache


def test_a_pool_that_is_too_small_is_refused() -> None:
    with pytest.raises(MinillmError, match="make num_blocks larger"):
        hit_rate(LeastRecentlyUsed, handbook_trace(4, 5, one_off_share=1), num_blocks=20)
