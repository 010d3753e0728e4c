"""The KV cache manager: prefix reuse, copy-on-write, and books that add up after any series of operations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import minillm.kv.manager
from minillm.errors import MinillmError
from minillm.kv import (
    HashPrefixCache,
    KVCacheCorruptionError,
    KVCacheManager,
    KVCacheStats,
    RefCountingBlockAllocator,
    TrimError,
    UnknownRequestError,
)

BLOCK = 4


@dataclass
class PlainRequest:
    request_id: str
    token_ids: list[int]
    tenant: str = ""
    extra_keys: tuple[str, ...] = ()
    num_computed_tokens: int = 0


@dataclass
class Pool:
    """A manager with small blocks that checks itself after every operation."""

    num_blocks: int = 11
    prefix_cache: HashPrefixCache | bool | None = None
    kv: KVCacheManager = field(init=False)

    def __post_init__(self) -> None:
        cache = self.prefix_cache
        assert cache is not True
        self.kv = KVCacheManager(self.num_blocks, BLOCK, prefix_cache=cache, debug=True)

    def run(self, request_id: str, token_ids: Sequence[int], **fields: object) -> tuple[PlainRequest, int]:
        """Admits a request and computes all its tokens; also how many of them were cached."""
        request = PlainRequest(request_id, list(token_ids), **fields)  # type: ignore[arg-type]
        blocks, num_cached = self.kv.get_computed_blocks(request)
        assert self.kv.allocate_slots(request, len(request.token_ids) - num_cached, blocks)
        request.num_computed_tokens = len(request.token_ids)
        self.kv.cache_blocks(request)
        return request, num_cached

    def hit(self, token_ids: Sequence[int], **fields: object) -> int:
        """How many tokens of such a request are cached."""
        return self.kv.get_computed_blocks(PlainRequest("asking", list(token_ids), **fields))[1]  # type: ignore[arg-type]

    def state(self) -> tuple[KVCacheStats, list[int], dict[str, list[int]]]:
        """All that can be seen of the manager's books."""
        counts = [self.kv.allocator.ref_count(block) for block in range(self.num_blocks)]
        tables = {}
        for request_id in ("a", "b", "c"):
            try:
                tables[request_id] = list(self.kv.block_table(request_id))
            except UnknownRequestError:
                continue
        return self.kv.usage(), counts, tables


# -- room -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_tokens", "num_blocks"), [(1, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_a_request_gets_just_the_blocks_that_its_tokens_need(num_tokens: int, num_blocks: int) -> None:
    pool = Pool()
    assert pool.kv.allocate_slots(PlainRequest("a", list(range(num_tokens))), num_tokens)
    assert len(set(pool.kv.block_table("a"))) == num_blocks
    assert pool.kv.num_available_blocks == pool.kv.num_usable_blocks - num_blocks
    assert pool.kv.usage().fragmentation == 1 - num_tokens / (num_blocks * BLOCK)


def test_a_decoding_request_gets_a_block_when_the_last_one_is_full_and_not_before() -> None:
    pool = Pool()
    request, _ = pool.run("a", [1, 2, 3])
    lengths = []
    for token in range(6):
        assert pool.kv.allocate_slots(request, 1)
        lengths.append(len(pool.kv.block_table("a")))
        request.token_ids.append(token)
        request.num_computed_tokens += 1
    assert lengths == [1, 2, 2, 2, 2, 3]


@pytest.mark.parametrize("admitted", [False, True])
def test_an_allocation_that_fails_changes_nothing(admitted: bool) -> None:
    """With cached blocks to adopt and to evict, a fork that would need a copy, and a copy that waits."""
    pool = Pool()
    pool.run("c", range(10, 18))
    pool.kv.free("c")
    parent, _ = pool.run("a", [1, 2, 3, 4, 5])
    pool.kv.fork("a", "b")
    assert pool.kv.num_available_blocks == 8 and pool.kv.usage().cached == 2
    before = pool.state()
    if admitted:
        assert not pool.kv.allocate_slots(parent, 4 * 9)
    else:
        newcomer = PlainRequest("c", list(range(10, 10 + 4 * 9)))
        blocks, num_cached = pool.kv.get_computed_blocks(newcomer)
        assert num_cached == 8
        assert not pool.kv.allocate_slots(newcomer, 4 * 7, blocks)
    assert pool.state() == before
    assert pool.kv.take_block_copies() == []
    pool.kv.check_integrity()


