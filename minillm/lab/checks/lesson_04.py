"""Checks of lesson 04's exercises."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence, Sized
from functools import cache
from typing import Any

from minillm.engine import LLM
from minillm.kv import BlockAllocator, HashPrefixCache, PrefixCache, RefCountingBlockAllocator
from minillm.kv.prefix_cache import BlockNotCachedError
from minillm.lab.traces import (
    POOL_BLOCKS,
    EvictionPolicy,
    EvictionPolicyError,
    LeastRecentlyUsed,
    PolicyPrefixCache,
    TraceRequest,
    handbook_trace,
    hit_rate,
    replay,
)
from minillm.sampling import SamplingParams
from minillm.testing import Case, CheckFailed, Report, check_block_allocator, check_prefix_cache, run_cases

# -- warm-up ----------------------------------------------------------------------------------------------------

BlockWaste = Callable[[Sequence[int], int, int], Any]


def check_block_waste(function: BlockWaste) -> Report:
    """`block_waste(lengths, block_size, max_model_len)`: blocks, empty slots, and two shares."""

    def call(lengths: Sequence[int], block_size: int = 16, max_model_len: int = 256) -> tuple[Any, Any, Any, Any]:
        result = function(list(lengths), block_size, max_model_len)
        if not isinstance(result, tuple) or len(result) != 4:
            raise CheckFailed(f"it returned {result!r}; expected four numbers: blocks, empty slots, and the two shares")
        return result

    def counts_blocks() -> None:
        for lengths in ([16], [1], [17], [15], [32], [5, 20], [16, 16, 33]):
            found, right = call(lengths)[0], sum(-(-n // 16) for n in lengths)
            if found == right:
                continue
            known = {
                sum(n // 16 for n in lengths): "that's rounded down: the tokens of the last, partly filled block have "
                "no place",
                sum(n // 16 + 1 for n in lengths): "that's one block too many where the length divides evenly",
                -(-sum(lengths) // 16): "that's as if all of them lay in one row: two sequences never share a block "
                "that isn't full",
                sum(lengths): "those are tokens",
            }
            meaning = f": {known[found]}" if found in known else ""
            raise CheckFailed(
                f"for lengths {lengths} and blocks of 16 it counts {found!r} blocks; it's {right}{meaning}"
            )

    def takes_any_size() -> None:
        for block_size in (1, 8, 128):
            blocks, empty, *_ = call([5, 20], block_size)
            right = sum(-(-n // block_size) for n in (5, 20))
            if (blocks, empty) != (right, right * block_size - 25):
                raise CheckFailed(
                    f"for lengths [5, 20] and blocks of {block_size} it found {blocks!r} blocks and {empty!r} empty "
                    f"slots; it's {right} and {right * block_size - 25}"
                )

    def counts_empty() -> None:
        for lengths, right in (([16], 0), ([1], 15), ([17], 15), ([5, 20], 23)):
            found = call(lengths)[1]
            known = {
                sum(n % 16 for n in lengths): "that's what is *in* the last blocks, not what is empty there",
                sum(16 - n % 16 for n in lengths): "a last block that's full has no empty slot, but here it counts 16",
                256 * len(lengths) - sum(lengths): "that's with a reservation for max_model_len, not in blocks",
            }
            if found != right:
                meaning = f": {known[found]}" if found in known else ""
                raise CheckFailed(f"for lengths {lengths} it counts {found!r} empty slots; it's {right}{meaning}")

    def gives_share() -> None:
        for lengths in ([1], [17], [5, 20], [16]):
            slots = 16 * sum(-(-n // 16) for n in lengths)
            empty, tokens = slots - sum(lengths), sum(lengths)
            found, right = call(lengths)[2], empty / slots
            if _near(found, right):
                continue
            known = [
                (100 * right, "that's in percent"),
                (1 - right, "that's the share that is used"),
                (empty / tokens, "that's per token; divide by all slots of the blocks, the filled ones included"),
                (empty / (256 * len(lengths)), "that's a share of the reservation, not of the blocks' slots"),
            ]
            raise CheckFailed(f"for lengths {lengths} its share is {found!r}; it's {right:.4f}{_meaning(found, known)}")

    def gives_reserved_share() -> None:
        for lengths in ([64], [5, 20], [256]):
            found, tokens = call(lengths)[3], sum(lengths)
            right = 1 - tokens / (256 * len(lengths))
            if _near(found, right):
                continue
            longest = max(lengths) * len(lengths)
            known = [
                (100 * right, "that's in percent"),
                (1 - right, "that's the share that is used"),
                (1 - tokens / longest, "that's with room for the longest of them; a server reserves before it knows "
                "how long they'll get, so for max_model_len"),
                (1 - tokens / 256, "that's one reservation; every sequence has its own"),
                (256 * len(lengths) - tokens, "that's slots, not their share"),
            ]  # fmt: skip
            raise CheckFailed(
                f"for lengths {lengths} and max_model_len 256 the share that a reservation wastes is given as "
                f"{found!r}; it's {right:.4f}{_meaning(found, known)}"
            )

    def takes_nothing() -> None:
        for lengths, right in (([], (0, 0, 0, 0)), ([0], (0, 0, 0, 1))):
            found = call(lengths)
            if not all(_near(one, other) for one, other in zip(found, right, strict=True)):
                raise CheckFailed(f"for lengths {lengths} it returned {found!r}; expected {right}")

    return run_cases(
        "Warm-up: blocks and what's empty in them",
        [
            Case(
                "counts blocks",
                counts_blocks,
                "Each sequence fills whole blocks, and the last one perhaps in part. How many for 15, 16, 17 tokens?",
                "Round up, for each sequence by itself: -(-length // block_size), then the sum.",
            ),
            Case(
                "counts the empty slots",
                counts_empty,
                "Empty is what the blocks have room for, less the tokens that are in them.",
                "num_blocks * block_size - sum(lengths).",
            ),
            Case(
                "takes blocks of any size",
                takes_any_size,
                "16 is the engine's block size; others are given here.",
                "Use the argument block_size throughout. With blocks of one token nothing is empty.",
            ),
            Case(
                "gives the empty slots' share",
                gives_share,
                "A share of all slots in the blocks, between 0 and 1.",
                "wasted_slots / (num_blocks * block_size).",
            ),
            Case(
                "gives the share that a reservation for the worst case wastes",
                gives_reserved_share,
                "Lesson 02's cache reserves max_model_len slots for each sequence, whatever its length becomes.",
                "1 - sum(lengths) / (len(lengths) * max_model_len).",
            ),
            Case(
                "takes no sequences, and a sequence of no tokens",
                takes_nothing,
                "Without sequences there are no slots to divide by; without tokens there are no blocks.",
                "Where the number of slots is 0, let the share be 0.0. A sequence of no tokens fills no block, but its "
                "reservation is made all the same.",
            ),
        ],
    )


def _near(found: Any, right: float) -> bool:
    return isinstance(found, int | float) and abs(found - right) < 1e-9


def _meaning(found: Any, known: Sequence[tuple[float, str]]) -> str:
    return next((f": {meaning}" for value, meaning in known if _near(found, value)), "")


# -- core -------------------------------------------------------------------------------------------------------

AllocatorClass = Callable[[int], BlockAllocator]
CacheClass = Callable[[], PrefixCache]
GiveBack = Callable[[list[int], BlockAllocator, PrefixCache], Any]


def check_allocator(allocator_class: AllocatorClass) -> Report:
    """`MyBlockAllocator(num_blocks)`, with the suite that every allocator of the engine has to pass."""
    return check_block_allocator(allocator_class)


def check_cache(cache_class: CacheClass) -> Report:
    """`MyPrefixCache()`, with the suite that every prefix cache of the engine has to pass, and what the text adds."""
    report = check_prefix_cache(cache_class)
    if report.title.endswith("once this holds)"):  # too early for more
        return report

    def refuses_unknown() -> None:
        for name in ("acquire", "release"):
            cache = cache_class()
            try:
                getattr(cache, name)(3)
            except BlockNotCachedError:
                pass
            except NotImplementedError:
                raise
            except Exception as error:
                raise CheckFailed(f"in an empty cache, {name}(3) raised {type(error).__name__}: {error}") from error
            else:
                raise CheckFailed(f"in an empty cache, {name}(3) was accepted")
            if (number := cache.num_evictable_blocks) or len(cache):
                raise CheckFailed(f"in an empty cache {name}(3) was refused, and now {number} blocks are evictable")

    case = Case(
        "acquire and release refuse a block that isn't in the cache",
        refuses_unknown,
        "A block that was never put has no contents that could be found, or evicted.",
        "In both, first: if the block isn't in the cache, raise BlockNotCachedError.",
    )
    return Report(report.title, [*report.behaviors, *run_cases(report.title, [case]).behaviors])


class _Pool:
    """A pool of nine blocks with the engine's own parts, so that only what's checked can be wrong."""

    def __init__(self) -> None:
        self.allocator, self.cache = RefCountingBlockAllocator(10), HashPrefixCache()

    def table(self, length: int, *, cached: int = 0) -> list[int]:
        """A request's new blocks. The first few are in the prefix cache, which holds a reference of its own."""
        blocks = [self.allocator.allocate() for _ in range(length)]
        for block in blocks[:cached]:
            self.cache.put(str(block).encode(), [block], block)
            self.allocator.fork(block)
        return blocks

    def counts(self, blocks: Sequence[int]) -> list[int]:
        return [self.allocator.ref_count(block) for block in blocks]


