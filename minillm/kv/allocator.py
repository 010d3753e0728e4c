"""The block allocator: hands out the blocks of the KV cache and counts who uses them (arXiv:2309.06180 §4.4)."""

from __future__ import annotations

from typing import Protocol

from minillm.errors import MinillmError


class NoFreeBlocksError(MinillmError):
    """Every block of the pool is in use."""


class BlockNotAllocatedError(MinillmError):
    """A reference was to be added to a block, or taken from it, that nobody has allocated."""


class DoubleFreeError(BlockNotAllocatedError):
    """A block was given back that has no reference left."""


class BlockAllocator(Protocol):
    """Hands out blocks by number. `LLM(block_allocator=…)` takes a class that is built with the number of blocks.

    Block 0 is reserved: block tables are padded with it, so it's never handed out. All others start free. The
    allocator knows nothing of requests or of the prefix cache; each of them just holds references.

    Attributes:
        num_blocks: blocks in the pool, block 0 included.
    """

    num_blocks: int

    @property
    def num_free_blocks(self) -> int:
        """Blocks that can be allocated now."""
        ...

    def allocate(self) -> int:
        """Hands out a free block, with a reference count of 1.

        Raises:
            NoFreeBlocksError: if there is none.
        """
        ...

    def fork(self, block: int) -> int:
        """Adds a reference to an allocated block and returns the same block; nothing is copied.

        Raises:
            BlockNotAllocatedError: if it has no reference yet.
        """
        ...

    def free(self, block: int) -> None:
        """Takes one reference away; with the last one the block becomes free.

        Raises:
            DoubleFreeError: if it has none. The message names the block, and nothing has changed.
        """
        ...

    def ref_count(self, block: int) -> int:
        """How many references a block has; 0 if it's free, and for block 0."""
        ...


class RefCountingBlockAllocator:
    """The default: a stack of free blocks and a count for each block in use. Every operation costs O(1)."""

    def __init__(self, num_blocks: int) -> None:
        if num_blocks < 2:
            raise MinillmError(f"num_blocks is {num_blocks}; expected at least 2, since block 0 is padding.")
        self.num_blocks = num_blocks
        # The block given back last is handed out first: it's the likeliest to be in the processor's cache.
        self._free_blocks = list(range(num_blocks - 1, 0, -1))
        self._ref_counts: dict[int, int] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks that can be allocated now."""
        return len(self._free_blocks)

    def allocate(self) -> int:
        """Hands out a free block, see `BlockAllocator.allocate`."""
        if not self._free_blocks:
            raise NoFreeBlocksError(
                f"All {self.num_blocks - 1} blocks of the KV cache are in use. Give some back, or make the pool larger "
                "(num_blocks or kv_cache_memory)."
            )
        block = self._free_blocks.pop()
        self._ref_counts[block] = 1
        return block

    def fork(self, block: int) -> int:
        """Adds a reference, see `BlockAllocator.fork`."""
        if block not in self._ref_counts:
            raise BlockNotAllocatedError(f"Block {block} can't be shared: nobody has allocated it.")
        self._ref_counts[block] += 1
        return block

    def free(self, block: int) -> None:
        """Takes a reference away, see `BlockAllocator.free`."""
        count = self._ref_counts.get(block, 0)
        if count == 0:
            raise DoubleFreeError(
                f"Block {block} was given back, but it has no reference left. Give each reference back exactly once."
            )
        if count > 1:
            self._ref_counts[block] = count - 1
        else:
            del self._ref_counts[block]
            self._free_blocks.append(block)

    def ref_count(self, block: int) -> int:
        """How many references a block has, see `BlockAllocator.ref_count`."""
        return self._ref_counts.get(block, 0)
