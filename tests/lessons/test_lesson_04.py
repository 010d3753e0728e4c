"""Lesson 04's exercises: the stub fails, the solution passes, and typical wrong answers are told what's wrong."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
from notebooks import run_cells

from minillm.kv import BlockNotAllocatedError, DoubleFreeError, HashPrefixCache, NoFreeBlocksError
from minillm.kv import RefCountingBlockAllocator as Allocator
from minillm.kv.prefix_cache import BlockNotCachedError
from minillm.lab import Checker
from minillm.lab.traces import LeastRecentlyUsed
from minillm.testing import Report

STEM = "04-paging-and-rag"

ALLOCATOR = ["core-allocator", "core-allocator-sharing"]
CACHE = ["core-cache", "core-cache-evictable", "core-cache-evict"]

# Check → (the cells that it needs, what they define).
EXERCISES = {
    "warm-up": (["warm-up"], ["block_waste"]),
    "allocator": (ALLOCATOR, ["MyBlockAllocator"]),
    "prefix cache": (CACHE, ["MyPrefixCache"]),
    "give back": (["core-give-back"], ["give_back"]),
    "core": ([*ALLOCATOR, *CACHE, "core-give-back"], ["MyBlockAllocator", "MyPrefixCache", "give_back"]),
    "stretch": (["stretch", "stretch-victims"], ["MyPolicy"]),
}


def answer(folder: str, exercise: str) -> list[Any]:
    grade_ids, names = EXERCISES[exercise]
    cells = run_cells(folder, STEM, *grade_ids)
    cells.update(
        OrderedDict=OrderedDict,
        BlockNotAllocatedError=BlockNotAllocatedError,
        BlockNotCachedError=BlockNotCachedError,
        DoubleFreeError=DoubleFreeError,
        NoFreeBlocksError=NoFreeBlocksError,
    )
    return [cells[name] for name in names]


def failures(report: Report) -> dict[str, str]:
    """The failed behaviors, each with all that the student is told in the end."""
    return {b.name: f"{b.detail} {b.hint} {b.strong_hint}" for b in report.failed}


def told(report: Report, behavior: str) -> str:
    """What the student is told under the one behavior that begins like this."""
    [text] = [text for name, text in failures(report).items() if name.startswith(behavior)]
    return text


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_stub_fails(exercise: str) -> None:
    report = Checker("04")(exercise, *answer("exercises", exercise))
    assert len(report.failed) == len(report.behaviors)
    assert "NotImplementedError" in str(report) or "not written yet" in str(report)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_solution_passes(exercise: str) -> None:
    Checker("04")(exercise, *answer("solutions", exercise)).raise_if_failed()


# -- warm-up ----------------------------------------------------------------------------------------------------


def waste(
    lengths: list[int],
    block_size: int,
    max_model_len: int,
    *,
    blocks: Callable[[list[int], int], int] = lambda lengths, size: sum(-(-n // size) for n in lengths),
    empty: Callable[[list[int], int, int], int] = lambda lengths, size, slots: slots - sum(lengths),
    share: Callable[[int, int], float] = lambda empty, slots: empty / slots if slots else 0.0,
    reserve: Callable[[list[int], int], int] = lambda lengths, limit: limit * len(lengths),
    percent: bool = False,
) -> tuple[int, int, float, float]:
    """A right answer; each option does a step wrong."""
    number = blocks(lengths, block_size)
    slots, reserved = number * block_size, reserve(lengths, max_model_len)
    unused = empty(lengths, block_size, slots)
    unused_reserved = (reserved - sum(lengths)) / reserved if reserved else 0.0
    factor = 100 if percent else 1
    return number, unused, factor * share(unused, slots), factor * unused_reserved


COUNTS, EMPTY, ANY_SIZE = "counts blocks", "counts the empty slots", "takes blocks of any size"
SHARE, RESERVED, NOTHING = "gives the empty slots' share", "gives the share that a reservation", "takes no sequences"

# Wrong answer → (options, the behavior that catches it, words that name the cause).
WRONG_WASTE: dict[str, tuple[dict[str, Any], str, str]] = {
    "rounded down": ({"blocks": lambda ls, s: sum(n // s for n in ls)}, COUNTS, "rounded down"),
    "off by one": ({"blocks": lambda ls, s: sum(n // s + 1 for n in ls)}, COUNTS, "one block too many"),
    "all in one row": ({"blocks": lambda ls, s: -(-sum(ls) // s)}, COUNTS, "never share a block"),
    "always 16": ({"blocks": lambda ls, s: sum(-(-n // 16) for n in ls)}, ANY_SIZE, "argument block_size"),
    "what is in the last block": ({"empty": lambda ls, s, slots: sum(n % s for n in ls)}, EMPTY, "*in* the last"),
    "a full block has empty slots": ({"empty": lambda ls, s, _: sum(s - n % s for n in ls)}, EMPTY, "counts 16"),
    "per token": ({"share": lambda e, slots: e / (slots - e) if slots else 0.0}, SHARE, "that's per token"),
    "used, not empty": ({"share": lambda e, slots: 1 - e / slots if slots else 0.0}, SHARE, "the share that is used"),
    "percent": ({"percent": True}, SHARE, "in percent"),
    "room for the longest": ({"reserve": lambda ls, _: max(ls, default=0) * len(ls)}, RESERVED, "for max_model_len"),
    "one reservation": ({"reserve": lambda ls, limit: limit}, RESERVED, "every sequence has its own"),
    "division by zero": ({"share": lambda e, slots: e / slots}, NOTHING, "Where the number of slots is 0"),
}


@pytest.mark.parametrize("mistake", WRONG_WASTE)
def test_a_wrong_count_is_explained(mistake: str) -> None:
    options, behavior, words = WRONG_WASTE[mistake]
    report = Checker("04")("warm-up", lambda *arguments: waste(*arguments, **options))
    assert words in told(report, behavior)


def test_the_right_count_of_this_file_passes() -> None:
    """Otherwise the tests above would prove nothing."""
    Checker("04")("warm-up", waste).raise_if_failed()


# -- core: the allocator ----------------------------------------------------------------------------------------


class HandsOutBlockZero(Allocator):
    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self._free_blocks.append(0)


class ForgetsTheLastBlock(Allocator):
    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self._free_blocks.remove(num_blocks - 1)


class AcceptsADoubleFree(Allocator):
    def free(self, block: int) -> None:
        if block in self._ref_counts:
            super().free(block)
        else:
            self._free_blocks.append(block)


class IgnoresADoubleFree(Allocator):
    def free(self, block: int) -> None:
        if block in self._ref_counts:
            super().free(block)


class ChangesBeforeItRefuses(Allocator):
    def free(self, block: int) -> None:
        if block not in self._ref_counts:
            self._free_blocks.append(block)
        super().free(block)


class GuardsOnlyTheTop(Allocator):
    """A list of counts, in which -1 is the last block's."""

    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.counts = [0] * num_blocks

    def allocate(self) -> int:
        block = self._free_blocks.pop() if self._free_blocks else super().allocate()
        self.counts[block] = 1
        return block

    def fork(self, block: int) -> int:
        if self.ref_count(block) == 0:
            raise BlockNotAllocatedError(f"block {block}")
        self.counts[block] += 1
        return block

    def free(self, block: int) -> None:
        if self.ref_count(block) == 0:
            raise DoubleFreeError(f"block {block}")
        self.counts[block] -= 1
        if self.counts[block] == 0:
            self._free_blocks.append(block)

    def ref_count(self, block: int) -> int:
        return 0 if block >= self.num_blocks else self.counts[block]


