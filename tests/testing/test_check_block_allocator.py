"""The block allocator suite: right ones pass, each typical mistake fails the right lines with the right hint."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from minillm.kv import BlockNotAllocatedError, DoubleFreeError, KVCacheManager, NoFreeBlocksError
from minillm.kv import RefCountingBlockAllocator as Default
from minillm.testing import check_block_allocator

MEMBERS = "has num_blocks, num_free_blocks, allocate, fork, free and ref_count"
START = "all blocks but block 0 are free at the start"
ONCE = "hands out each block from 1 to num_blocks - 1 once"
EXHAUSTED = "raises NoFreeBlocksError when no block is free"
FREE_COUNT = "num_free_blocks falls by one with each allocate, and rises again with free"
REUSED = "a block that was given back is handed out again"
ONE = "a block has one reference when it's handed out, and none before and after"
FORK = "fork returns the same block with one more reference"
SHARED = "a shared block stays in use until its last reference is given back"
ORDER = "blocks can be given back in any order"
DOUBLE = "giving a block back twice raises DoubleFreeError"
NAMES = "DoubleFreeError names the block"
HARMLESS = "after a refused double free nothing is handed out twice"
STRAY = "block 0 and blocks that were never handed out can't be given back or forked"
STRAY_FORK = "a free block can't be forked"
SEPARATE = "two allocators keep books of their own"
SERIES = "the books are right after thousands of operations in any order"


class Plain:
    """A right allocator the way a student might write it: one list of counts, searched from the front.

    The mutants below each change one thing.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.counts = [0] * num_blocks
        self.usable = range(1, num_blocks)

    @property
    def num_free_blocks(self) -> int:
        return sum(self.counts[block] == 0 for block in self.usable)

    def allocate(self) -> int:
        for block in self.usable:
            if self.counts[block] == 0:
                self.counts[block] = 1
                return block
        raise NoFreeBlocksError("nothing left")

    def fork(self, block: int) -> int:
        if self.ref_count(block) == 0:
            raise BlockNotAllocatedError(f"block {block} is free")
        self.counts[block] += 1
        return block

    def free(self, block: int) -> None:
        if self.ref_count(block) == 0:
            raise DoubleFreeError(f"block {block} is free already")
        self.counts[block] -= 1

    def ref_count(self, block: int) -> int:
        return self.counts[block] if 0 <= block < self.num_blocks else 0


@pytest.mark.parametrize("cls", [Default, Plain, lambda num_blocks: Plain(num_blocks)])
def test_right_allocators_pass(cls: type) -> None:
    assert check_block_allocator(cls).raise_if_failed().passed


@pytest.mark.parametrize("cls", [Default, Plain])
def test_what_passes_serves_the_manager(cls: type) -> None:
    @dataclass
    class PlainRequest:
        request_id: str
        token_ids: list[int]
        tenant: str = ""
        extra_keys: tuple[str, ...] = ()
        num_computed_tokens: int = 0

    kv = KVCacheManager(5, 4, allocator=cls(5), debug=True)
    for number in range(20):
        request = PlainRequest(str(number), [number % 3] * 9)
        blocks, num_cached = kv.get_computed_blocks(request)
        assert kv.allocate_slots(request, 9 - num_cached, blocks)
        request.num_computed_tokens = 9
        kv.cache_blocks(request)
        kv.free(request.request_id)
    assert kv.usage().free + kv.usage().cached == 4


# -- mutants ----------------------------------------------------------------------------------------------------


class HandsOutBlockZero(Plain):
    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.usable = range(num_blocks)


class HandsOutZeroInPlaceOfTheLast(Plain):
    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.usable = range(num_blocks - 1)


class ForgetsTheLast(Plain):
    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.usable = range(1, num_blocks - 1)


class HandsOutOneBeyond(Plain):
    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.counts = [0] * (num_blocks + 1)
        self.usable = range(2, num_blocks + 1)

    def ref_count(self, block: int) -> int:
        return self.counts[block] if 0 <= block <= self.num_blocks else 0


class ReturnsNoneWhenFull(Plain):
    def allocate(self) -> int:
        return super().allocate() if self.num_free_blocks else None  # type: ignore[return-value]


class IndexErrorWhenFull(Default):
    def allocate(self) -> int:
        return super().allocate() if self.num_free_blocks else [].pop()


class CountsFreeOnce(Plain):
    """Sets the number at the start and never again."""

    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.number = num_blocks - 1

    @property
    def num_free_blocks(self) -> int:
        return self.number


class Stack:
    """A list of free blocks and nothing else counts."""

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.free_blocks = list(range(1, num_blocks))
        self.counts: dict[int, int] = {}

    @property
    def num_free_blocks(self) -> int:
        return len(self.free_blocks)

    def allocate(self) -> int:
        if not self.free_blocks:
            raise NoFreeBlocksError("nothing left")
        block = self.free_blocks.pop()
        self.counts[block] = 1
        return block

    def fork(self, block: int) -> int:
        if not self.counts.get(block):
            raise BlockNotAllocatedError(f"block {block}")
        self.counts[block] += 1
        return block

    def free(self, block: int) -> None:
        if not self.counts.get(block):
            raise DoubleFreeError(f"block {block}")
        self.counts[block] -= 1
        if not self.counts[block]:
            self.free_blocks.append(block)

    def ref_count(self, block: int) -> int:
        return self.counts.get(block, 0)