def check_give_back(function: GiveBack) -> Report:
    """`give_back(block_table, allocator, prefix_cache)`: what's done when a request is over."""

    def gives_each_back() -> None:
        pool = _Pool()
        blocks = pool.table(3)
        function(list(blocks), pool.allocator, pool.cache)
        if pool.counts(blocks) != [0, 0, 0] or pool.allocator.num_free_blocks != 9:
            raise CheckFailed(
                f"a request held the blocks {blocks}, none of them in the prefix cache; afterwards their reference "
                f"counts are {pool.counts(blocks)}, expected [0, 0, 0]"
            )

    def leaves_shared() -> None:
        pool = _Pool()
        blocks = pool.table(3)
        pool.allocator.fork(blocks[0])
        function(list(blocks), pool.allocator, pool.cache)
        if pool.counts(blocks) != [1, 0, 0]:
            raise CheckFailed(
                f"a second request holds block {blocks[0]} of {blocks}; afterwards the counts are "
                f"{pool.counts(blocks)}, expected [1, 0, 0]"
            )

    def keeps_cached() -> None:
        pool = _Pool()
        blocks = pool.table(3, cached=2)
        function(list(blocks), pool.allocator, pool.cache)
        counts, evictable = pool.counts(blocks), pool.cache.num_evictable_blocks
        situation = f"a request held the blocks {blocks}, and the prefix cache holds the first two as well"
        if counts != [1, 1, 0]:
            hint = None
            if counts == [0, 0, 0]:
                hint = (
                    "The prefix cache's own reference was taken too: the next request would overwrite a cached block."
                )
            elif counts[0] == 2:
                hint = (
                    "The request's reference on a cached block wasn't given back, so it stays in use for ever: a leak."
                )
            raise CheckFailed(f"{situation}; afterwards the counts are {counts}, expected [1, 1, 0]", hint=hint)
        if evictable != 2:
            raise CheckFailed(f"{situation}; afterwards {evictable} of them are evictable, expected 2")

    def knows_other_users() -> None:
        pool = _Pool()
        blocks = pool.table(2, cached=2)
        pool.allocator.fork(blocks[0])  # another request has found the first block
        function(list(blocks), pool.allocator, pool.cache)
        situation = f"a second request uses block {blocks[0]} of {blocks}, and both are in the prefix cache"
        if pool.counts(blocks) != [2, 1]:
            raise CheckFailed(f"{situation}; afterwards the counts are {pool.counts(blocks)}, expected [2, 1]")
        evicted = [pool.cache.evict() for _ in range(pool.cache.num_evictable_blocks)]
        if evicted != blocks[1:]:
            raise CheckFailed(f"{situation}; afterwards {evicted} can be evicted, expected {blocks[1:]}")

    def last_first() -> None:
        pool = _Pool()
        blocks = pool.table(3, cached=3)
        function(list(blocks), pool.allocator, pool.cache)
        evicted = [pool.cache.evict() for _ in range(pool.cache.num_evictable_blocks)]
        if evicted != blocks[::-1]:
            raise CheckFailed(
                f"a request held the blocks {blocks}, all in the prefix cache; evict() takes them in the order "
                f"{evicted}, expected {blocks[::-1]}"
            )

    return run_cases(
        "Core, part 3: give a request's blocks back",
        [
            Case(
                "gives each block back",
                gives_each_back,
                "A request holds one reference on each block of its table.",
                "for block in …: allocator.free(block).",
            ),
            Case(
                "leaves a block that another request holds",
                leaves_shared,
                "One reference per block, however many there are.",
                "Call allocator.free(block) once per block of the table; the allocator does the rest.",
            ),
            Case(
                "leaves cached blocks to the prefix cache, evictable",
                keeps_cached,
                "The prefix cache holds a reference of its own. It has to be told when it's the last one that does.",
                "After allocator.free(block): if the count is 1 and block in prefix_cache, then "
                "prefix_cache.release(block). The count has to be read after free, not before.",
            ),
            Case(
                "knows that others may use a cached block",
                knows_other_users,
                "A block that was released although a request still uses it will be evicted under that request.",
                "Call prefix_cache.release(block) only if allocator.ref_count(block) == 1: only the cache is left.",
            ),
            Case(
                "lets the last block be evicted first",
                last_first,
                "Without the blocks before it a block is never found. So which one should go first?",
                "for block in reversed(block_table): what is released first is evicted first.",
            ),
        ],
    )