class DoesNotCountAReference(Allocator):
    def fork(self, block: int) -> int:
        return block


class CopiesInPlaceOfSharing(Allocator):
    def fork(self, block: int) -> int:
        return self.allocate()


class FreesAtTheFirstOwner(Allocator):
    def free(self, block: int) -> None:
        self._ref_counts[block] = min(self._ref_counts.get(block, 0), 1)
        super().free(block)


class NeverReuses(Allocator):
    def free(self, block: int) -> None:
        super().free(block)
        if block in self._free_blocks:
            self._free_blocks.remove(block)


class NoneWhenFull(Allocator):
    def allocate(self) -> int:
        return super().allocate() if self._free_blocks else None  # type: ignore[return-value]


class SharesWhatIsFree(Allocator):
    def fork(self, block: int) -> int:
        self._ref_counts[block] = self._ref_counts.get(block, 0) + 1
        return block


ONCE, FREE = "hands out each block from 1", "all blocks but block 0 are free"
WRONG_ALLOCATORS: list[tuple[type, str, str]] = [
    (HandsOutBlockZero, ONCE, "Block 0 was handed out"),
    (ForgetsTheLastBlock, FREE, "num_blocks - 1"),
    (AcceptsADoubleFree, "giving a block back twice", "two requests get it"),
    (IgnoresADoubleFree, "giving a block back twice", "raise DoubleFreeError"),
    (ChangesBeforeItRefuses, "after a refused double free", "Check first, change afterwards"),
    (GuardsOnlyTheTop, "block 0 and blocks that were never", "free(-1) changed ref_count(2) from 1 to 0"),
    (GuardsOnlyTheTop, "block 0 and blocks that were never", "`block >= self.num_blocks` alone lets -1 through"),
    (DoesNotCountAReference, "fork returns the same block", "fork doesn't count the new reference"),
    (CopiesInPlaceOfSharing, "fork returns the same block", "then return block"),
    (FreesAtTheFirstOwner, "a shared block stays in use", "one of its two owners still reads it"),
    (NeverReuses, "a block that was given back", "put the block back among the free ones"),
    (NoneWhenFull, "raises NoFreeBlocksError", "or None, is nothing that the engine could act on"),
    (SharesWhatIsFree, "a free block can't be forked", "BlockNotAllocatedError"),
]