def test_blocks_to_adopt_are_not_counted_as_room_for_others() -> None:
    """Of 4 blocks 2 are cached and wanted: 2 new ones fit beside them, 3 don't."""
    for num_new, fits in ((2 * BLOCK, True), (2 * BLOCK + 1, False)):
        pool = Pool(num_blocks=5)
        pool.run("a", range(8))
        pool.kv.free("a")
        request = PlainRequest("b", list(range(8 + num_new)))
        blocks, _ = pool.kv.get_computed_blocks(request)
        assert len(blocks) == 2
        assert pool.kv.allocate_slots(request, num_new, blocks) is fits


def test_the_last_copy_on_write_needs_room_as_well() -> None:
    pool = Pool(num_blocks=3)
    parent, _ = pool.run("a", [1, 2])
    pool.kv.fork("a", "b")
    pool.run("c", [7])
    assert not pool.kv.allocate_slots(parent, 1)
    pool.kv.free("c")
    assert pool.kv.allocate_slots(parent, 1)


def test_cached_blocks_are_adopted_at_admission_only() -> None:
    pool = Pool()
    request, _ = pool.run("a", range(5))
    with pytest.raises(MinillmError, match="'a' has blocks already"):
        pool.kv.allocate_slots(request, 1, [1])


# -- prefix reuse -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_tokens", "num_cached"), [(1, 0), (3, 0), (4, 0), (5, 4), (7, 4), (8, 4), (9, 8), (12, 8), (13, 12), (16, 12)]
)
def test_a_hit_is_whole_blocks_and_leaves_a_token_to_compute(num_tokens: int, num_cached: int) -> None:
    """A prompt of a multiple of the block size has its last block computed again."""
    pool = Pool()
    pool.run("a", range(12))
    assert pool.hit(range(num_tokens)) == num_cached


def test_a_hit_uses_the_very_blocks() -> None:
    pool = Pool()
    pool.run("a", range(10))
    _, num_cached = pool.run("b", [*range(8), 50, 51, 52])
    assert num_cached == 8
    a, b = pool.kv.block_table("a"), pool.kv.block_table("b")
    assert a[:2] == b[:2] and a[2] != b[2]
    usage = pool.kv.usage()
    assert (usage.referenced, usage.tokens_in_use) == (4, 8 + 2 + 3)
    assert (usage.queried_tokens, usage.hit_tokens) == (10 + 11, 8)


def test_a_hit_ends_where_the_tokens_differ_and_does_not_begin_again() -> None:
    pool = Pool()
    pool.run("a", range(16))
    assert pool.hit([*range(4), 99, *range(5, 16), 0]) == 4
    assert pool.hit([99, *range(1, 16), 0]) == 0


def test_only_computed_blocks_become_visible() -> None:
    pool = Pool()
    request = PlainRequest("a", list(range(12)))
    assert pool.kv.allocate_slots(request, 12)
    for num_computed, num_visible in ((0, 0), (3, 0), (4, 4), (7, 4), (11, 8), (12, 12)):
        request.num_computed_tokens = num_computed
        pool.kv.cache_blocks(request)
        assert pool.hit(range(13)) == num_visible


def test_an_abort_in_the_middle_of_a_chunk_publishes_nothing_more() -> None:
    pool = Pool()
    request = PlainRequest("a", list(range(12)))
    assert pool.kv.allocate_slots(request, 6)
    request.num_computed_tokens = 6
    pool.kv.cache_blocks(request)
    assert pool.kv.allocate_slots(request, 6)
    pool.kv.free("a")
    assert pool.hit(range(13)) == 4
    assert pool.kv.usage().cached == 1


def test_output_tokens_are_found_as_well() -> None:
    pool = Pool()
    request, _ = pool.run("a", range(6))
    request.token_ids += [6, 7]
    assert pool.kv.allocate_slots(request, 2)
    request.num_computed_tokens = 8
    pool.kv.cache_blocks(request)
    assert pool.hit(range(9)) == 8


