"""The prefix cache suite: right ones pass, each typical mistake fails the right lines with the right hint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from minillm.kv import HashPrefixCache, KVCacheManager
from minillm.testing import check_prefix_cache

MEMBERS = "has get, put, acquire, release, evict, num_evictable_blocks, `in` and len"
FOUND = "finds a block by its hash and its tokens"
COLLISION = "the same hash with other tokens is a miss"
BY_VALUE = "tokens are compared by value, whether they come as a list or as a tuple"
COPY = "keeps its own copy of the tokens"
PUT = "put returns True for a new hash, and False for one that's there, which keeps its block"
COUNTED = "counts its blocks and knows which they are"
IN_USE = "a block that was just put is in use"
RELEASED = "a released block is evictable and still found"
ACQUIRED = "never evicts a block in use"
NOTHING = "evict returns None if there is nothing to evict"
TAILS = "evicts what was released first, which is the tail of a prefix"
USED_AGAIN = "a block that was used again is evicted later"
LOOKING = "looking a block up changes nothing"
FORGOTTEN = "an evicted block is forgotten"
PUT_AGAIN = "a hash whose block was evicted can be put again, with another block"
SEPARATE = "two caches keep books of their own"
SERIES = "the books are right after thousands of operations in any order"


class Plain:
    """A right cache the way a student might write it: entries in a list, searched from the front.

    The mutants below each change one method.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[bytes, tuple[int, ...], int]] = []
        self.idle: list[int] = []  # in order of their release

    def get(self, block_hash: bytes, token_ids: Sequence[int]) -> int | None:
        for known_hash, known_tokens, block in self.entries:
            if known_hash == block_hash and known_tokens == tuple(token_ids):
                return block
        return None

    def put(self, block_hash: bytes, token_ids: Sequence[int], block: int) -> bool:
        if any(block_hash == known_hash for known_hash, _, _ in self.entries):
            return False
        self.entries.append((block_hash, tuple(token_ids), block))
        return True

    def acquire(self, block: int) -> None:
        if block in self.idle:
            self.idle.remove(block)

    def release(self, block: int) -> None:
        self.idle.append(block)

    def evict(self) -> int | None:
        if not self.idle:
            return None
        return self.forget(self.idle.pop(0))

    def forget(self, block: int) -> int:
        self.entries = [entry for entry in self.entries if entry[2] != block]
        return block

    def __contains__(self, block: int) -> bool:
        return any(block == known for _, _, known in self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def num_evictable_blocks(self) -> int:
        return len(self.idle)


@pytest.mark.parametrize("cls", [HashPrefixCache, Plain, lambda: Plain()])
def test_right_caches_pass(cls: type) -> None:
    assert check_prefix_cache(cls).raise_if_failed().passed


@pytest.mark.parametrize("cls", [HashPrefixCache, Plain])
def test_what_passes_serves_the_manager(cls: type) -> None:
    @dataclass
    class PlainRequest:
        request_id: str
        token_ids: list[int]
        tenant: str = ""
        extra_keys: tuple[str, ...] = ()
        num_computed_tokens: int = 0

    kv = KVCacheManager(8, 4, prefix_cache=cls(), debug=True)
    for number in range(20):
        request = PlainRequest(str(number), [number % 3] * 9)
        blocks, num_cached = kv.get_computed_blocks(request)
        assert kv.allocate_slots(request, 9 - num_cached, blocks)
        request.num_computed_tokens = 9
        kv.cache_blocks(request)
        kv.free(request.request_id)
    assert kv.usage().hit_tokens == 17 * 8


# -- mutants ----------------------------------------------------------------------------------------------------


class AcceptsCollisions(Plain):
    def get(self, block_hash: bytes, token_ids: Sequence[int]) -> int | None:
        return next((block for known, _, block in self.entries if known == block_hash), None)


class ComparesLengthsOnly(Plain):
    def get(self, block_hash: bytes, token_ids: Sequence[int]) -> int | None:
        return next((b for h, t, b in self.entries if h == block_hash and len(t) == len(token_ids)), None)


class ComparesSets(Plain):
    def get(self, block_hash: bytes, token_ids: Sequence[int]) -> int | None:
        return next((b for h, t, b in self.entries if h == block_hash and set(t) == set(token_ids)), None)


class ComparesListsWithTuples(Plain):
    def put(self, block_hash: bytes, token_ids: Sequence[int], block: int) -> bool:
        isnew = super().put(block_hash, (), block)
        if isnew:
            kept = token_ids[:]
            self.entries[-1] = (block_hash, kept, block)  # type: ignore[assignment]
        return isnew

    def get(self, block_hash: bytes, token_ids: Sequence[int]) -> int | None:
        return next((b for h, t, b in self.entries if h == block_hash and t == token_ids), None)


class KeepsTheCallersList(Plain):
    def put(self, block_hash: bytes, token_ids: Sequence[int], block: int) -> bool:
        isnew = super().put(block_hash, (), block)
        if isnew:
            self.entries[-1] = (block_hash, token_ids, block)  # type: ignore[assignment]
        return isnew

    def get(self, block_hash: bytes, token_ids: Sequence[int]) -> int | None:
        return next((b for h, t, b in self.entries if h == block_hash and tuple(t) == tuple(token_ids)), None)


class RaisesOnAMiss(Plain):
    def get(self, block_hash: bytes, token_ids: Sequence[int]) -> int | None:
        block = super().get(block_hash, token_ids)
        if block is None and not any(block_hash == known for known, _, _ in self.entries):
            raise KeyError(block_hash)
        return block


class PutReplaces(Plain):
    def put(self, block_hash: bytes, token_ids: Sequence[int], block: int) -> bool:
        self.entries = [entry for entry in self.entries if entry[0] != block_hash]
        return super().put(block_hash, token_ids, block)


class PutReturnsNothing(Plain):
    def put(self, block_hash: bytes, token_ids: Sequence[int], block: int) -> bool:
        super().put(block_hash, token_ids, block)
        return None  # type: ignore[return-value]


class LooksForHashes(Plain):
    def __contains__(self, block: object) -> bool:
        return any(block == known for known, _, _ in self.entries)


class CountsEvictableOnly(Plain):
    def __len__(self) -> int:
        return len(self.idle)


class EvictableAtOnce(Plain):
    def put(self, block_hash: bytes, token_ids: Sequence[int], block: int) -> bool:
        if isnew := super().put(block_hash, token_ids, block):
            self.idle.append(block)
        return isnew

    def release(self, block: int) -> None:
        self.acquire(block)
        super().release(block)


class EvictsAnything(Plain):
    """Looks for the oldest entry, whether somebody uses it or not."""

    def evict(self) -> int | None:
        if self.idle:
            return super().evict()
        return self.forget(self.entries[0][2]) if self.entries else None


class AcquireDoesNothing(Plain):
    def acquire(self, block: int) -> None: ...

    def release(self, block: int) -> None:
        if block not in self.idle:
            super().release(block)


class ReleaseForgets(Plain):
    def release(self, block: int) -> None:
        self.forget(block)


class FailsWhenEmpty(Plain):
    def evict(self) -> int | None:
        return self.forget(self.idle.pop(0))


class EvictsParentsFirst(Plain):
    """Most recently used first."""

    def evict(self) -> int | None:
        return self.forget(self.idle.pop()) if self.idle else None


class EvictsInOrderOfPut(Plain):
    def evict(self) -> int | None:
        for _, _, block in self.entries:
            if block in self.idle:
                self.idle.remove(block)
                return self.forget(block)
        return None


class EvictsTheLowestNumber(Plain):
    def evict(self) -> int | None:
        if not self.idle:
            return None
        self.idle.sort()
        return super().evict()


class ForgetsTheSecondUse(Plain):
    """First in, first out: the first release counts."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[int, int] = {}

    def release(self, block: int) -> None:
        super().release(block)
        self.first.setdefault(block, len(self.first))
        self.idle.sort(key=lambda each: self.first[each])

    def forget(self, block: int) -> int:
        del self.first[block]
        self.first = {each: rank for rank, each in enumerate(self.first)}
        return super().forget(block)


class LookingIsUsing(Plain):
    def get(self, block_hash: bytes, token_ids: Sequence[int]) -> int | None:
        block = super().get(block_hash, token_ids)
        if block in self.idle:
            self.acquire(block)
            self.release(block)
        return block


class StaysInTheTable(Plain):
    """evict() hands the block over, but whoever asks for its hash still finds it."""

    def forget(self, block: int) -> int:
        return block


class LeavesTheHashBehind(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[bytes] = set()

    def put(self, block_hash: bytes, token_ids: Sequence[int], block: int) -> bool:
        if block_hash in self.seen:
            return False
        self.seen.add(block_hash)
        return super().put(block_hash, token_ids, block)


class SharesItsEntries(Plain):
    shared: list[tuple[bytes, tuple[int, ...], int]] = []  # noqa: RUF012 - the mistake

    def __init__(self) -> None:
        super().__init__()
        self.entries = self.shared
        self.shared.clear()


class NotWrittenYet(Plain):
    def put(self, block_hash: bytes, token_ids: Sequence[int], block: int) -> bool:
        raise NotImplementedError


class NumberIsAMethod(Plain):
    def num_evictable_blocks(self) -> int:  # type: ignore[override]
        return len(self.idle)


# Each typical mistake: the behaviors that fail, no others, and what the hints under each say.
MISTAKES: list[tuple[type, dict[str, str]]] = [
    (AcceptsCollisions, {COLLISION: "A collision is accepted"}),
    (ComparesLengthsOnly, {COLLISION: "A collision is accepted"}),
    (ComparesSets, {COLLISION: "A collision is accepted"}),
    (ComparesListsWithTuples, {BY_VALUE: "[1, 2] == (1, 2) is False"}),
    (KeepsTheCallersList, {COPY: "not the list itself"}),
    (RaisesOnAMiss, {FOUND: "which returns None if nothing is there"}),
    (PutReplaces, {PUT: "The first one that publishes it wins"}),
    (PutReturnsNothing, {PUT: "otherwise True", PUT_AGAIN: "", SERIES: ""}),
    (LooksForHashes, {COUNTED: "takes a block, not a hash", ACQUIRED: ""}),
    (CountsEvictableOnly, {COUNTED: "in use or not", PUT: "", SERIES: ""}),
    (EvictableAtOnce, {IN_USE: "put() must not make the block evictable", SERIES: ""}),
    (EvictsAnything, {ACQUIRED: "A referenced block was evicted", IN_USE: "still reads it"}),
    (AcquireDoesNothing, {ACQUIRED: "A referenced block was evicted", USED_AGAIN: "", SERIES: ""}),
    (
        ReleaseForgets,
        dict.fromkeys((COUNTED, ACQUIRED, TAILS, USED_AGAIN, LOOKING, FORGOTTEN, SERIES), "")
        | {RELEASED: "It stays in the table until evict() takes it"},
    ),
    (FailsWhenEmpty, {NOTHING: "return None if not", IN_USE: "", ACQUIRED: ""}),
    (EvictsParentsFirst, {TAILS: "Parents are evicted before their tails", USED_AGAIN: "", SERIES: ""}),
    (EvictsInOrderOfPut, {TAILS: "Parents are evicted before their tails", SERIES: ""}),
    (EvictsTheLowestNumber, {TAILS: "the order is that of the blocks' numbers", SERIES: "", USED_AGAIN: ""}),
    (ForgetsTheSecondUse, {USED_AGAIN: "the last use that counts, not the first", SERIES: ""}),
    (LookingIsUsing, {LOOKING: "the tails would be the most recently used", SERIES: ""}),
    (
        StaysInTheTable,
        {FORGOTTEN: "nothing may lead to it", PUT_AGAIN: "nothing of the old entry may be left", SERIES: ""},
    ),
    (LeavesTheHashBehind, {PUT_AGAIN: "nothing of the old entry may be left", SERIES: ""}),
    (SharesItsEntries, {SEPARATE: "exists once"}),
    (NotWrittenYet, {FOUND: "A dict from hashes to blocks"}),
    (NumberIsAMethod, {MEMBERS: "a property"}),
    (object, {MEMBERS: "class MyCache"}),
]


@pytest.mark.parametrize(("cls", "hints"), MISTAKES, ids=lambda value: getattr(value, "__name__", ""))
def test_each_mistake_fails_its_behaviors_and_is_named(cls: type, hints: dict[str, str]) -> None:
    report = check_prefix_cache(cls)
    assert {behavior.name for behavior in report.failed} == set(hints)
    for behavior in report.failed:
        assert hints[behavior.name].lower() in f"{behavior.hint} {behavior.strong_hint}".lower()
        assert behavior.detail and behavior.hint and behavior.strong_hint


def test_the_detail_is_the_smallest_example() -> None:
    (behavior,) = check_prefix_cache(AcceptsCollisions).failed
    assert behavior.detail == "after put(b'a', [1, 2], 3), get(b'a', [1, 9]) returned 3; expected None"
    behavior = next(b for b in check_prefix_cache(EvictsParentsFirst).failed if b.name == TAILS)
    assert behavior.detail == (
        "of a prefix of the blocks 5, 9, 2, released tail first (2, 9, 5), evict() returned 5, 9, 2"
    )


def test_a_missing_foundation_ends_the_report_and_says_so() -> None:
    report = check_prefix_cache(object)
    assert len(report.behaviors) == 1
    assert "more follows once this holds" in report.summary()