@pytest.mark.parametrize(("allocator", "behavior", "words"), WRONG_ALLOCATORS)
def test_a_wrong_allocator_is_explained(allocator: type, behavior: str, words: str) -> None:
    assert words in told(Checker("04")("allocator", allocator), behavior)


# -- core: the prefix cache -------------------------------------------------------------------------------------


class MostRecentlyUsed(HashPrefixCache):
    def evict(self) -> int | None:
        if self._evictable:
            self._evictable.move_to_end(next(reversed(self._evictable)), last=False)
        return super().evict()


class InOrderOfTheFirstUse(HashPrefixCache):
    """Remembers for ever when a block was released first."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[int] = []

    def release(self, block: int) -> None:
        super().release(block)
        if block not in self.order:
            self.order.append(block)

    def evict(self) -> int | None:
        for block in self.order:
            if block in self._evictable:
                self._evictable.move_to_end(block, last=False)
                self.order.remove(block)
                break
        return super().evict()


class LeavesTheHash(HashPrefixCache):
    """The hash isn't dropped when its block is used for something else."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[bytes, tuple[int, tuple[int, ...]]] = {}

    def put(self, block_hash: bytes, token_ids: Any, block: int) -> bool:
        done = super().put(block_hash, token_ids, block)
        if done:
            self.found[block_hash] = block, tuple(token_ids)
        return done

    def get(self, block_hash: bytes, token_ids: Any) -> int | None:
        block, tokens = self.found.get(block_hash, (None, ()))
        return block if tokens == tuple(token_ids) else None


class StaysInTheQueueAfterAHit(HashPrefixCache):
    def acquire(self, block: int) -> None:
        self._expect(block)


class EvictsWhatIsInUse(HashPrefixCache):
    def evict(self) -> int | None:
        if not self._evictable and self._contents:
            self._evictable[next(iter(self._contents))] = None
        return super().evict()


class ForgetsAtRelease(HashPrefixCache):
    def release(self, block: int) -> None:
        super().release(block)
        del self._blocks[self._contents.pop(block)[0]]
        del self._evictable[block]


class EvictableAtOnce(HashPrefixCache):
    def put(self, block_hash: bytes, token_ids: Any, block: int) -> bool:
        done = super().put(block_hash, token_ids, block)
        if done:
            self.release(block)
        return done


class TrustsTheHash(HashPrefixCache):
    def get(self, block_hash: bytes, token_ids: Any) -> int | None:
        return self._blocks.get(block_hash)


class LookingIsUsing(HashPrefixCache):
    def get(self, block_hash: bytes, token_ids: Any) -> int | None:
        block = super().get(block_hash, token_ids)
        if block in self._evictable:
            self._evictable.move_to_end(block)
        return block


class SecondPutWins(HashPrefixCache):
    def put(self, block_hash: bytes, token_ids: Any, block: int) -> bool:
        if block_hash in self._blocks:
            self._contents.pop(self._blocks.pop(block_hash))
        return super().put(block_hash, token_ids, block)


class TakesWhateverIsReleased(HashPrefixCache):
    def acquire(self, block: int) -> None:
        self._evictable.pop(block, None)

    def release(self, block: int) -> None:
        self._evictable[block] = None
        self._evictable.move_to_end(block)