def test_a_request_that_comes_back_after_preemption_finds_its_own_blocks() -> None:
    pool = Pool()
    request, _ = pool.run("a", range(10))
    pool.kv.free("a")
    request.num_computed_tokens = 0
    blocks, num_cached = pool.kv.get_computed_blocks(request)
    assert num_cached == 8
    assert pool.kv.allocate_slots(request, 2, blocks)


@pytest.mark.parametrize("told", [False, True])
def test_adopted_tokens_count_as_computed_whether_the_request_says_so_or_not(told: bool) -> None:
    pool = Pool()
    pool.run("a", range(9))
    request = PlainRequest("b", list(range(10)))
    blocks, num_cached = pool.kv.get_computed_blocks(request)
    request.num_computed_tokens = num_cached if told else 0
    assert pool.kv.allocate_slots(request, 2, blocks)
    assert len(pool.kv.block_table("b")) == 3


def test_equal_blocks_computed_side_by_side_are_published_once() -> None:
    pool = Pool()
    requests = [PlainRequest(name, list(range(5))) for name in "ab"]
    for request in requests:
        assert pool.kv.allocate_slots(request, 5)
    for request in requests:
        request.num_computed_tokens = 5
        pool.kv.cache_blocks(request)
    assert pool.kv.get_computed_blocks(PlainRequest("c", list(range(5))))[0] == pool.kv.block_table("a")[:1]
    pool.kv.free("a")
    pool.kv.free("b")
    assert pool.kv.usage().cached == 1


def test_a_tenant_never_hits_anothers_blocks() -> None:
    pool = Pool()
    pool.run("a", range(9), tenant="alice")
    assert pool.hit(range(9), tenant="alice") == 8
    for other in ("bob", "", "Alice", "alice "):
        assert pool.hit(range(9), tenant=other) == 0


def test_an_adapter_and_an_image_have_blocks_of_their_own() -> None:
    pool = Pool()
    pool.run("a", range(9), extra_keys=("adapter",))
    assert pool.hit(range(9), extra_keys=("adapter",)) == 8
    assert pool.hit(range(9)) == 0
    assert pool.hit(range(9), extra_keys=("adapter", "image")) == 0


@pytest.mark.parametrize("settings", [{"fingerprint": "other"}, {"kv_dtype": "bfloat16"}])
def test_another_model_or_dtype_has_blocks_of_its_own(settings: dict[str, str]) -> None:
    """Two managers around one pool, as after an exchange of blocks."""
    allocator, cache = RefCountingBlockAllocator(9), HashPrefixCache()
    one = KVCacheManager(9, BLOCK, allocator=allocator, prefix_cache=cache)
    other = KVCacheManager(9, BLOCK, allocator=allocator, prefix_cache=cache, **settings)  # type: ignore[arg-type]
    request = PlainRequest("a", list(range(9)))
    assert one.allocate_slots(request, 9)
    request.num_computed_tokens = 9
    one.cache_blocks(request)
    assert one.get_computed_blocks(request)[1] == 8
    assert other.get_computed_blocks(request)[1] == 0


def test_a_forced_collision_of_all_hashes_is_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minillm.kv.manager, "hash_block", lambda parent, token_ids, extra_keys: b"always the same")
    pool = Pool()
    pool.run("a", [1, 2, 3, 4, 5])
    assert pool.hit([1, 2, 3, 4, 5]) == 4
    assert pool.hit([1, 2, 3, 9, 5]) == 0
    pool.run("b", [1, 2, 3, 9, 5])
    assert pool.hit([1, 2, 3, 9, 5]) == 0
    assert pool.hit([1, 2, 3, 4, 5]) == 4


def test_without_a_prefix_cache_nothing_is_kept() -> None:
    pool = Pool(prefix_cache=False)
    pool.run("a", range(9))
    assert pool.hit(range(9)) == 0
    pool.kv.free("a")
    usage = pool.kv.usage()
    assert (usage.free, usage.cached, usage.queried_tokens) == (10, 0, 0)


def test_an_empty_cache_that_was_handed_over_is_used() -> None:
    """It has a length of 0, so it's false where a condition asks."""
    cache = HashPrefixCache()
    pool = Pool(prefix_cache=cache)
    pool.run("a", range(9))
    assert len(cache) == 2