class AcceptsDoubleFree(Stack):
    def free(self, block: int) -> None:
        if self.counts.get(block, 0) > 1:
            self.counts[block] -= 1
        else:
            self.counts[block] = 0
            self.free_blocks.append(block)


class IgnoresDoubleFree(Stack):
    def free(self, block: int) -> None:
        if self.counts.get(block):
            super().free(block)


class CountsBeforeItChecks(Stack):
    def free(self, block: int) -> None:
        self.free_blocks.append(block)
        self.counts[block] = self.counts.get(block, 0) - 1
        if self.counts[block] < 0:
            self.counts[block] = 0
            raise DoubleFreeError(f"block {block}")
        if self.counts[block]:
            self.free_blocks.pop()


class RefusesWithValueError(Stack):
    def free(self, block: int) -> None:
        if not self.counts.get(block):
            raise ValueError(f"block {block}")
        super().free(block)


class DoesNotNameTheBlock(Stack):
    def free(self, block: int) -> None:
        if not self.counts.get(block):
            raise DoubleFreeError("double free")
        super().free(block)


class AcceptsBlocksNeverHandedOut(Plain):
    def free(self, block: int) -> None:
        if self.counts[block % self.num_blocks] == 0 and block in (0, -1):
            return
        super().free(block)


class GuardsOnlyTheTop(Plain):
    """-1 is less than num_blocks, and a list takes it for its last entry."""

    def fork(self, block: int) -> int:
        if block >= self.num_blocks or self.counts[block] == 0:
            raise BlockNotAllocatedError(f"block {block} is free")
        self.counts[block] += 1
        return block

    def free(self, block: int) -> None:
        if block >= self.num_blocks or self.counts[block] == 0:
            raise DoubleFreeError(f"block {block} is free already")
        self.counts[block] -= 1


class GuardsOnlyTheTopInFree(Plain):
    free = GuardsOnlyTheTop.free


class GuardsOnlyTheTopInFork(Plain):
    fork = GuardsOnlyTheTop.fork


class CountsFirstAndRefusesThen(Plain):
    """Refuses what is outside of the pool, but has taken the last block's reference by then."""

    def free(self, block: int) -> None:
        if 0 <= block < self.num_blocks:
            super().free(block)
        else:
            self.counts[block % self.num_blocks] -= 1
            raise DoubleFreeError(f"block {block} isn't in the pool")


class KeepsBlockZeroForItself(Stack):
    def ref_count(self, block: int) -> int:
        return 1 if block == 0 else super().ref_count(block)


class IndexErrorAboveThePool(Plain):
    def free(self, block: int) -> None:
        if block < 0 or self.counts[block] == 0:
            raise DoubleFreeError(f"block {block} is free already")
        self.counts[block] -= 1


class ForksWithoutCount(Stack):
    def fork(self, block: int) -> int:
        if not self.counts.get(block):
            raise BlockNotAllocatedError(f"block {block}")
        return block


class ForksIntoANewBlock(Stack):
    def fork(self, block: int) -> int:
        if not self.counts.get(block):
            raise BlockNotAllocatedError(f"block {block}")
        return self.allocate()


class ForkReturnsNothing(Stack):
    def fork(self, block: int) -> int:
        super().fork(block)
        return None  # type: ignore[return-value]


class ForksFreeBlocks(Stack):
    def fork(self, block: int) -> int:
        self.counts[block] = self.counts.get(block, 0) + 1
        return block


class FreesAtOnce(Stack):
    def free(self, block: int) -> None:
        if not self.counts.get(block):
            raise DoubleFreeError(f"block {block}")
        self.counts[block] = 0
        self.free_blocks.append(block)


class NeverReuses(Stack):
    def free(self, block: int) -> None:
        if not self.counts.get(block):
            raise DoubleFreeError(f"block {block}")
        self.counts[block] -= 1


class GivesBackTheLastOne(Stack):
    """Puts whatever number is convenient among the free blocks, not the one given back."""

    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.handed_out: list[int] = []

    def allocate(self) -> int:
        self.handed_out.append(super().allocate())
        return self.handed_out[-1]

    def free(self, block: int) -> None:
        super().free(block)
        if self.free_blocks and self.free_blocks[-1] == block:
            self.free_blocks[-1] = self.handed_out.pop()


class SharesItsList(Stack):
    shared: dict[int, int] = {}  # noqa: RUF012 - the mistake

    def __init__(self, num_blocks: int) -> None:
        super().__init__(num_blocks)
        self.counts = self.shared
        self.shared.clear()


class LosesTheThirdReference(Stack):
    def fork(self, block: int) -> int:
        super().fork(block)
        self.counts[block] = min(self.counts[block], 2)
        return block


class NotWrittenYet(Stack):
    def allocate(self) -> int:
        raise NotImplementedError