TAILS, AGAIN = "evicts what was released first", "a block that was used again is evicted later"
WRONG_CACHES: list[tuple[type, str, str]] = [
    (MostRecentlyUsed, TAILS, "Parents are evicted before their tails"),
    (InOrderOfTheFirstUse, AGAIN, "It's the last use that counts"),
    (LeavesTheHash, "an evicted block is forgotten", "delete the hash from the table"),
    (StaysInTheQueueAfterAHit, "never evicts a block in use", "acquire() takes the block out of the evictable ones"),
    (EvictsWhatIsInUse, "never evicts a block in use", "A referenced block was evicted"),
    (ForgetsAtRelease, "a released block is evictable and still found", "It stays in the table until evict()"),
    (EvictableAtOnce, "a block that was just put is in use", "only release() does"),
    (TrustsTheHash, "the same hash with other tokens is a miss", "compare them in get()"),
    (LookingIsUsing, "looking a block up changes nothing", "Leave the order of the evictable blocks alone in get()"),
    (TakesWhateverIsReleased, "acquire and release refuse", "raise BlockNotCachedError"),
    (SecondPutWins, "put returns True for a new hash", "The first one that publishes it wins"),
]


@pytest.mark.parametrize(("cache", "behavior", "words"), WRONG_CACHES)
def test_a_wrong_prefix_cache_is_explained(cache: type, behavior: str, words: str) -> None:
    assert words in told(Checker("04")("prefix cache", cache), behavior)


# -- core: giving back ------------------------------------------------------------------------------------------


def wrong_give_back(
    table: list[int],
    allocator: Any,
    cache: Any,
    *,
    order: Callable[[list[int]], Any] = reversed,
    free: Callable[[Any, Any, int], Any] = lambda allocator, cache, block: allocator.free(block),
    idle: Callable[[int, int], bool] = lambda before, after: after == 1,
) -> None:
    """A right answer; each option does a step wrong."""
    for block in order(table):
        before = allocator.ref_count(block)
        free(allocator, cache, block)
        if idle(before, allocator.ref_count(block)) and block in cache:
            cache.release(block)


def free_completely(allocator: Any, cache: Any, block: int) -> None:
    while allocator.ref_count(block):
        allocator.free(block)


def free_uncached(allocator: Any, cache: Any, block: int) -> None:
    if block not in cache:
        allocator.free(block)


def free_twice_if_cached(allocator: Any, cache: Any, block: int) -> None:
    for _ in range(1 + (block in cache)):
        allocator.free(block)


KEEPS, OTHERS, LAST = "leaves cached blocks", "knows that others may use", "lets the last block be evicted first"
WRONG_ENDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "first block first": ({"order": list}, LAST, "reversed(block_table)"),
    "all references": ({"free": free_completely}, "leaves a block that another", "once per block of the table"),
    "the cache's reference too": ({"free": free_twice_if_cached}, KEEPS, "own reference was taken too"),
    "cached blocks kept": ({"free": free_uncached}, KEEPS, "a leak"),
    "never released": ({"idle": lambda before, after: False}, KEEPS, "prefix_cache.release(block)"),
    "released for others": ({"idle": lambda before, after: True}, OTHERS, "only the cache is left"),
    "counted before it's freed": ({"idle": lambda before, after: before == 1}, KEEPS, "after free, not before"),
    "last block forgotten": ({"order": lambda table: table[-2::-1]}, "gives each block back", "on each block"),
}


@pytest.mark.parametrize("mistake", WRONG_ENDS)
def test_a_wrong_end_is_explained(mistake: str) -> None:
    options, behavior, words = WRONG_ENDS[mistake]
    report = Checker("04")("give back", lambda *arguments: wrong_give_back(*arguments, **options))
    assert words in told(report, behavior)


def test_the_right_end_of_this_file_passes() -> None:
    Checker("04")("give back", wrong_give_back).raise_if_failed()


# -- core: together ---------------------------------------------------------------------------------------------


def test_who_stops_half_way_is_told_what_is_missing() -> None:
    """The allocator is written, of the prefix cache two methods aren't, and give_back has a mistake."""

    class OnlyBegun(HashPrefixCache):
        def acquire(self, block: int) -> None:
            raise NotImplementedError

        def evict(self) -> int | None:
            raise NotImplementedError

    def give_back(*arguments: Any) -> None:
        wrong_give_back(*arguments, order=list)

    failed = failures(Checker("04")("core", Allocator, OnlyBegun, give_back))
    assert "MyBlockAllocator is finished" not in failed
    assert "part 2" in failed["MyPrefixCache is finished"]
    assert "not written yet: evict, acquire" in failed["MyPrefixCache is finished"]
    assert "- lets the last block be evicted first" in failed["give_back is finished"]
    assert "because MyPrefixCache isn't finished" in failed["serves requests in the engine, with the same tokens"]