# -- eviction ---------------------------------------------------------------------------------------------------


def test_eviction_takes_tails_first() -> None:
    pool = Pool(num_blocks=5)
    pool.run("a", range(16))
    pool.kv.free("a")
    for num_evicted in range(1, 5):
        request = PlainRequest("b", [99] * num_evicted * BLOCK)
        assert pool.kv.allocate_slots(request, len(request.token_ids))
        assert pool.hit([*range(16), 0]) == (4 - num_evicted) * BLOCK
        pool.kv.free("b")


def test_eviction_takes_what_was_used_longest_ago() -> None:
    pool = Pool(num_blocks=5)
    pool.run("a", [1] * 8)
    pool.run("b", [2] * 8)
    pool.kv.free("a")
    pool.kv.free("b")
    pool.run("c", [1] * 5)  # a's first block is used again
    pool.kv.free("c")
    assert pool.kv.allocate_slots(PlainRequest("d", [3] * 12), 12)
    assert pool.hit([1] * 9) == 4
    assert pool.hit([2] * 9) == 0


def test_a_referenced_block_is_never_evicted() -> None:
    pool = Pool(num_blocks=5)
    pool.run("a", range(8))
    held = list(pool.kv.block_table("a"))
    assert not pool.kv.allocate_slots(PlainRequest("b", [9] * 12), 12)
    assert pool.kv.allocate_slots(PlainRequest("b", [9] * 8), 8)
    assert not set(held) & set(pool.kv.block_table("b"))
    assert pool.hit([*range(8), 0]) == 8


def test_what_a_second_request_adopted_outlives_the_first() -> None:
    pool = Pool(num_blocks=5)
    pool.run("a", range(9))
    pool.kv.free("a")
    pool.run("b", range(9))
    pool.run("c", range(5))
    pool.kv.free("b")
    assert pool.kv.allocate_slots(PlainRequest("d", [9] * 8), 8)
    assert pool.kv.usage().cached == 0
    assert pool.hit(range(9)) == 4


# -- forks ------------------------------------------------------------------------------------------------------


def test_a_fork_shares_all_blocks_and_copies_none() -> None:
    pool = Pool()
    pool.run("a", range(6))
    pool.kv.fork("a", "b")
    assert pool.kv.block_table("a") == pool.kv.block_table("b")
    assert pool.kv.block_table("a") is not pool.kv.block_table("b")
    usage = pool.kv.usage()
    assert (usage.referenced, usage.tokens_in_use) == (2, 6)
    assert pool.kv.take_block_copies() == []


def test_the_first_to_write_a_shared_block_gets_a_copy_and_the_last_writes_in_place() -> None:
    pool = Pool()
    parent, _ = pool.run("a", range(6))
    children = [PlainRequest(name, list(range(6)), num_computed_tokens=6) for name in "bc"]
    for child in children:
        pool.kv.fork("a", child.request_id)
    shared = pool.kv.block_table("a")[1]
    for request in (parent, *children):
        assert pool.kv.allocate_slots(request, 1)
    tables = [pool.kv.block_table(name) for name in "abc"]
    assert len({table[0] for table in tables}) == 1
    assert len({table[1] for table in tables}) == 3
    assert tables[2][1] == shared
    assert pool.kv.take_block_copies() == [(shared, tables[0][1]), (shared, tables[1][1])]
    assert pool.kv.take_block_copies() == []


def test_a_fork_at_a_block_boundary_copies_nothing() -> None:
    pool = Pool()
    parent, _ = pool.run("a", range(8))
    pool.kv.fork("a", "b")
    assert pool.kv.allocate_slots(parent, 1)
    assert pool.kv.allocate_slots(PlainRequest("b", list(range(8)), num_computed_tokens=8), 1)
    assert pool.kv.take_block_copies() == []
    assert pool.kv.block_table("a")[2] != pool.kv.block_table("b")[2]


def test_shared_room_that_holds_nothing_yet_is_replaced_without_a_copy() -> None:
    """The parent has room for drafts beyond its tokens when it's forked."""
    pool = Pool()
    parent, _ = pool.run("a", range(4))
    assert pool.kv.allocate_slots(parent, 4)
    pool.kv.fork("a", "b")
    assert pool.kv.allocate_slots(parent, 1)
    assert pool.kv.block_table("a")[1] != pool.kv.block_table("b")[1]
    assert pool.kv.take_block_copies() == []


