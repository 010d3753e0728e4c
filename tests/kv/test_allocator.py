"""The default allocator: what the suite for students' own doesn't look at."""

from __future__ import annotations

from itertools import permutations

import pytest

from minillm.errors import MinillmError
from minillm.kv import BlockNotAllocatedError, DoubleFreeError, NoFreeBlocksError, RefCountingBlockAllocator


def test_hands_out_every_block_but_block_zero() -> None:
    allocator = RefCountingBlockAllocator(5)
    assert allocator.num_free_blocks == 4
    assert sorted(allocator.allocate() for _ in range(4)) == [1, 2, 3, 4]
    assert allocator.num_free_blocks == 0
    with pytest.raises(NoFreeBlocksError, match="All 4 blocks"):
        allocator.allocate()


@pytest.mark.parametrize("num_blocks", [-1, 0, 1])
def test_a_pool_without_a_usable_block_is_refused(num_blocks: int) -> None:
    with pytest.raises(MinillmError, match="at least 2"):
        RefCountingBlockAllocator(num_blocks)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_references_go_in_any_order(order: tuple[int, ...]) -> None:
    """Two blocks, one of them with three references."""
    allocator = RefCountingBlockAllocator(3)
    shared, own = allocator.allocate(), allocator.allocate()
    references = [shared, allocator.fork(shared), allocator.fork(shared), own]
    for done, index in enumerate(order, 1):
        allocator.free(references[index])
        left = [references[i] for i in order[done:]]
        assert allocator.ref_count(shared) == left.count(shared)
        assert allocator.ref_count(own) == left.count(own)
        assert allocator.num_free_blocks == 2 - len(set(left))
    assert {allocator.allocate(), allocator.allocate()} == {shared, own}


@pytest.mark.parametrize("block", [0, 2, 3, 4, -1])
def test_a_block_that_nobody_has_is_not_given_back_nor_shared(block: int) -> None:
    allocator = RefCountingBlockAllocator(4)
    allocator.free(allocator.allocate())
    assert allocator.allocate() == 1
    with pytest.raises(DoubleFreeError, match=f"Block {block} "):
        allocator.free(block)
    with pytest.raises(BlockNotAllocatedError, match=f"Block {block} "):
        allocator.fork(block)
    assert allocator.ref_count(block) == 0
    assert allocator.num_free_blocks == 2
