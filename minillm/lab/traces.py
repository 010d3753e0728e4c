"""Lesson 04's trace of requests, and what an eviction policy's prefix cache hits on it. No model runs.

    trace = handbook_trace(seed=4)
    hit_rate(LeastRecentlyUsed, trace, num_blocks=240)

The hit rate is the share of all prompt tokens whose keys and values were in the prefix cache. The requests go through
the engine's own `KVCacheManager`, one after the other, so that a policy that does well here does so in the engine.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from minillm.errors import MinillmError
from minillm.kv import KVCacheManager
from minillm.kv.prefix_cache import HashPrefixCache

BLOCK_SIZE = 16
"""Tokens per block of the trace."""

POOL_BLOCKS = 240
"""Blocks of the pool that the lesson's trace is measured with, block 0 included."""

# Token ids are drawn from a range of this size; which they are doesn't matter, only which are equal.
_VOCABULARY = 49_152


class EvictionPolicy(Protocol):
    """Decides which block is forgotten when room is needed. A class that is built with the number of blocks.

    It knows blocks by their hash, the key: the same contents after the same prefix have the same key, also when they
    were forgotten and computed anew. A key is evictable from its `release` to its `acquire` or its eviction.
    """

    def release(self, key: bytes) -> None:
        """No request uses the block any more: it may be evicted. A request releases its last block first."""
        ...

    def acquire(self, key: bytes) -> None:
        """A request has found the evictable block and uses it: it may not be evicted."""
        ...

    def evict(self) -> bytes:
        """Chooses an evictable key, forgets that it's evictable, and returns it. There is one whenever it's called."""
        ...


class LeastRecentlyUsed:
    """The engine's policy: the block that was released longest ago goes first."""

    def __init__(self, num_blocks: int) -> None:
        self._order: OrderedDict[bytes, None] = OrderedDict()

    def release(self, key: bytes) -> None:
        """Puts the key at the end of the queue."""
        self._order[key] = None
        self._order.move_to_end(key)

    def acquire(self, key: bytes) -> None:
        """Takes the key out of the queue."""
        del self._order[key]

    def evict(self) -> bytes:
        """Takes the key at the front of the queue."""
        return self._order.popitem(last=False)[0]


class EvictionPolicyError(MinillmError):
    """A policy chose a block that isn't evictable."""


class PolicyPrefixCache(HashPrefixCache):
    """The engine's prefix cache, but a policy chooses which block to evict."""

    def __init__(self, policy: EvictionPolicy) -> None:
        super().__init__()
        self.policy = policy

    def acquire(self, block: int) -> None:
        """Marks a block as used, see `PrefixCache.acquire`; tells the policy if it was evictable."""
        was_evictable = block in self._evictable
        super().acquire(block)
        if was_evictable:
            self.policy.acquire(self._key(block))

    def release(self, block: int) -> None:
        """Marks a block as evictable, see `PrefixCache.release`; tells the policy."""
        super().release(block)
        self.policy.release(self._key(block))

    def evict(self) -> int | None:
        """Forgets the block that the policy chooses, see `PrefixCache.evict`.

        Raises:
            EvictionPolicyError: if that block isn't evictable; a request may be using it.
        """
        if not self._evictable:
            return None
        key = self.policy.evict()
        block = self._blocks.get(key)
        if block is None or block not in self._evictable:
            known = "no block of the cache" if block is None else "a block that a request is using"
            raise EvictionPolicyError(
                f"evict() chose {known} ({_short(key)}). Choose a key that was released, and neither acquired nor "
                "evicted since."
            )
        del self._evictable[block]
        self._forget(block)
        return block

    def _key(self, block: int) -> bytes:
        return self._contents[block][0]


def _short(key: object) -> str:
    return key.hex()[:8] if isinstance(key, bytes) else repr(key)


# -- the trace --------------------------------------------------------------------------------------------------

Kind = Literal["question", "one-off"]


@dataclass
class TraceRequest:
    """A request, as the manager reads it (`minillm.kv.CachedRequest`).

    Attributes:
        kind: a question about the handbook, or a long prompt that comes once.
        token_ids: the prompt.
    """

    request_id: str
    tenant: str
    kind: Kind
    token_ids: list[int] = field(repr=False)
    extra_keys: tuple[str, ...] = ()
    num_computed_tokens: int = 0


