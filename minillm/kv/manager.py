"""The KV cache manager: gives each request its blocks, shares what can be shared, and takes everything back.

Who owns what: a request holds one reference on each block of its table, and the prefix cache one on each block that
it remembers. So every block but block 0 is in one of three states, and their numbers always add up to the whole:

    free        nobody holds it
    cached      only the prefix cache holds it: it can be used again, or evicted when room is needed
    referenced  at least one request holds it
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from minillm.errors import MinillmError
from minillm.kv.allocator import BlockAllocator, RefCountingBlockAllocator
from minillm.kv.prefix_cache import HashPrefixCache, PrefixCache, hash_block, root_hash


class UnknownRequestError(MinillmError, LookupError):
    """The request holds no blocks: it was never given any, or has given them back."""


class TrimError(MinillmError):
    """Tokens were to be cut off whose blocks are complete, and may be in use by others."""


class KVCacheCorruptionError(MinillmError):
    """The manager's books contradict each other: a mistake in the manager or in one of its parts."""


class CachedRequest(Protocol):
    """What the manager reads of a request.

    Attributes:
        request_id: unique among those that hold blocks.
        tenant: whose cached blocks it may use.
        extra_keys: what its keys and values depend on beside the tokens.
        token_ids: prompt and output so far.
        num_computed_tokens: the leading tokens whose keys and values have been computed.
    """

    request_id: str
    tenant: str
    extra_keys: tuple[str, ...]
    num_computed_tokens: int

    @property
    def token_ids(self) -> Sequence[int]:
        """Prompt and output so far."""
        ...


@dataclass(frozen=True)
class KVCacheStats:
    """The pool at one moment, in blocks, and the prefix cache's hits so far, in tokens.

    Attributes:
        total: usable blocks (all but block 0): free + cached + referenced.
        free: blocks that nobody holds.
        cached: blocks that only the prefix cache holds.
        referenced: blocks that requests hold; a shared one counts once.
        tokens_in_use: tokens for which these have room in use; a shared block's count once.
        queried_tokens: tokens of all requests admitted so far.
        hit_tokens: those of them that came from the prefix cache.
    """

    total: int
    free: int
    cached: int
    referenced: int
    tokens_in_use: int
    queried_tokens: int
    hit_tokens: int
    block_size: int

    @property
    def fragmentation(self) -> float:
        """The share of the referenced blocks' room that holds no token; 0 if there are none."""
        return 1 - self.tokens_in_use / (self.referenced * self.block_size) if self.referenced else 0.0


@dataclass
class _Sequence:
    """A request's blocks. The first `num_hashed` are complete, `last_hash` is the hash of the last of those."""

    blocks: list[int]
    num_tokens: int
    num_hashed: int = 0
    last_hash: bytes = field(default=b"", repr=False)