def test_a_copy_whose_destination_was_given_back_is_not_made() -> None:
    """Otherwise it would overwrite whoever gets that block in the same step."""
    pool = Pool()
    parent, _ = pool.run("a", range(6))
    pool.kv.fork("a", "b")
    assert pool.kv.allocate_slots(parent, 1)
    destination = pool.kv.block_table("a")[1]
    pool.kv.free("a")
    assert pool.kv.allocate_slots(PlainRequest("c", [9]), 1)
    assert pool.kv.block_table("c") == [destination]
    assert pool.kv.take_block_copies() == []


def test_a_copy_of_a_copy_comes_from_where_the_contents_are() -> None:
    pool = Pool()
    parent, _ = pool.run("a", range(6))
    pool.kv.fork("a", "b")
    source = pool.kv.block_table("a")[1]
    assert pool.kv.allocate_slots(parent, 1)
    pool.kv.fork("a", "c")
    assert pool.kv.allocate_slots(parent, 1)
    copies = [(source, pool.kv.block_table(name)[1]) for name in "ca"]
    assert pool.kv.take_block_copies() == copies


@pytest.mark.parametrize("order", ["abc", "acb", "bac", "bca", "cab", "cba"])
def test_forks_that_went_their_own_ways_can_end_in_any_order(order: str) -> None:
    pool = Pool()
    requests = {"a": pool.run("a", range(6))[0]}
    for name in "bc":
        pool.kv.fork("a", name)
        requests[name] = PlainRequest(name, list(range(6)), num_computed_tokens=6)
    for number, request in enumerate(requests.values()):
        assert pool.kv.allocate_slots(request, 3)
        request.token_ids += [100 + number] * 3
        request.num_computed_tokens = 9
        pool.kv.cache_blocks(request)
    assert pool.kv.usage().referenced == 1 + 3 * 2
    for name in order:
        pool.kv.free(name)
    usage = pool.kv.usage()
    assert (usage.referenced, usage.cached, usage.free) == (0, 4, 6)
    for number in range(3):
        assert pool.hit([*range(6), *[100 + number] * 3]) == 8


def test_a_fork_needs_a_name_of_its_own() -> None:
    pool = Pool()
    pool.run("a", range(6))
    with pytest.raises(MinillmError, match="'a' has blocks already"):
        pool.kv.fork("a", "a")


# -- trim -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_tokens", "num_left"), [(4, 1), (5, 2), (8, 2), (9, 3), (12, 3), (13, 4), (40, 4)])
def test_trim_gives_back_the_blocks_beyond(num_tokens: int, num_left: int) -> None:
    pool = Pool()
    request, _ = pool.run("a", range(5))
    assert pool.kv.allocate_slots(request, 11)
    before = list(pool.kv.block_table("a"))
    pool.kv.trim("a", num_tokens)
    assert pool.kv.block_table("a") == before[:num_left]
    assert pool.kv.usage().tokens_in_use == min(num_tokens, 16)


@pytest.mark.parametrize("num_tokens", [-1, 0, 7])
def test_trim_never_cuts_into_a_complete_block(num_tokens: int) -> None:
    pool = Pool()
    pool.run("a", range(9))
    before = pool.state()
    with pytest.raises(TrimError, match="2 blocks of 4 are complete"):
        pool.kv.trim("a", num_tokens)
    assert pool.state() == before


def test_trim_never_cuts_into_an_adopted_block() -> None:
    pool = Pool()
    pool.run("a", range(9))
    request = PlainRequest("b", list(range(9)))
    blocks, _ = pool.kv.get_computed_blocks(request)
    assert pool.kv.allocate_slots(request, 1, blocks)
    with pytest.raises(TrimError):
        pool.kv.trim("b", 7)


def test_rejected_drafts_are_never_found() -> None:
    pool = Pool()
    request, _ = pool.run("a", range(6))
    assert pool.kv.allocate_slots(request, 5)  # drafts
    pool.kv.trim("a", 7)  # one accepted
    request.token_ids.append(6)
    request.num_computed_tokens = 7
    pool.kv.cache_blocks(request)
    assert pool.hit(range(9)) == 4