def handbook_trace(
    seed: int,
    num_requests: int = 400,
    *,
    num_tenants: int = 4,
    one_off_share: float = 0.25,
    edited_at: float | None = 0.5,
) -> list[TraceRequest]:
    """Several tenants ask an assistant about a handbook; now and then somebody pastes a long text, once.

    A question's prompt is the tenant's instructions and table of contents (160 tokens, always the same), one page of
    the handbook (128 tokens; some of the 12 pages are asked for more often), and the question itself (24 to 56 tokens,
    never the same). A one-off prompt has 1,000 to 2,000 tokens that nobody sends again.

    Args:
        seed: the same seed makes the same trace.
        num_requests: questions and one-offs together.
        num_tenants: whose requests they are; tenants never share blocks.
        one_off_share: of all requests.
        edited_at: after this share of the requests every page gets a new edition, so the old one's blocks are dead
            from there on, and other pages become the popular ones. None for never.
    """
    rng = random.Random(seed)
    tenants = [f"tenant-{number}" for number in range(num_tenants)]
    openings = {tenant: _tokens(rng, 10 * BLOCK_SIZE) for tenant in tenants}
    pages = _edition(rng)
    edit = None if edited_at is None else int(edited_at * num_requests)
    trace: list[TraceRequest] = []
    for number in range(num_requests):
        if number == edit:
            pages = _edition(rng)
        tenant = rng.choice(tenants)
        kind: Kind = "one-off" if rng.random() < one_off_share else "question"
        if kind == "one-off":
            prompt = _tokens(rng, rng.randrange(1000, 2000))
        else:
            [page] = rng.choices(pages, [1 / rank for rank in range(1, len(pages) + 1)])
            prompt = openings[tenant] + page + _tokens(rng, rng.randrange(24, 57))
        trace.append(TraceRequest(str(number), tenant, kind, prompt))
    return trace


def _edition(rng: random.Random) -> list[list[int]]:
    """The pages of the handbook, the one that's asked for most first."""
    return [_tokens(rng, 8 * BLOCK_SIZE) for _ in range(12)]


def _tokens(rng: random.Random, count: int) -> list[int]:
    return [rng.randrange(_VOCABULARY) for _ in range(count)]


# -- the measure ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ServedRequest:
    """What the prefix cache had of a request.

    Attributes:
        num_tokens: of the prompt.
        num_cached_tokens: those whose keys and values didn't have to be computed.
    """

    kind: Kind
    tenant: str
    num_tokens: int
    num_cached_tokens: int


def replay(
    policy_class: Callable[[int], EvictionPolicy], trace: Iterable[TraceRequest], num_blocks: int = POOL_BLOCKS
) -> Iterator[ServedRequest]:
    """Sends a trace through the engine's KV cache manager with a policy; one request at a time, prompts only.

    Raises:
        EvictionPolicyError: if the policy chooses a block that isn't evictable.
        MinillmError: if a prompt is larger than the pool.
    """
    manager = KVCacheManager(num_blocks, BLOCK_SIZE, prefix_cache=PolicyPrefixCache(policy_class(num_blocks)))
    for request in trace:
        request.num_computed_tokens = 0
        blocks, num_cached = manager.get_computed_blocks(request)
        if not manager.allocate_slots(request, len(request.token_ids) - num_cached, blocks):
            raise MinillmError(
                f"A prompt of {len(request.token_ids)} tokens needs more than the pool's {num_blocks - 1} blocks of "
                f"{BLOCK_SIZE} tokens; make num_blocks larger."
            )
        request.num_computed_tokens = len(request.token_ids)
        manager.cache_blocks(request)
        manager.free(request.request_id)
        yield ServedRequest(request.kind, request.tenant, len(request.token_ids), num_cached)


def hit_rate(
    policy_class: Callable[[int], EvictionPolicy],
    trace: Iterable[TraceRequest],
    num_blocks: int = POOL_BLOCKS,
    *,
    kind: Kind | None = "question",
) -> float:
    """The share of the prompts' tokens that a policy's prefix cache had, 0 to 1.

    Args:
        policy_class: built with the number of blocks, see `EvictionPolicy`.
        trace: as from `handbook_trace`.
        num_blocks: blocks in the pool, block 0 included.
        kind: which requests count. One-off prompts can't be hit, so by default only questions do; None is all.
    """
    served = [item for item in replay(policy_class, trace, num_blocks) if kind is None or item.kind == kind]
    total = sum(item.num_tokens for item in served)
    return sum(item.num_cached_tokens for item in served) / total if total else 0.0