_PARTS = ("MyBlockAllocator", "MyPrefixCache", "give_back")


def check_core(allocator_class: AllocatorClass, cache_class: CacheClass, function: GiveBack) -> Report:
    """The three parts together: each finished, and the first two serving in the engine."""
    reports = [check_allocator(allocator_class), check_cache(cache_class), check_give_back(function)]

    def finished(number: int) -> Callable[[], None]:
        def look() -> None:
            _expect_finished(number, reports[number])

        return look

    def serving() -> tuple[list[tuple[list[int], int]], list[tuple[list[int], int]], LLM]:
        missing = [name for name, report in zip(_PARTS[:2], reports, strict=False) if not report.passed]
        if missing:
            verb = "isn't" if len(missing) == 1 else "aren't"
            raise CheckFailed(
                f"not tried yet, because {' and '.join(missing)} {verb} finished",
                hint="The lines above say what's missing.",
                strong_hint="Mend the parts first, each with the check under its own cell.",
            )
        expected, _ = _answers(None, None)
        found, llm = _answers(allocator_class, cache_class)
        return found, expected, llm

    def same_tokens() -> None:
        found, expected, _ = serving()
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            if one[0] != other[0]:
                raise CheckFailed(f"request {index} got the tokens {one[0]}; with the engine's own parts {other[0]}")

    def same_hits() -> None:
        found, expected, _ = serving()
        hits, right = ([cached for _, cached in answers] for answers in (found, expected))
        if hits != right:
            raise CheckFailed(
                f"the requests found {hits} tokens in the prefix cache; with the engine's own parts {right}"
            )

    def nothing_leaks() -> None:
        *_, llm = serving()
        usage = llm.engine.kv.usage()
        if usage.referenced or usage.free + usage.cached != usage.total:
            raise CheckFailed(
                f"all requests are over, and of {usage.total} blocks {usage.referenced} are still in use, {usage.free} "
                f"free and {usage.cached} cached"
            )

    again = "Run the checks of the parts once more; the last lines of each are about long series of operations."
    return run_cases(
        "Core: the parts together, in the engine",
        [
            *(
                Case(
                    f"{name} is finished",
                    finished(number),
                    f"Part {number + 1} isn't done. Its own check says more about each line.",
                    f"Go to part {number + 1} and run its check again: it shows the stronger hints.",
                    time_limit=60,
                )
                for number, name in enumerate(_PARTS)
            ),
            Case("serves requests in the engine, with the same tokens", same_tokens, again, again, time_limit=60),
            Case("finds what the engine's own parts find", same_hits, again, again, time_limit=60),
            Case("has every block back in the end", nothing_leaks, again, again, time_limit=60),
        ],
    )