# -- mistakes ---------------------------------------------------------------------------------------------------


def test_a_request_without_blocks_is_named() -> None:
    pool = Pool()
    pool.run("a", range(3))
    pool.kv.free("a")
    for operation in (
        lambda: pool.kv.free("a"),
        lambda: pool.kv.block_table("a"),
        lambda: pool.kv.trim("a", 0),
        lambda: pool.kv.fork("a", "b"),
        lambda: pool.kv.cache_blocks(PlainRequest("a", [1])),
    ):
        with pytest.raises(UnknownRequestError, match="Request 'a' holds no blocks"):
            operation()


def test_settings_that_cannot_work_are_refused() -> None:
    with pytest.raises(MinillmError, match="block_size is 0"):
        KVCacheManager(5, 0)
    with pytest.raises(MinillmError, match="The allocator has 5 blocks; the pool has 6"):
        KVCacheManager(6, allocator=RefCountingBlockAllocator(5))


def test_the_check_finds_a_stolen_a_leaked_and_a_shared_block() -> None:
    for spoil in (
        lambda kv: kv.allocator.free(kv.block_table("a")[2]),
        lambda kv: kv.allocator.allocate(),
        lambda kv: kv.block_table("a").append(kv.block_table("a")[0]),
        lambda kv: kv.block_table("a").append(0),
        lambda kv: kv.block_table("a").pop(),
        lambda kv: kv.prefix_cache.release(kv.block_table("a")[0]),
        lambda kv: kv.prefix_cache.put(b"stray", [1], kv.block_table("a")[2]),
    ):
        pool = Pool()
        pool.run("a", range(9))
        pool.kv.check_integrity()
        spoil(pool.kv)
        with pytest.raises(KVCacheCorruptionError, match=r"references|are said to be"):
            pool.kv.check_integrity()


# -- anything in any order --------------------------------------------------------------------------------------


