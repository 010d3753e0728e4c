"""`check_block_allocator`: what a block allocator must do before the engine trusts it with the KV cache."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from itertools import pairwise, permutations

from minillm.kv import BlockAllocator, DoubleFreeError, NoFreeBlocksError
from minillm.testing.report import Case, CheckFailed, Report, run_cases

_METHODS = ("allocate", "fork", "free", "ref_count")


def check_block_allocator(cls: Callable[[int], BlockAllocator]) -> Report:
    """Checks a block allocator against the protocol `minillm.kv.BlockAllocator`, by what it returns only.

    Args:
        cls: a class that is built with the number of blocks, or a function that makes such an object.

    Returns:
        The report, a line per behavior. `report.raise_if_failed()` raises it, `report.hint()` says more.
    """
    title = f"block allocator {getattr(cls, '__name__', type(cls).__name__)}"
    suite = _Suite(cls)
    first = run_cases(title, suite.foundation())
    if not first.passed:
        return Report(f"{title} (more follows once this holds)", first.behaviors)
    return Report(title, first.behaviors + run_cases(title, suite.cases()).behaviors)


class _Suite:
    """The behaviors. Each case gets an allocator of its own, so that one mistake spoils few lines."""

    def __init__(self, cls: Callable[[int], BlockAllocator]) -> None:
        self._new = cls

    def foundation(self) -> list[Case]:
        """What all other behaviors rest on."""
        return [
            Case(
                "has num_blocks, num_free_blocks, allocate, fork, free and ref_count",
                self._members,
                "A block allocator is built with the number of blocks, and num_free_blocks is a property.",
                "class MyAllocator: def __init__(self, num_blocks): self.num_blocks = num_blocks …; @property def "
                "num_free_blocks(self); def allocate(self); def fork(self, block); def free(self, block); def "
                "ref_count(self, block).",
            )
        ]

    def cases(self) -> list[Case]:
        """All other behaviors, the simple ones first."""
        return [*self._allocate_cases(), *self._reference_cases(), *self._misuse_cases(), *self._series_cases()]

    def _members(self) -> None:
        allocator = self._new(4)
        for name in _METHODS:
            if not callable(getattr(allocator, name, None)):
                raise CheckFailed(f"an object of the class {type(allocator).__name__} has no method called {name}")
        for name in ("num_blocks", "num_free_blocks"):
            value = getattr(allocator, name, None)
            if not isinstance(value, int):
                raise CheckFailed(f"with 4 blocks, {name} is {_shown(value)}; expected a whole number")
        if allocator.num_blocks != 4:
            raise CheckFailed(f"with 4 blocks, num_blocks is {allocator.num_blocks}")
        if not isinstance(block := allocator.allocate(), int):
            raise CheckFailed(f"allocate() returned {block!r}; expected the number of a block")

    # -- allocate ---------------------------------------------------------------------------------------------------

    def _allocate_cases(self) -> list[Case]:
        return [
            Case(
                "all blocks but block 0 are free at the start",
                self._free_at_start,
                "Count which blocks can be handed out: block 0 is padding, all others are free.",
                "num_free_blocks starts at num_blocks - 1: the blocks 1, 2, …, num_blocks - 1.",
            ),
            Case(
                "hands out each block from 1 to num_blocks - 1 once",
                self._each_once,
                "Compare the blocks that it handed out with the list 1, 2, …, num_blocks - 1.",
                "Start with the free blocks range(1, num_blocks), and take a block off that list when it's handed out.",
            ),
            Case(
                "raises NoFreeBlocksError when no block is free",
                self._exhausted,
                "The caller has to learn that the pool is full, by an error of its own kind.",
                "from minillm.kv import NoFreeBlocksError, and raise it in allocate() if no block is free; an "
                "IndexError from an empty list, or None, is nothing that the engine could act on.",
            ),
            Case(
                "num_free_blocks falls by one with each allocate, and rises again with free",
                self._counts_free,
                "Watch num_free_blocks after every single operation.",
                "Make it a property that returns the length of the list of free blocks, then it can't go wrong.",
            ),
            Case(
                "a block that was given back is handed out again",
                self._reused,
                "What becomes of a block when its last reference goes?",
                "In free(), when the count gets to 0, put the block back among the free ones.",
            ),
        ]

    def _free_at_start(self) -> None:
        if (free := self._new(4).num_free_blocks) != 3:
            hint = "Block 0 is counted, but it's reserved as padding and never handed out." if free == 4 else None
            raise CheckFailed(f"with 4 blocks, num_free_blocks is {free}; expected 3", hint=hint)

    def _each_once(self) -> None:
        blocks = _drain(self._new(4))
        if sorted(blocks) == [1, 2, 3]:
            return
        hint = "A block is missing or one too many: an off-by-one in the range of free blocks."
        if 0 in blocks:
            hint = "Block 0 was handed out. Block tables are padded with it, so it must never hold anybody's tokens."
        elif len(set(blocks)) < len(blocks):
            hint = "A block was handed out twice: two requests would overwrite each other's keys and values."
        raise CheckFailed(f"with 4 blocks, allocate() handed out {blocks}; expected 1, 2 and 3", hint=hint)

    def _exhausted(self) -> None:
        allocator = self._new(3)
        for _ in range(allocator.num_blocks):
            try:
                block = allocator.allocate()
            except NoFreeBlocksError:
                return
            except NotImplementedError:
                raise
            except Exception as error:
                raise CheckFailed(f"with all blocks handed out, allocate() raised {_named(error)}") from error
            if not isinstance(block, int):
                raise CheckFailed(f"with all blocks handed out, allocate() returned {block!r}")
        raise CheckFailed("with 3 blocks, allocate() could be called 3 times, though block 0 is reserved")

    def _counts_free(self) -> None:
        allocator = self._new(5)
        counts = [allocator.num_free_blocks]
        blocks = []
        for _ in range(2):
            blocks.append(allocator.allocate())
            counts.append(allocator.num_free_blocks)
        for block in blocks:
            allocator.free(block)
            counts.append(allocator.num_free_blocks)
        steps = [after - before for before, after in pairwise(counts)]
        if steps != [-1, -1, 1, 1]:
            raise CheckFailed(
                f"through allocate, allocate, free, free, num_free_blocks was {', '.join(map(str, counts))}"
            )

    def _reused(self) -> None:
        allocator = self._new(3)
        blocks = _drain(allocator)
        allocator.free(blocks[0])
        if (again := _drain(allocator)) != blocks[:1]:
            raise CheckFailed(
                f"with 3 blocks, after allocate() gave {blocks} and free({blocks[0]}), the next allocate() gave "
                f"{again or 'nothing'}; expected {blocks[0]}"
            )

    # -- references -------------------------------------------------------------------------------------------------

    def _reference_cases(self) -> list[Case]:
        return [
            Case(
                "a block has one reference when it's handed out, and none before and after",
                self._counts_one,
                "ref_count answers for every block, also for one that's free.",
                "allocate() sets the count to 1 and free() takes 1 away; return 0 for a block without a count.",
            ),
            Case(
                "fork returns the same block with one more reference",
                self._fork_counts,
                "fork shares a block: nothing is copied and no new block is handed out.",
                "def fork(self, block): add 1 to the block's count, then return block.",
            ),
            Case(
                "a shared block stays in use until its last reference is given back",
                self._fork_keeps,
                "After one fork a block has two owners, and each of them gives it back once.",
                "In free(), take 1 off the count, and only if it's 0 then put the block among the free ones.",
            ),
            Case(
                "blocks can be given back in any order",
                self._any_order,
                "Give back a block that isn't the one handed out last.",
                "Keep track of each block by its number; which one was first must not matter.",
            ),
        ]

    def _counts_one(self) -> None:
        allocator = self._new(3)
        before = allocator.ref_count(1)
        block = allocator.allocate()
        during = allocator.ref_count(block)
        allocator.free(block)
        after = allocator.ref_count(block)
        if (before, during, after) != (0, 1, 0):
            raise CheckFailed(
                f"ref_count was {before} before allocate(), {during} after it, {after} after free(); expected 0, 1, 0"
            )

    def _fork_counts(self) -> None:
        allocator = self._new(3)
        block = allocator.allocate()
        free = allocator.num_free_blocks
        if (result := allocator.fork(block)) != block:
            raise CheckFailed(f"fork({block}) returned {result!r}; expected {block}")
        if (count := allocator.ref_count(block)) != 2:
            hint = "fork doesn't count the new reference." if count == 1 else None
            raise CheckFailed(
                f"after block = allocate(), fork(block), ref_count(block) is {count}; expected 2", hint=hint
            )
        if allocator.num_free_blocks != free:
            raise CheckFailed(f"fork({block}) changed num_free_blocks from {free} to {allocator.num_free_blocks}")

    def _fork_keeps(self) -> None:
        allocator = self._new(3)
        block = allocator.allocate()
        free = allocator.num_free_blocks
        allocator.fork(block)
        allocator.free(block)
        done = f"after allocate() gave block {block}, fork({block}), free({block})"
        if allocator.num_free_blocks != free or block in _drain(allocator):
            raise CheckFailed(f"{done}, the block is free, though one of its two owners still reads it")
        allocator.free(block)
        if allocator.ref_count(block) or block not in _drain(allocator):
            raise CheckFailed(f"{done}, free({block}), both owners have given the block back, but it isn't free")

    def _any_order(self) -> None:
        for first, second in permutations(range(3), 2):
            allocator = self._new(5)
            blocks = _drain(allocator)
            given_back = [blocks[first], blocks[second]]
            for block in given_back:
                allocator.free(block)
            if sorted(again := _drain(allocator)) != sorted(given_back):
                raise CheckFailed(
                    f"with 5 blocks, after allocate() gave {blocks} and free got {given_back}, allocate() gave {again}"
                )

    # -- misuse -----------------------------------------------------------------------------------------------------

    def _misuse_cases(self) -> list[Case]:
        return [
            Case(
                "giving a block back twice raises DoubleFreeError",
                self._double_free,
                "A double free is accepted: somebody's mistake becomes somebody else's wrong answer.",
                "In free(), look at the count first: if it's 0, raise DoubleFreeError (from minillm.kv). If it isn't "
                "refused, the block is among the free ones twice, and two requests get it.",
            ),
            Case(
                "DoubleFreeError names the block",
                self._error_names_block,
                "Whoever reads the message wants to know which block it was.",
                'raise DoubleFreeError(f"Block {block} has no reference left.")',
            ),
            Case(
                "after a refused double free nothing is handed out twice",
                self._double_free_harmless,
                "A refused free must leave everything as it was.",
                "Check first, change afterwards: raise before you touch the count or the list of free blocks.",
            ),
            Case(
                "block 0 and blocks that were never handed out can't be given back or forked",
                self._strays,
                "Nobody has block 0, so nobody can give it back, or share it.",
                "The same check as for a double free: in free() raise DoubleFreeError if the block has no reference, "
                "in fork() BlockNotAllocatedError. Mind that a list takes -1 for its last entry, so a comparison with "
                "num_blocks isn't enough.",
            ),
            Case(
                "a free block can't be forked",
                self._stray_fork,
                "A fork adds a reference to one that's there; a free block has none.",
                "In fork(), raise BlockNotAllocatedError (from minillm.kv) if the count is 0. Otherwise the block is "
                "in use and among the free ones at once.",
            ),
        ]

    def _double_free(self) -> None:
        allocator = self._new(3)
        block = allocator.allocate()
        allocator.free(block)
        _expect_double_free(allocator, block, f"after allocate() gave block {block} and free({block}), ")

    def _error_names_block(self) -> None:
        allocator = self._new(50)
        block = [allocator.allocate() for _ in range(38)][-1]
        allocator.free(block)
        try:
            allocator.free(block)
        except DoubleFreeError as error:
            if not re.search(rf"\b{block}\b", str(error)):
                raise CheckFailed(f"for block {block} the message is {str(error)!r}") from error
        except Exception:  # of the wrong kind, which is another behavior
            return

    def _double_free_harmless(self) -> None:
        allocator = self._new(3)
        block = allocator.allocate()
        allocator.free(block)
        free = allocator.num_free_blocks
        try:
            allocator.free(block)
        except NotImplementedError:
            raise
        except Exception:
            done = f"after allocate() gave block {block}, free({block}) and a second, refused free({block})"
        else:
            done = f"after allocate() gave block {block}, free({block}) and a second, accepted free({block})"
        if (now := allocator.num_free_blocks) != free:
            raise CheckFailed(f"{done}, num_free_blocks is {now}; it was {free} after the first")
        if len(set(blocks := _drain(allocator))) < len(blocks):
            raise CheckFailed(f"{done}, allocate() handed out {blocks}")

    def _strays(self) -> None:
        num_blocks = 3
        # A list takes -1 to -num_blocks for its entries. Each has to be tried while that entry has a reference:
        # otherwise it's refused as a free block's, even where nobody looks at the range. So all blocks are out first.
        for all_out in (True, False):
            for block in (*range(num_blocks), *range(-1, -num_blocks - 2, -1), num_blocks, num_blocks + 1):
                for operation in ("free", "fork"):
                    allocator = self._new(num_blocks)
                    blocks = _drain(allocator) if all_out else [allocator.allocate()]
                    if block not in blocks:
                        _expect_stray_refused(allocator, operation, block, blocks)

    def _stray_fork(self) -> None:
        allocator = self._new(3)
        block = allocator.allocate()
        allocator.free(block)
        _expect_no_fork(allocator, block, f"after allocate() gave block {block} and free({block}), ")

    # -- series -----------------------------------------------------------------------------------------------------

    def _series_cases(self) -> list[Case]:
        return [
            Case(
                "two allocators keep books of their own",
                self._separate,
                "Something is shared by all objects of the class.",
                "A list or dict in the class body, or as a default argument, exists once. Make it in __init__.",
            ),
            Case(
                "the books are right after thousands of operations in any order",
                self._any_series,
                "Follow the operations by hand, and compare the counts after each.",
                "In between, every block is either free with 0 references, or in use with at least one, never both.",
            ),
        ]

    def _separate(self) -> None:
        one, other = self._new(3), self._new(3)
        free, block = other.num_free_blocks, one.allocate()
        if other.num_free_blocks != free or other.ref_count(block):
            raise CheckFailed(f"one allocator handed out block {block}, and another one's books changed")

    def _any_series(self) -> None:
        # The short ones first: what fails then is a small example.
        lengths = [length for length in range(2, 9) for _ in range(50)] + [400] * 20
        for seed, length in enumerate(lengths):
            self._series(random.Random(seed), length)

    def _series(self, rng: random.Random, length: int) -> None:
        allocator = self._new(8)
        free, counts, done = allocator.num_free_blocks, dict[int, int](), list[str]()
        for _ in range(length):
            operation = rng.choice(("allocate", "fork", "free")) if counts else "allocate"
            if operation == "allocate" and len(counts) < 5:
                block = allocator.allocate()
                done.append(f"allocate() → {block}")
                if block in counts:
                    raise CheckFailed(f"{_last(done)}: that block is in use")
                counts[block] = 1
            else:
                block = rng.choice(sorted(counts))
                change = 1 if operation == "fork" and counts[block] < 3 else -1
                (allocator.fork if change == 1 else allocator.free)(block)
                done.append(f"{'fork' if change == 1 else 'free'}({block})")
                counts[block] += change
            if (count := allocator.ref_count(block)) != counts[block]:
                raise CheckFailed(f"{_last(done)}: ref_count({block}) is {count}; expected {counts[block]}")
            counts = {block: count for block, count in counts.items() if count}
            if (now := allocator.num_free_blocks) != free - len(counts):
                raise CheckFailed(f"{_last(done)}: num_free_blocks is {now}; expected {free - len(counts)}")


def _drain(allocator: BlockAllocator) -> list[int]:
    """Allocates until that fails, at most a few blocks more than there are."""
    blocks: list[int] = []
    while len(blocks) < allocator.num_blocks + 2:
        try:
            block = allocator.allocate()
        except NotImplementedError:
            raise
        except Exception:
            break
        if not isinstance(block, int):
            break
        blocks.append(block)
    return blocks


def _expect_double_free(allocator: BlockAllocator, block: int, situation: str) -> None:
    try:
        allocator.free(block)
    except DoubleFreeError:
        return
    except NotImplementedError:
        raise
    except Exception as error:
        raise CheckFailed(
            f"{situation}free({block}) raised {_named(error)}; expected DoubleFreeError",
            hint="It is refused, but with an error of another kind.",
        ) from error
    raise CheckFailed(f"{situation}free({block}) was accepted; expected DoubleFreeError")


def _expect_stray_refused(allocator: BlockAllocator, operation: str, block: int, in_use: list[int]) -> None:
    """`free` or `fork` of a number that isn't among the blocks in use: an error, and no count changes."""
    num_blocks, counts = allocator.num_blocks, [allocator.ref_count(other) for other in in_use]
    situation = f"with {num_blocks} blocks, after allocate() gave {' and '.join(map(str, in_use))}, "
    if 0 <= block < num_blocks and (count := allocator.ref_count(block)) != 0:
        raise CheckFailed(f"{situation}ref_count({block}) is {count}; expected 0")
    failure: CheckFailed | None = None
    try:
        (_expect_double_free if operation == "free" else _expect_no_fork)(allocator, block, situation)
    except CheckFailed as error:
        failure = error
    for other, before in zip(in_use, counts, strict=True):
        if (after := allocator.ref_count(other)) == before:
            continue
        detail = f"{situation}{operation}({block}) changed ref_count({other}) from {before} to {after}"
        if block + num_blocks != other:
            raise CheckFailed(detail)
        raise CheckFailed(
            detail,
            hint=f"There is no block {block}. But a Python list counts negative indices from its end: of {num_blocks} "
            f"entries, [{block}] is block {other}'s.",
            strong_hint="Look at both ends before you look into the list: unless 0 < block < self.num_blocks, nobody "
            "holds it. `block >= self.num_blocks` alone lets -1 through.",
        )
    if failure:
        raise failure


def _expect_no_fork(allocator: BlockAllocator, block: int, situation: str) -> None:
    try:
        allocator.fork(block)
    except NotImplementedError:
        raise
    except Exception:
        return
    raise CheckFailed(f"{situation}fork({block}) was accepted; expected BlockNotAllocatedError")


def _last(done: list[str]) -> str:
    return "after " + ("" if len(done) <= 8 else "…, ") + ", ".join(done[-8:])


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _shown(value: object) -> str:
    return "missing" if value is None else "a method" if callable(value) else repr(value)