def _expect_finished(number: int, report: Report) -> None:
    if report.passed:
        return
    failed = report.failed
    stubs = [behavior.detail for behavior in failed if "NotImplementedError" in behavior.detail]
    names = dict.fromkeys(name for detail in stubs for name in re.findall(r"\(line \d+, in (\w+)", detail))
    unwritten = f"; not written yet: {', '.join(names) or 'a part of it'}" if stubs else ""
    listed = "\n".join(f"- {behavior.name}" for behavior in failed[:3]) + ("\n- …" if len(failed) > 3 else "")
    held = len(report.behaviors) - len(failed)
    raise CheckFailed(
        f"part {number + 1}: {held} of {len(report.behaviors)} lines hold{unwritten}. What's missing:\n{listed}"
    )


def _answers(
    allocator: AllocatorClass | None, prefix_cache: CacheClass | None
) -> tuple[list[tuple[list[int], int]], LLM]:
    """Tokens and hits of requests that begin alike, in a pool so small that cached blocks must be evicted."""
    llm = LLM(
        "tiny-random", device="cpu", num_blocks=14, debug=True, block_allocator=allocator, prefix_cache=prefix_cache
    )
    rng = random.Random(4)
    openings = [[rng.randrange(50, 250) for _ in range(64)] for _ in range(3)]
    params = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)
    answers = []
    for opening in (0, 0, 1, 0, 2, 1, 2, 2):
        prompts = [openings[opening] + [rng.randrange(50, 250) for _ in range(length)] for length in (5, 20)]
        answers += [(output.token_ids, output.cached_tokens) for output in llm.generate(prompts, params)]
    return answers, llm