class AnyOperations(RuleBasedStateMachine):
    """Requests come, grow, fork, are trimmed and go, in a pool that's always too small.

    What each block holds is written down as the engine would write it: so a block that is handed out while somebody
    still reads it, or a hit on the wrong contents, shows up as wrong tokens.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kv = KVCacheManager(13, BLOCK, debug=True)
        self.requests: dict[str, PlainRequest] = {}
        self.contents: dict[tuple[int, int], object] = {}  # (block, offset): what determines the keys there
        self.num_names = 0

    def name(self) -> str:
        self.num_names += 1
        return f"request {self.num_names}"

    def content(self, request: PlainRequest, position: int) -> object:
        return request.tenant, tuple(request.token_ids[: position + 1])

    def step(self, request: PlainRequest, num_new: int, blocks: Sequence[int] = ()) -> bool:
        """Allocates, copies what was asked for, writes, publishes: a step of the engine."""
        counts = [self.kv.allocator.ref_count(block) for block in range(13)]
        if not self.kv.allocate_slots(request, num_new, blocks):
            assert counts == [self.kv.allocator.ref_count(block) for block in range(13)]
            return False
        request.num_computed_tokens = max(request.num_computed_tokens, len(blocks) * BLOCK)
        copies = self.kv.take_block_copies()
        read = [[self.contents.get((source, offset)) for offset in range(BLOCK)] for source, _ in copies]
        for (_, destination), values in zip(copies, read, strict=True):
            self.contents |= {(destination, offset): value for offset, value in enumerate(values)}
        table = self.kv.block_table(request.request_id)
        for position in range(request.num_computed_tokens, request.num_computed_tokens + num_new):
            assert self.kv.allocator.ref_count(table[position // BLOCK]) == 1
            self.contents[table[position // BLOCK], position % BLOCK] = self.content(request, position)
        request.num_computed_tokens += num_new
        self.kv.cache_blocks(request)
        return True

    @rule(
        stem=st.integers(0, 2), length=st.integers(1, 14), own=st.integers(0, 3), tenant=st.sampled_from("xy"),
        chunk=st.integers(1, 14),
    )  # fmt: skip
    def admit(self, stem: int, length: int, own: int, tenant: str, chunk: int) -> None:
        request = PlainRequest(self.name(), [stem] * length + [7] * own, tenant)
        blocks, num_cached = self.kv.get_computed_blocks(request)
        assert num_cached == len(blocks) * BLOCK < len(request.token_ids)
        if self.step(request, min(chunk, len(request.token_ids) - num_cached), blocks):
            self.requests[request.request_id] = request

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), num_new=st.integers(1, 6), token=st.integers(0, 2))
    def go_on(self, data: st.DataObject, num_new: int, token: int) -> None:
        request = self.requests[data.draw(st.sampled_from(sorted(self.requests)))]
        missing = num_new - (len(request.token_ids) - request.num_computed_tokens)
        request.token_ids += [token] * missing
        self.step(request, num_new)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        parent = self.requests[data.draw(st.sampled_from(sorted(self.requests)))]
        child = PlainRequest(self.name(), list(parent.token_ids), parent.tenant)
        child.num_computed_tokens = parent.num_computed_tokens
        self.kv.fork(parent.request_id, child.request_id)
        self.requests[child.request_id] = child

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), num_drafts=st.integers(1, 6), num_accepted=st.integers(0, 6))
    def speculate(self, data: st.DataObject, num_drafts: int, num_accepted: int) -> None:
        request = self.requests[data.draw(st.sampled_from(sorted(self.requests)))]
        if not self.kv.allocate_slots(request, num_drafts):
            return
        kept = request.num_computed_tokens + min(num_accepted, num_drafts)
        self.kv.trim(request.request_id, kept)
        assert len(self.kv.block_table(request.request_id)) == -(-kept // BLOCK)
        self.kv.trim(request.request_id, request.num_computed_tokens)
        # The room is given back, but the copy that it took stays needed: only what's computed is in the books.
        for source, destination in self.kv.take_block_copies():
            for offset in range(BLOCK):
                self.contents[destination, offset] = self.contents.get((source, offset))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.requests)))
        self.kv.free(request_id)
        del self.requests[request_id]

    @invariant()
    def every_block_is_free_cached_or_referenced(self) -> None:
        usage = self.kv.usage()
        held = {block for request_id in self.requests for block in self.kv.block_table(request_id)}
        assert usage.free + usage.cached + usage.referenced == usage.total == 12
        assert usage.referenced == len(held)
        assert usage.free + usage.cached == self.kv.num_available_blocks

    @invariant()
    def tokens_in_use_are_counted_once(self) -> None:
        used = {
            (self.kv.block_table(request.request_id)[position // BLOCK], position % BLOCK)
            for request in self.requests.values()
            for position in range(request.num_computed_tokens)
        }
        assert self.kv.usage().tokens_in_use == len(used)

    @invariant()
    def every_request_reads_what_it_wrote(self) -> None:
        for request in self.requests.values():
            table = self.kv.block_table(request.request_id)
            for position in range(request.num_computed_tokens):
                stored = self.contents[table[position // BLOCK], position % BLOCK]
                assert stored == self.content(request, position)

    def teardown(self) -> None:
        for request_id in self.requests:
            self.kv.free(request_id)
        assert self.kv.usage().referenced == 0
        self.kv.check_integrity()


AnyOperations.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestAnyOperations = AnyOperations.TestCase


def test_what_is_cached_can_be_seen_by_tenant() -> None:
    kv = (pool := Pool(num_blocks=6)).kv
    pool.run("a", range(9), tenant="ann")
    pool.run("b", range(4), tenant="bob")
    before = kv.cached_blocks()
    tables = kv.block_tables()
    assert tables.keys() == {"a", "b"}
    assert set(before["ann"]) == set(tables["a"][:2])
    assert set(before["bob"]) == set(tables["b"])
    assert len({digest for part in before.values() for digest in part.values()}) == 3
    kv.free("b")
    assert kv.cached_blocks()["bob"] is before["bob"]  # still cached, so it's the same copy
    pool.run("c", range(100, 106), tenant="ann")  # one free block is left, and bob's is evicted
    after = kv.cached_blocks()
    assert after.keys() == {"ann"}
    assert len(after["ann"]) == 3
    assert len(before["ann"]) == 2  # a copy stays what it was