# -- stretch ----------------------------------------------------------------------------------------------------


class TwoQueues:
    """A right answer, for wrong ones to spoil."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks, self.limit = num_blocks, 4 * num_blocks
        self.once, self.again, self.known = (OrderedDict[bytes, None]() for _ in range(3))

    def release(self, key: bytes) -> None:
        (self.again if key in self.known else self.once)[key] = None
        self.known[key] = None
        self.known.move_to_end(key)
        if len(self.known) > self.limit:
            self.known.popitem(last=False)

    def acquire(self, key: bytes) -> None:
        self.once.pop(key, None)
        self.again.pop(key, None)

    def evict(self) -> Any:
        first = self.once and (len(self.once) > self.num_blocks // 8 or not self.again)
        return (self.once if first else self.again).popitem(last=False)[0]


class ForgetsTheSecondQueue(TwoQueues):
    def evict(self) -> Any:
        return self.once.popitem(last=False)[0]


class LeavesItInTheQueue(TwoQueues):
    def acquire(self, key: bytes) -> None:
        """A hit changes nothing."""


class ReturnsNothing(TwoQueues):
    def evict(self) -> Any:
        super().evict()


class NeverTakesItBack(TwoQueues):
    """What was evicted once is refused."""

    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.gone: set[bytes] = set()

    def release(self, key: bytes) -> None:
        if key not in self.gone:
            super().release(key)

    def evict(self) -> Any:
        key = super().evict()
        self.gone.add(key)
        return key


class RemembersForEver(TwoQueues):
    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.limit = 10**9


class Frequency(LeastRecentlyUsed):
    """Counts for ever, so what was popular long ago never leaves."""

    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.counts: Counter[bytes] = Counter()

    def release(self, key: bytes) -> None:
        super().release(key)
        self.counts[key] += 1

    def evict(self) -> bytes:
        key = min(self._order, key=self.counts.__getitem__)
        del self._order[key]
        return key


class MostRecent(LeastRecentlyUsed):
    def evict(self) -> bytes:
        return self._order.popitem()[0]


class Survivors(TwoQueues):
    """Two queues, but only a block that was hit has proven itself, and newcomers have no share of the pool."""

    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.hit: set[bytes] = set()

    def release(self, key: bytes) -> None:
        (self.again if key in self.hit else self.once)[key] = None

    def acquire(self, key: bytes) -> None:
        super().acquire(key)
        self.hit.add(key)

    def evict(self) -> Any:
        key, _ = (self.once or self.again).popitem(last=False)
        self.hit.discard(key)
        return key


WRONG_POLICIES: list[tuple[type, str, str]] = [
    (LeastRecentlyUsed, "has a hit rate that's ten points higher", "That's the same policy"),
    (MostRecent, "has a hit rate that's ten points higher", "worse than least recently used"),
    (Frequency, "lets go of what nobody asks for", "A count that never falls"),
    (Survivors, "lets go of what nobody asks for", "let newcomers prove themselves"),
    (Frequency, "remembers a limited number of keys", "drop the oldest"),
    (RemembersForEver, "remembers a limited number of keys", "known holds 20,000 entries"),
    (LeavesItInTheQueue, "never evicts what's in use", "a request is using"),
    (ReturnsNothing, "evicts what was released", "evict() has to return the key"),
    (ForgetsTheSecondQueue, "takes a key again", "release() has to make it evictable again"),
    (ForgetsTheSecondQueue, "keeps its books", "evict() looks into the next"),
    (NeverTakesItBack, "takes a key again", "release() has to make it evictable again"),
]


@pytest.fixture(scope="module")
def policy_reports() -> dict[type, Report]:
    check = Checker("04")
    policies = dict.fromkeys(policy for policy, _, _ in WRONG_POLICIES)
    return {policy: check("stretch", policy) for policy in policies}


@pytest.mark.parametrize(("policy", "behavior", "words"), WRONG_POLICIES)
def test_a_wrong_policy_is_explained(
    policy_reports: dict[type, Report], policy: type, behavior: str, words: str
) -> None:
    assert words in told(policy_reports[policy], behavior)