# -- stretch ----------------------------------------------------------------------------------------------------

PolicyClass = Callable[[int], EvictionPolicy]
GAIN = 0.1
"""By how much a policy's hit rate has to be higher than that of least recently used."""

_SEEDS = (4, 104, 204)
_TOLERANCE = 0.05


def check_policy(policy_class: PolicyClass) -> Report:
    """A policy's books, and its hit rate on traces."""

    def run(operations: str, num_blocks: int = 16) -> tuple[EvictionPolicy, list[bytes]]:
        """Runs 'a' (release), '-a' (acquire), '!' (evict); returns what was evicted."""
        policy, evicted = policy_class(num_blocks), list[bytes]()
        for operation in operations.split():
            if operation == "!":
                evicted.append(policy.evict())
            elif operation.startswith("-"):
                policy.acquire(operation[1:].encode())
            else:
                policy.release(operation.encode())
        return policy, evicted

    def evicts_released() -> None:
        _, evicted = run("a b c ! ! !")
        if sorted(evicted, key=repr) != [b"a", b"b", b"c"]:
            hint = "evict() has to return the key that it chose." if None in evicted else None
            raise CheckFailed(f"after release of a, b and c, three times evict() returned {_names(evicted)}", hint=hint)

    def spares_acquired() -> None:
        for acquired in "abc":
            _, evicted = run(f"a b c -{acquired} ! !")
            if acquired.encode() in evicted:
                raise CheckFailed(
                    f"after release of a, b and c and acquire({acquired}), evict() returned {_names(evicted)}: "
                    f"a request is using {acquired}"
                )

    def takes_again() -> None:
        _, evicted = run("a b ! ! a b ! ! a -a a !")
        if sorted(evicted[2:], key=repr) != [b"a", b"a", b"b"]:
            raise CheckFailed(f"keys that were evicted and released again: evict() returned {_names(evicted)}")

    def any_series() -> None:
        for seed in range(200):
            _series(policy_class, random.Random(seed), 12 if seed < 150 else 600)

    def measured(seed: int) -> tuple[float, float]:
        return hit_rate(policy_class, handbook_trace(seed)), _lru(seed)

    def beats_lru() -> None:
        found, lru = measured(_SEEDS[0])
        if found < lru + GAIN:
            same = " That's the same policy, as far as this trace can tell." if abs(found - lru) < 0.005 else ""
            raise CheckFailed(
                f"on the lesson's trace its hit rate is {found:.1%}; least recently used has {lru:.1%}, and "
                f"{100 * GAIN:.0f} percentage points more are asked for.{same}",
                hint="Least recently used loses the handbook whenever a long prompt passes through. What do those "
                "prompts' blocks never do?" if found > lru - _TOLERANCE else
                "That's worse than least recently used. Does evict() choose keys that will be asked for again?",
            )  # fmt: skip

    def beats_it_elsewhere() -> None:
        for seed in _SEEDS[1:]:
            found, lru = measured(seed)
            if found < lru + GAIN:
                raise CheckFailed(
                    f"on a trace with other random numbers its hit rate is {found:.1%}; least recently used has "
                    f"{lru:.1%}"
                )

    def follows() -> None:
        found, lru = _after_the_change(policy_class), _after_the_change(LeastRecentlyUsed)
        if found < lru - _TOLERANCE:
            raise CheckFailed(
                f"when every page and every opening has been replaced by another, its hit rate from there on is "
                f"{found:.1%}; least recently used has {lru:.1%}"
            )

    def forgets() -> None:
        policy, limit = policy_class(16), 16 * 64
        for number in range(20_000):
            policy.release(str(number).encode())
            if number >= 16:
                policy.evict()
        sizes = {
            name: len(value) for name, value in getattr(policy, "__dict__", {}).items() if isinstance(value, Sized)
        }
        for name, size in sizes.items():
            if size > limit:
                raise CheckFailed(f"after 20,000 different keys in a pool of 16 blocks, {name} holds {size:,} entries")

    return run_cases(
        f"Stretch: a better policy than least recently used (a pool of {POOL_BLOCKS} blocks)",
        [
            Case(
                "evicts what was released, each key once",
                evicts_released,
                "evict() chooses one of the evictable keys, forgets that it's evictable, and returns it.",
                "Begin with LeastRecentlyUsed: an OrderedDict, and popitem(last=False)[0] in evict().",
            ),
            Case(
                "never evicts what's in use",
                spares_acquired,
                "Between acquire and release a request reads the block.",
                "In acquire(), take the key out of whichever queue it's in.",
            ),
            Case(
                "takes a key again that was evicted",
                takes_again,
                "The same contents may be computed again: the same key is released once more.",
                "Whatever you remember of an evicted key, release() has to make it evictable again.",
            ),
            Case(
                "keeps its books in any series of operations",
                any_series,
                "Every key that was released, and neither acquired nor evicted since, can be evicted. No other can.",
                "With several queues, a key must be in exactly one. If one is empty, evict() looks into the next.",
                time_limit=30,
            ),
            Case(
                "has a hit rate that's ten points higher",
                beats_lru,
                "Which blocks are worth keeping: those that were used last, or those that were used more than once?",
                "Keep two queues: keys that were released once, and keys that came again. Evict from the first while "
                "it has more than a few. Remember evicted keys for a while, to know them when they come again.",
                time_limit=60,
            ),
            Case(
                "also on traces that it hasn't seen",
                beats_it_elsewhere,
                "The same with other random numbers. If the line above fails as well, mend that first.",
                "Decide by what happens to the keys, not by which they are.",
                time_limit=90,
            ),
            Case(
                "lets go of what nobody asks for any more",
                follows,
                "What was popular once may be dead now. How does a block leave that came a hundred times, long ago?",
                "A count that never falls keeps dead blocks for ever. Evict the *least recently used* of the proven "
                "ones when the newcomers have less than their share of the pool; and let newcomers prove themselves.",
                time_limit=90,
            ),
            Case(
                "remembers a limited number of keys",
                forgets,
                "A server runs for months. Does anything here grow with every key that ever was?",
                "Keep what you remember of evicted keys in an OrderedDict, and drop the oldest beyond a few times "
                "num_blocks.",
                time_limit=30,
            ),
        ],
    )