# Each typical mistake: the behaviors that fail, no others, and what the hints under each say.
MISTAKES: list[tuple[type, dict[str, str]]] = [
    (HandsOutBlockZero, {START: "Block 0 is counted", ONCE: "Block 0 was handed out", EXHAUSTED: "pool is full"}),
    (HandsOutZeroInPlaceOfTheLast, {ONCE: "Block 0 was handed out"}),
    (ForgetsTheLast, {START: "num_blocks - 1", ONCE: "an off-by-one in the range"}),
    (HandsOutOneBeyond, {ONCE: "an off-by-one in the range"}),
    (ReturnsNoneWhenFull, {EXHAUSTED: "or None, is nothing that the engine could act on"}),
    (IndexErrorWhenFull, {EXHAUSTED: "an IndexError from an empty list"}),
    (CountsFreeOnce, {FREE_COUNT: "Make it a property", SERIES: "after each"}),
    (
        AcceptsDoubleFree,
        {
            DOUBLE: "A double free is accepted",
            HARMLESS: "raise before you touch the count",
            STRAY: "Nobody has block 0",
        },
    ),
    (IgnoresDoubleFree, {DOUBLE: "A double free is accepted", STRAY: "if the block has no reference"}),
    (CountsBeforeItChecks, {HARMLESS: "Check first, change afterwards"}),
    (RefusesWithValueError, dict.fromkeys((DOUBLE, STRAY), "an error of another kind")),
    (DoesNotNameTheBlock, {NAMES: "which block it was"}),
    (AcceptsBlocksNeverHandedOut, {STRAY: "Nobody has block 0"}),
    *(
        (cls, {STRAY: "[-1] is block 2's. Look at both ends before you look into the list"})
        for cls in (GuardsOnlyTheTop, GuardsOnlyTheTopInFree, GuardsOnlyTheTopInFork, CountsFirstAndRefusesThen)
    ),
    (KeepsBlockZeroForItself, {STRAY: "Nobody has block 0"}),
    (IndexErrorAboveThePool, {STRAY: "an error of another kind"}),
    (
        ForksWithoutCount,
        {FORK: "doesn't count the new reference", SHARED: "has two owners", SERIES: "compare the counts"},
    ),
    (
        ForksIntoANewBlock,
        {FORK: "nothing is copied and no new block", SHARED: "has two owners", SERIES: "compare the counts"},
    ),
    (ForkReturnsNothing, {FORK: "then return block"}),
    (ForksFreeBlocks, {STRAY: "or share it", STRAY_FORK: "in use and among the free ones at once"}),
    (FreesAtOnce, {SHARED: "only if it's 0", SERIES: "compare the counts"}),
    (
        NeverReuses,
        dict.fromkeys((FREE_COUNT, REUSED, SHARED, ORDER, SERIES), "")
        | {REUSED: "when the count gets to 0, put the block back among the free ones"},
    ),
    (
        GivesBackTheLastOne,
        {REUSED: "becomes of a block", ORDER: "isn't the one handed out last", SHARED: "", SERIES: ""},
    ),
    (SharesItsList, {SEPARATE: "exists once"}),
    (LosesTheThirdReference, {SERIES: "Follow the operations by hand"}),
    (NotWrittenYet, {MEMBERS: "class MyAllocator"}),
    (object, {MEMBERS: "class MyAllocator"}),
]


@pytest.mark.parametrize(("cls", "hints"), MISTAKES, ids=lambda value: getattr(value, "__name__", ""))
def test_each_mistake_fails_its_behaviors_and_is_named(cls: type, hints: dict[str, str]) -> None:
    report = check_block_allocator(cls)
    assert {behavior.name for behavior in report.failed} == set(hints)
    for behavior in report.failed:
        assert hints[behavior.name] in f"{behavior.hint} {behavior.strong_hint}"
        assert behavior.detail and behavior.hint and behavior.strong_hint


def test_the_detail_is_the_smallest_example() -> None:
    details = {behavior.name: behavior.detail for behavior in check_block_allocator(AcceptsDoubleFree).failed}
    assert details[DOUBLE] == (
        "after allocate() gave block 2 and free(2), free(2) was accepted; expected DoubleFreeError"
    )
    (behavior,) = check_block_allocator(LosesTheThirdReference).failed
    assert behavior.detail.count("fork") == 2 and "…" not in behavior.detail


def test_for_a_negative_number_the_detail_says_whose_count_changed() -> None:
    details = [
        behavior.detail
        for cls in (GuardsOnlyTheTopInFree, GuardsOnlyTheTopInFork)
        for behavior in check_block_allocator(cls).failed
    ]
    assert details == [
        "with 3 blocks, after allocate() gave 1 and 2, free(-1) changed ref_count(2) from 1 to 0",
        "with 3 blocks, after allocate() gave 1 and 2, fork(-1) changed ref_count(2) from 1 to 2",
    ]


def test_a_missing_foundation_ends_the_report_and_says_so() -> None:
    report = check_block_allocator(NotWrittenYet)
    assert len(report.behaviors) == 1
    assert "more follows once this holds" in report.summary()
    assert "not written yet" in report.behaviors[0].detail