class KVCacheManager:
    """Owns the block tables. Single-threaded, like the engine's step.

    Attributes:
        allocator: hands out the blocks.
        prefix_cache: finds blocks that can be used again; None if that's off.
        block_size: tokens per block.
        debug: whether the books are checked after every operation, which costs O(blocks).
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int = 16,
        *,
        fingerprint: str = "",
        kv_dtype: str = "",
        allocator: BlockAllocator | None = None,
        prefix_cache: PrefixCache | Literal[False] | None = None,
        debug: bool = False,
    ) -> None:
        """Takes charge of a pool.

        Args:
            num_blocks: blocks in the pool, block 0 included.
            block_size: tokens per block.
            fingerprint, kv_dtype: of the model and its cache; blocks computed with others are never hits.
            allocator: the default is a `RefCountingBlockAllocator`.
            prefix_cache: None is a `HashPrefixCache`; False turns reuse off.
            debug: check the books after every operation.
        """
        if block_size < 1:
            raise MinillmError(f"block_size is {block_size}; expected at least 1 token per block.")
        self.allocator = RefCountingBlockAllocator(num_blocks) if allocator is None else allocator
        if self.allocator.num_blocks != num_blocks:
            raise MinillmError(f"The allocator has {self.allocator.num_blocks} blocks; the pool has {num_blocks}.")
        self.prefix_cache: PrefixCache | None = None
        if prefix_cache is not False:
            self.prefix_cache = HashPrefixCache() if prefix_cache is None else prefix_cache
        self.block_size = block_size
        self.debug = debug
        self._fingerprint, self._kv_dtype = fingerprint, kv_dtype
        self._sequences: dict[str, _Sequence] = {}
        self._copies: dict[int, int] = {}  # destination: source
        # What the prefix cache holds, each block with its hash, by tenant; and copies that were handed out of it.
        self._cached: dict[str, dict[int, bytes]] = {}
        self._cached_copies: dict[str, Mapping[int, bytes]] = {}
        self._queried_tokens = self._hit_tokens = 0

    # -- a request's life -------------------------------------------------------------------------------------------

    def get_computed_blocks(self, request: CachedRequest) -> tuple[list[int], int]:
        """The longest prefix of the request that the cache holds.

        Whole blocks only, and never all tokens: the last one has to be computed, since its logits choose the next.
        Takes no references, so hand the blocks to `allocate_slots` before anything else is allocated.

        Returns:
            The blocks, and how many tokens they hold.
        """
        blocks: list[int] = []
        if self.prefix_cache is not None:
            parent = self._root(request)
            for index in range((len(request.token_ids) - 1) // self.block_size):
                token_ids = self._block_tokens(request, index)
                parent = hash_block(parent, token_ids, request.extra_keys)
                block = self.prefix_cache.get(parent, token_ids)
                if block is None:
                    break
                blocks.append(block)
        return blocks, len(blocks) * self.block_size

    def allocate_slots(self, request: CachedRequest, num_new_tokens: int, computed_blocks: Sequence[int] = ()) -> bool:
        """Makes room for a request's next tokens; evicts cached blocks where nothing is free.

        A shared block that would be written is replaced by a fresh one (copy-on-write, arXiv:2309.06180 §4.4); if it
        holds tokens already, `take_block_copies` tells what to copy. O(1) while the last block has room.

        Args:
            request: its first call admits it.
            num_new_tokens: how many come after those that are computed.
            computed_blocks: when it's admitted, what `get_computed_blocks` found. They count as computed, whether
                `request.num_computed_tokens` says so yet or not.

        Returns:
            False if there isn't enough room; then nothing has changed.
        """
        sequence = self._sequences.get(request.request_id)
        if sequence is not None and computed_blocks:
            raise MinillmError(f"Request {request.request_id!r} has blocks already, so it can't adopt cached ones.")
        table = computed_blocks if sequence is None else sequence.blocks
        start = max(request.num_computed_tokens, len(computed_blocks) * self.block_size)
        num_needed = -(-(start + num_new_tokens) // self.block_size)
        # Of those adopted none is written: their tokens are computed. So only blocks of an own table can be shared.
        writes = range(start // self.block_size, min(len(table), num_needed))
        shared = [index for index in writes if self.allocator.ref_count(table[index]) > 1]
        idle = [block for block in computed_blocks if self.allocator.ref_count(block) == 1]  # evictable until adopted
        num_fresh = max(num_needed - len(table), 0) + len(shared)
        if num_fresh > self.num_available_blocks - len(idle):
            return False
        if sequence is None:
            sequence = self._admit(request, computed_blocks, idle)
            try:
                self._extend(sequence, num_needed)
            except BaseException:  # an allocator that was plugged in: a request that wasn't admitted holds nothing
                self.free(request.request_id)
                raise
        for index in shared:
            old, sequence.blocks[index] = sequence.blocks[index], self._take_block()
            if index * self.block_size < start:
                # If the old one waits for a copy itself, its contents are still where that one comes from.
                self._copies[sequence.blocks[index]] = self._copies.get(old, old)
            self._drop(old)
        self._extend(sequence, num_needed)
        sequence.num_tokens = start + num_new_tokens
        self._check()
        return True

    def take_block_copies(self) -> list[tuple[int, int]]:
        """The copies, (source, destination), to be made before the step, all at once. Each is told once."""
        copies = [(source, destination) for destination, source in self._copies.items()]
        self._copies.clear()
        return copies

    def block_table(self, request_id: str) -> list[int]:
        """The request's blocks in order. It's the live list: read it, don't change it."""
        return self._sequence(request_id).blocks

    def cache_blocks(self, request: CachedRequest) -> None:
        """Lets others find the blocks that `num_computed_tokens` fills completely. To be called after a step.

        Where the same contents are cached already, the request keeps its own block and that one stays unpublished.
        """
        sequence = self._sequence(request.request_id)
        if self.prefix_cache is None:
            return
        for index in range(sequence.num_hashed, request.num_computed_tokens // self.block_size):
            token_ids, block = self._block_tokens(request, index), sequence.blocks[index]
            sequence.last_hash = hash_block(sequence.last_hash, token_ids, request.extra_keys)
            sequence.num_hashed += 1
            if self.prefix_cache.put(sequence.last_hash, token_ids, block):
                self.allocator.fork(block)  # the cache's own reference
                self._cached.setdefault(request.tenant, {})[block] = sequence.last_hash
                self._cached_copies.pop(request.tenant, None)
        self._check()

    def fork(self, parent_id: str, child_id: str) -> None:
        """Gives a new request all of the parent's blocks; whoever writes first gets a copy."""
        parent = self._sequence(parent_id)
        if child_id in self._sequences:
            raise MinillmError(f"Request {child_id!r} has blocks already, so it can't become a fork.")
        blocks = [self.allocator.fork(block) for block in parent.blocks]
        self._sequences[child_id] = _Sequence(blocks, parent.num_tokens, parent.num_hashed, parent.last_hash)
        self._check()

    def trim(self, request_id: str, num_tokens: int) -> None:
        """Gives back the blocks beyond the first `num_tokens` tokens: those of rejected drafts.

        Raises:
            TrimError: if that would cut into a complete block, which others may have found by its hash.
        """
        sequence = self._sequence(request_id)
        if num_tokens < sequence.num_hashed * self.block_size:
            raise TrimError(
                f"Request {request_id!r} can't be cut to {num_tokens} tokens: its first {sequence.num_hashed} blocks "
                f"of {self.block_size} are complete. Cut no token that has counted as computed."
            )
        while (len(sequence.blocks) - 1) * self.block_size >= num_tokens:
            self._drop(sequence.blocks.pop())
        sequence.num_tokens = min(sequence.num_tokens, num_tokens)
        self._check()

    def free(self, request_id: str) -> None:
        """Takes all of a request's blocks back. Those in the prefix cache stay there until they're evicted."""
        sequence = self._sequence(request_id)
        del self._sequences[request_id]
        for block in reversed(sequence.blocks):  # the tail first, so that it's evicted before its parents
            self._drop(block)
        self._check()

    # -- the pool ---------------------------------------------------------------------------------------------------

    @property
    def num_usable_blocks(self) -> int:
        """All blocks but block 0."""
        return self.allocator.num_blocks - 1

    @property
    def num_available_blocks(self) -> int:
        """Blocks that a request could get now: free ones, and cached ones that can be evicted."""
        return self.allocator.num_free_blocks + self._num_evictable_blocks

    def usage(self) -> KVCacheStats:
        """Counts the pool; costs O(requests)."""
        free, cached = self.allocator.num_free_blocks, self._num_evictable_blocks
        referenced = self.num_usable_blocks - free - cached
        filled: dict[int, int] = {}  # of the blocks that aren't full; a shared one has the most any sequence has in it
        for sequence in self._sequences.values():
            for index in range(sequence.num_tokens // self.block_size, len(sequence.blocks)):
                tokens = max(sequence.num_tokens - index * self.block_size, 0)
                filled[sequence.blocks[index]] = max(tokens, filled.get(sequence.blocks[index], 0))
        return KVCacheStats(
            total=self.num_usable_blocks,
            free=free,
            cached=cached,
            referenced=referenced,
            tokens_in_use=(referenced - len(filled)) * self.block_size + sum(filled.values()),
            queried_tokens=self._queried_tokens,
            hit_tokens=self._hit_tokens,
            block_size=self.block_size,
        )

    def block_tables(self) -> dict[str, tuple[int, ...]]:
        """A copy of every block table, by request id."""
        return {request_id: tuple(sequence.blocks) for request_id, sequence in self._sequences.items()}

    def cached_blocks(self) -> dict[str, Mapping[int, bytes]]:
        """The hash of each block that the prefix cache holds, in use or evictable, by tenant.

        A copy; a tenant's part is the same object for as long as nothing in it has changed.
        """
        for tenant, hashes in self._cached.items():
            if tenant not in self._cached_copies:
                self._cached_copies[tenant] = dict(hashes)
        return dict(self._cached_copies)

    def check_integrity(self) -> None:
        """Compares the block tables with the allocator and the prefix cache. Costs O(blocks).

        Raises:
            KVCacheCorruptionError: with the first contradiction found.
        """
        users = Counter(block for sequence in self._sequences.values() for block in sequence.blocks)
        cache: PrefixCache | set[int] = set() if self.prefix_cache is None else self.prefix_cache
        cached = {block for block in range(self.allocator.num_blocks) if block in cache}
        for block in range(self.allocator.num_blocks):
            expected, count = users[block] + (block in cached), self.allocator.ref_count(block)
            if count != expected or (block == 0 and expected):
                holders = f"{users[block]} in block tables and {expected - users[block]} of the prefix cache"
                raise KVCacheCorruptionError(f"Block {block} has {count} references; expected {holders}.")
        for name, number, expected in (
            ("free", self.allocator.num_free_blocks, self.num_usable_blocks - len(cached | set(users))),
            ("evictable", self._num_evictable_blocks, len(cached - set(users))),
            ("cached", len(cache), len(cached)),
            ("known with their hashes", sum(map(len, self._cached.values())), len(cached)),
        ):
            if number != expected:
                raise KVCacheCorruptionError(
                    f"{number} blocks are said to be {name}; by the block tables {expected} are."
                )

    # -- inside -----------------------------------------------------------------------------------------------------

    @property
    def _num_evictable_blocks(self) -> int:
        return 0 if self.prefix_cache is None else self.prefix_cache.num_evictable_blocks

    def _root(self, request: CachedRequest) -> bytes:
        return root_hash(request.tenant, self._fingerprint, self._kv_dtype)

    def _block_tokens(self, request: CachedRequest, index: int) -> Sequence[int]:
        return request.token_ids[index * self.block_size : (index + 1) * self.block_size]

    def _sequence(self, request_id: str) -> _Sequence:
        if request_id not in self._sequences:
            raise UnknownRequestError(f"Request {request_id!r} holds no blocks; allocate_slots gives it some.")
        return self._sequences[request_id]

    def _admit(self, request: CachedRequest, computed_blocks: Sequence[int], idle: Sequence[int]) -> _Sequence:
        if self.prefix_cache is not None:
            for block in idle:
                self.prefix_cache.acquire(block)
            self._queried_tokens += len(request.token_ids)
            self._hit_tokens += len(computed_blocks) * self.block_size
        last_hash = self._root(request)
        for index in range(len(computed_blocks)):
            last_hash = hash_block(last_hash, self._block_tokens(request, index), request.extra_keys)
        blocks = [self.allocator.fork(block) for block in computed_blocks]
        sequence = _Sequence(blocks, len(blocks) * self.block_size, len(blocks), last_hash)
        self._sequences[request.request_id] = sequence
        return sequence

    def _extend(self, sequence: _Sequence, num_blocks: int) -> None:
        while len(sequence.blocks) < num_blocks:
            sequence.blocks.append(self._take_block())

    def _take_block(self) -> int:
        if self.allocator.num_free_blocks == 0 and self.prefix_cache is not None:
            evicted = self.prefix_cache.evict()
            if evicted is not None:
                self.allocator.free(evicted)
                self._forget_cached(evicted)
        return self.allocator.allocate()

    def _forget_cached(self, block: int) -> None:
        for tenant, hashes in self._cached.items():
            if hashes.pop(block, None) is not None:
                self._cached_copies.pop(tenant, None)
                if not hashes:
                    del self._cached[tenant]
                return

    def _drop(self, block: int) -> None:
        """Takes a request's reference away. Who holds the block after that decides what becomes of it."""
        self.allocator.free(block)
        count = self.allocator.ref_count(block)
        if count == 0:
            self._copies.pop(block, None)  # nobody wants the copy any more
        elif count == 1 and self.prefix_cache is not None and block in self.prefix_cache:
            self.prefix_cache.release(block)

    def _check(self) -> None:
        if self.debug:
            self.check_integrity()