def _names(keys: Sequence[Any]) -> str:
    return ", ".join(key.decode() if isinstance(key, bytes) else repr(key) for key in keys)


def _series(policy_class: PolicyClass, rng: random.Random, length: int) -> None:
    """Operations as the engine makes them, on a cache that notices a policy's wrong choice."""
    kv, in_use, evictable = PolicyPrefixCache(policy_class(8)), set[int](), set[int]()
    for number in range(length):
        operation = rng.choice(("put", "acquire", "release", "evict"))
        if operation == "put" and len(in_use | evictable) < 8:
            block = min(set(range(1, 9)) - in_use - evictable)
            if kv.put(bytes([rng.randrange(30)]), [number], block):
                in_use.add(block)
        elif operation == "acquire" and evictable:
            block = rng.choice(sorted(evictable))
            kv.acquire(block)
            evictable.remove(block)
            in_use.add(block)
        elif operation == "release" and in_use:
            block = rng.choice(sorted(in_use))
            kv.release(block)
            in_use.remove(block)
            evictable.add(block)
        elif operation == "evict" and evictable:
            try:
                evicted = kv.evict()
            except EvictionPolicyError as error:
                raise CheckFailed(f"after {number} operations: {error}") from error
            evictable.discard(evicted or 0)


@cache
def _lru(seed: int) -> float:
    return hit_rate(LeastRecentlyUsed, handbook_trace(seed))


def _after_the_change(policy_class: PolicyClass) -> float:
    """The hit rate on a trace without one-offs, counted from where another handbook replaces the first."""
    before = handbook_trace(1, 300, one_off_share=0, edited_at=None)
    after: list[TraceRequest] = handbook_trace(2, 150, one_off_share=0, edited_at=None)
    served = list(replay(policy_class, before + after))[len(before) :]
    return sum(item.num_cached_tokens for item in served) / sum(item.num_tokens for item in served)


CHECKS: Mapping[str, Callable[..., Report]] = {
    "warm-up": check_block_waste,
    "allocator": check_allocator,
    "prefix cache": check_cache,
    "give back": check_give_back,
    "core": check_core,
    "stretch": check_policy,
}
