"""`check_prefix_cache`: what a prefix cache must do before the engine answers with what it finds there."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from minillm.kv import PrefixCache
from minillm.testing.report import Behavior, Case, CheckFailed, Report, run_cases

_METHODS = ("get", "put", "acquire", "release", "evict", "__contains__", "__len__")

# A chain of three blocks, parents first. Their numbers are in no order, so that sorting by number shows.
_CHAIN = (5, 9, 2)


def check_prefix_cache(cls: Callable[[], PrefixCache]) -> Report:
    """Checks a prefix cache against the protocol `minillm.kv.PrefixCache`, by what it returns only.

    Args:
        cls: a class that is built without arguments, or a function that makes such an object.

    Returns:
        The report, a line per behavior. `report.raise_if_failed()` raises it, `report.hint()` says more.
    """
    title = f"prefix cache {getattr(cls, '__name__', type(cls).__name__)}"
    suite, behaviors = _Suite(cls), list[Behavior]()
    # Without the foundations the later lines would only mislead.
    for case in suite.foundations():
        report = run_cases(title, [case])
        behaviors += report.behaviors
        if not report.passed:
            return Report(f"{title} (more follows once this holds)", behaviors)
    return Report(title, behaviors + run_cases(title, suite.cases()).behaviors)


class _Suite:
    """The behaviors. Each case gets a cache of its own, so that one mistake spoils few lines."""

    def __init__(self, cls: Callable[[], PrefixCache]) -> None:
        self._new = cls

    def foundations(self) -> list[Case]:
        """What all other behaviors rest on."""
        return [
            Case(
                "has get, put, acquire, release, evict, num_evictable_blocks, `in` and len",
                self._members,
                "A prefix cache is built without arguments, and num_evictable_blocks is a property.",
                "class MyCache: def get(self, block_hash, token_ids); def put(self, block_hash, token_ids, block); def "
                "acquire(self, block); def release(self, block); def evict(self); def __contains__(self, block); def "
                "__len__(self); @property def num_evictable_blocks(self).",
            ),
            Case(
                "finds a block by its hash and its tokens",
                self._found,
                "What was put under a hash has to come back under it, and None under any other.",
                "A dict from hashes to blocks: put() writes it, get() reads it with .get(), which returns None if "
                "nothing is there.",
            ),
        ]

    def cases(self) -> list[Case]:
        """All other behaviors, the simple ones first."""
        return [*self._lookup_cases(), *self._use_cases(), *self._eviction_cases(), *self._series_cases()]

    def _chain(self, *, release: bool = True) -> PrefixCache:
        """A cache with the chain's blocks, given back in the engine's order: the tail first."""
        cache = self._new()
        for block in _CHAIN:
            cache.put(_hash(block), [block], block)
        for block in reversed(_CHAIN) if release else ():
            cache.release(block)
        return cache

    def _members(self) -> None:
        cache = self._new()
        for name in _METHODS:
            if not callable(getattr(cache, name, None)):
                raise CheckFailed(f"an object of the class {type(cache).__name__} has no method called {name}")
        if not isinstance(value := getattr(cache, "num_evictable_blocks", None), int):
            kind = "a method" if callable(value) else "missing" if value is None else repr(value)
            raise CheckFailed(f"num_evictable_blocks is {kind}; expected a property with a whole number")

    # -- looking up -------------------------------------------------------------------------------------------------

    def _lookup_cases(self) -> list[Case]:
        return [
            Case(
                "the same hash with other tokens is a miss",
                self._collision,
                "A collision is accepted: two different texts get the same keys and values.",
                "Keep the token ids beside the block, and compare them in get(): return None unless they're equal. A "
                "forged hash would otherwise read somebody else's prompt.",
            ),
            Case(
                "tokens are compared by value, whether they come as a list or as a tuple",
                self._list_or_tuple,
                "[1, 2] == (1, 2) is False in Python.",
                "Turn them into a tuple on both sides: tuple(token_ids).",
            ),
            Case(
                "keeps its own copy of the tokens",
                self._own_copy,
                "The caller may go on writing into the list that it handed over.",
                "Keep tuple(token_ids) and not the list itself.",
            ),
            Case(
                "put returns True for a new hash, and False for one that's there, which keeps its block",
                self._put_twice,
                "Two requests may compute the same block side by side. The first one that publishes it wins.",
                "In put(), return False before anything is changed if the hash is there already; otherwise True. The "
                "manager counts a reference for each True.",
            ),
            Case(
                "counts its blocks and knows which they are",
                self._counted,
                "len and `in` are about all cached blocks, in use or not, and `in` takes a block, not a hash.",
                "Keep a dict from blocks to their hashes as well: `in` and len ask that one.",
            ),
        ]

    def _found(self) -> None:
        cache = self._new()
        if (block := cache.get(b"a", [1, 2])) is not None:
            raise CheckFailed(f"in an empty cache, get(b'a', [1, 2]) returned {block!r}; expected None")
        cache.put(b"a", [1, 2], 3)
        for block_hash, expected in ((b"a", 3), (b"b", None)):
            if (block := cache.get(block_hash, [1, 2])) != expected:
                raise CheckFailed(
                    f"after put(b'a', [1, 2], 3), get({block_hash!r}, [1, 2]) returned {block!r}; expected {expected}"
                )

    def _collision(self) -> None:
        for other in ([1, 9], [1], [1, 2, 3], [2, 1]):
            cache = self._new()
            cache.put(b"a", [1, 2], 3)
            if (block := cache.get(b"a", other)) is not None:
                raise CheckFailed(f"after put(b'a', [1, 2], 3), get(b'a', {other}) returned {block!r}; expected None")

    def _list_or_tuple(self) -> None:
        tokens: list[Sequence[int]] = [[1, 2], (1, 2)]
        for given, asked in (tokens, reversed(tokens)):
            cache = self._new()
            cache.put(b"a", given, 3)
            if (block := cache.get(b"a", asked)) != 3:
                raise CheckFailed(f"after put(b'a', {given}, 3), get(b'a', {asked}) returned {block!r}; expected 3")

    def _own_copy(self) -> None:
        cache, tokens = self._new(), [1, 2]
        cache.put(b"a", tokens, 3)
        tokens.append(9)
        if (block := cache.get(b"a", [1, 2])) != 3:
            raise CheckFailed(
                f"after t = [1, 2], put(b'a', t, 3) and t.append(9), get(b'a', [1, 2]) returned {block!r}; expected 3"
            )

    def _put_twice(self) -> None:
        cache = self._new()
        first, second = cache.put(b"a", [1, 2], 3), cache.put(b"a", [1, 2], 4)
        if (first, second) != (True, False):
            raise CheckFailed(
                f"put(b'a', [1, 2], 3) returned {first!r} and put(b'a', [1, 2], 4) after it {second!r}; expected True "
                "and False"
            )
        if (block := cache.get(b"a", [1, 2])) != 3 or 4 in cache or len(cache) != 1:
            raise CheckFailed(
                f"after put(b'a', [1, 2], 3) and put(b'a', [1, 2], 4), get gives {block!r}, 4 in cache is {4 in cache} "
                f"and len is {len(cache)}; expected 3, False and 1"
            )

    def _counted(self) -> None:
        cache = self._chain(release=False)
        for situation in ("put", "released"):
            present = [block for block in range(12) if block in cache]
            if len(cache) != 3 or present != sorted(_CHAIN):
                raise CheckFailed(
                    f"with the blocks {_listed(_CHAIN)} {situation}, len is {len(cache)} and those in it are {present}"
                )
            for block in _CHAIN if situation == "put" else ():
                cache.release(block)

    # -- in use or not ----------------------------------------------------------------------------------------------

    def _use_cases(self) -> list[Case]:
        return [
            Case(
                "a block that was just put is in use",
                self._put_in_use,
                "The request that computed the block still reads it.",
                "put() must not make the block evictable; only release() does.",
            ),
            Case(
                "a released block is evictable and still found",
                self._released,
                "A released block waits: somebody may ask for it again before the room is needed.",
                "release() only adds the block to the evictable ones. It stays in the table until evict() takes it.",
            ),
            Case(
                "never evicts a block in use",
                self._acquired,
                "A referenced block was evicted: its request would read what somebody else writes there.",
                "acquire() takes the block out of the evictable ones, and evict() looks nowhere else. If only blocks "
                "in use are left, it returns None.",
            ),
            Case(
                "evict returns None if there is nothing to evict",
                self._nothing,
                "An empty cache is no error.",
                "Ask whether there are evictable blocks first, and return None if not.",
            ),
        ]

    def _put_in_use(self) -> None:
        cache = self._new()
        cache.put(b"a", [1, 2], 3)
        number, block = cache.num_evictable_blocks, cache.evict()
        if number or block is not None:
            raise CheckFailed(
                f"after put(b'a', [1, 2], 3), {number} blocks are evictable and evict() returned {block!r}"
            )

    def _released(self) -> None:
        cache = self._new()
        cache.put(b"a", [1, 2], 3)
        cache.release(3)
        number, block = cache.num_evictable_blocks, cache.get(b"a", [1, 2])
        if number != 1 or block != 3:
            raise CheckFailed(
                f"after put(b'a', [1, 2], 3) and release(3), {number} blocks are evictable and get(b'a', [1, 2]) gives "
                f"{block!r}; expected 1 and 3"
            )

    def _acquired(self) -> None:
        cache = self._chain()
        kept = _CHAIN[-1]
        cache.acquire(kept)
        done = f"with the blocks {_listed(_CHAIN)} released and then acquire({kept})"
        if (number := cache.num_evictable_blocks) != 2:
            raise CheckFailed(f"{done}, {number} blocks are evictable; expected 2")
        evicted = [cache.evict() for _ in range(3)]
        if kept in evicted or evicted[2] is not None:
            raise CheckFailed(
                f"{done}, evict() returned {_listed(evicted)}; expected never {kept}, and None in the end"
            )
        if kept not in cache:
            raise CheckFailed(f"{done} and three times evict(), block {kept} isn't in the cache any more")

    def _nothing(self) -> None:
        if (block := self._new().evict()) is not None:
            raise CheckFailed(f"in an empty cache, evict() returned {block!r}")

    # -- eviction ---------------------------------------------------------------------------------------------------

    def _eviction_cases(self) -> list[Case]:
        return [
            Case(
                "evicts what was released first, which is the tail of a prefix",
                self._tails_first,
                "Compare the order in which the blocks were released with that in which they're evicted.",
                "Keep the evictable blocks in a collections.OrderedDict: release() puts a block at its end, evict() "
                "takes popitem(last=False).",
            ),
            Case(
                "a block that was used again is evicted later",
                self._used_again,
                "It's the last use that counts, not the first.",
                "release() has to move the block to the end, whenever it was released before.",
            ),
            Case(
                "looking a block up changes nothing",
                self._looking,
                "get() looks at the prefix from its beginning on. If that counted as a use, the tails would be the "
                "most recently used.",
                "Leave the order of the evictable blocks alone in get(); acquire() and release() tell who is used.",
            ),
            Case(
                "an evicted block is forgotten",
                self._forgotten,
                "After an eviction the block belongs to somebody else, so nothing may lead to it.",
                "evict() has to delete the hash from the table as well, so it needs to know each block's hash.",
            ),
            Case(
                "a hash whose block was evicted can be put again, with another block",
                self._put_again,
                "What was evicted may be computed again, in another block.",
                "After evict() nothing of the old entry may be left: neither its hash nor its tokens.",
            ),
        ]

    def _tails_first(self) -> None:
        cache = self._chain()
        evicted = [cache.evict() for _ in _CHAIN]
        if evicted == list(reversed(_CHAIN)):
            return
        hint = None
        if evicted == list(_CHAIN):
            hint = "Parents are evicted before their tails, which can then never be found again."
        elif evicted == sorted(_CHAIN):
            hint = "The order is that of the blocks' numbers, which mean nothing."
        raise CheckFailed(
            f"of a prefix of the blocks {_listed(_CHAIN)}, released tail first ({_listed(_CHAIN[::-1])}), evict() "
            f"returned {_listed(evicted)}",
            hint=hint,
        )

    def _used_again(self) -> None:
        cache = self._chain()
        first, *others = reversed(_CHAIN)
        cache.acquire(first)
        cache.release(first)
        evicted = [cache.evict() for _ in _CHAIN]
        if evicted[-1] != first:
            raise CheckFailed(
                f"with the blocks {_listed((first, *others))} released in this order, then acquire({first}) and "
                f"release({first}), evict() returned {_listed(evicted)}; expected {first} last"
            )

    def _looking(self) -> None:
        looked_at, plain = self._chain(), self._chain()
        for block in _CHAIN:
            looked_at.get(_hash(block), [block])
        number = looked_at.num_evictable_blocks
        after, before = ([cache.evict() for _ in _CHAIN] for cache in (looked_at, plain))
        if number != 3 or after != before:
            raise CheckFailed(
                f"with the blocks {_listed(_CHAIN)} released and looked up, {number} are evictable, in the order "
                f"{_listed(after)}; without the look it's {_listed(before)}"
            )

    def _forgotten(self) -> None:
        cache = self._new()
        cache.put(b"a", [1, 2], 3)
        cache.release(3)
        if (evicted := cache.evict()) != 3:
            raise CheckFailed(f"after put(b'a', [1, 2], 3) and release(3), evict() returned {evicted!r}; expected 3")
        found, left = cache.get(b"a", [1, 2]), (len(cache), cache.num_evictable_blocks)
        if found is not None or 3 in cache or left != (0, 0):
            raise CheckFailed(
                f"after put(b'a', [1, 2], 3), release(3) and evict(), get(b'a', [1, 2]) gives {found!r}, 3 in cache is "
                f"{3 in cache}, len is {left[0]} and num_evictable_blocks {left[1]}; expected None, False, 0 and 0"
            )

    def _put_again(self) -> None:
        cache = self._new()
        cache.put(b"a", [1, 2], 3)
        cache.release(3)
        cache.evict()
        result = cache.put(b"a", [1, 2], 7)
        if not result or (block := cache.get(b"a", [1, 2])) != 7:
            found = "" if not result else f" and get(b'a', [1, 2]) gives {block!r}"
            raise CheckFailed(f"after b'a' was evicted, put(b'a', [1, 2], 7) returned {result!r}{found}")

    # -- series -----------------------------------------------------------------------------------------------------

    def _series_cases(self) -> list[Case]:
        return [
            Case(
                "two caches keep books of their own",
                self._separate,
                "Something is shared by all objects of the class.",
                "A list or dict in the class body, or as a default argument, exists once. Make it in __init__.",
            ),
            Case(
                "the books are right after thousands of operations in any order",
                self._any_series,
                "Follow the operations by hand, and compare what's evictable after each.",
                "In between, every cached block is either in use or evictable, never both and never neither.",
            ),
        ]

    def _separate(self) -> None:
        one, other = self._new(), self._new()
        one.put(b"a", [1, 2], 3)
        if other.get(b"a", [1, 2]) is not None or 3 in other or len(other):
            raise CheckFailed("after put(b'a', [1, 2], 3) in one cache, another one holds that block as well")

    def _any_series(self) -> None:
        # The short ones first: what fails then is a small example.
        lengths = [length for length in range(2, 9) for _ in range(50)] + [400] * 20
        for seed, length in enumerate(lengths):
            self._series(random.Random(seed), length)

    def _series(self, rng: random.Random, length: int) -> None:
        cache, done = self._new(), list[str]()
        in_use, evictable = list[int](), list[int]()  # the latter in order of their release
        for _ in range(length):
            block = rng.randrange(1, 9)
            if block in in_use:
                done.append(f"release({block})")
                cache.release(block)
                in_use.remove(block)
                evictable.append(block)
            elif block in evictable and rng.random() < 0.6:
                done.append(f"acquire({block})")
                cache.acquire(block)
                evictable.remove(block)
                in_use.append(block)
            elif evictable and rng.random() < 0.5:
                done.append(f"evict() → {(evicted := cache.evict())}")
                if evicted != (expected := evictable.pop(0)):
                    raise CheckFailed(f"{_last(done)}; expected {expected}")
            elif block not in evictable:
                done.append(f"put(b'{block}', [{block}], {block})")
                in_use.append(block)
                if not cache.put(_hash(block), [block], block):
                    raise CheckFailed(f"{_last(done)}: it isn't there, but put returned False")
            self._compare(cache, in_use, evictable, done)

    @staticmethod
    def _compare(cache: PrefixCache, in_use: list[int], evictable: list[int], done: list[str]) -> None:
        cached = sorted(in_use + evictable)
        if (number := cache.num_evictable_blocks) != len(evictable):
            raise CheckFailed(f"{_last(done)}: {number} blocks are evictable; expected {len(evictable)}")
        if (found := [block for block in range(1, 9) if cache.get(_hash(block), [block]) == block]) != cached:
            raise CheckFailed(f"{_last(done)}: the blocks {_listed(found)} are found; expected {_listed(cached)}")
        if len(cache) != len(cached):
            raise CheckFailed(f"{_last(done)}: len is {len(cache)}; expected {len(cached)}")


def _hash(block: int) -> bytes:
    return str(block).encode()


def _listed(blocks: Sequence[int | None]) -> str:
    return ", ".join(map(str, blocks)) or "none"


def _last(done: list[str]) -> str:
    return "after " + ("" if len(done) <= 8 else "…, ") + ", ".join(done[-8:])
