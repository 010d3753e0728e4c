"""Randomness without a state: a number is a hash of (seed, position, stream).

A generator with a state gives other numbers when requests share a batch, are reordered or are computed again.
A hash gives each position of each request its own number, whoever is beside it and however often it's asked
(counter-based randomness, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
"""

from __future__ import annotations

import secrets

_MASK = (1 << 64) - 1


def _mix(x: int) -> int:
    """SplitMix64's finalizer: each bit of the input changes each bit of the output about half of the time."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return x ^ (x >> 31)


def uniform(seed: int, position: int, stream: int = 0) -> float:
    """A number in [0, 1) with 53 random bits.

    Args:
        seed: the request's; any integer, taken modulo 2**64.
        position: index of the token that's sampled with it.
        stream: tells apart several numbers for one position (such as accept and resample in speculative decoding).
    """
    # Each part is mixed in by itself: seed 1 at position 2 must have nothing to do with seed 2 at position 1.
    # int(): a seed out of a NumPy array would overflow.
    x = _mix((int(seed) + 0x9E3779B97F4A7C15) & _MASK)
    x = _mix((x + (position + 1) * 0x9E3779B97F4A7C15) & _MASK)
    x = _mix((x + (stream + 1) * 0xD1B54A32D192ED03) & _MASK)
    return (x >> 11) / (1 << 53)


def fresh_seed() -> int:
    """A seed for a request that brought none."""
    return secrets.randbits(64)


def derive_seed(seed: int, index: int) -> int:
    """The seed of a request's output number `index` (n > 1); output 0 keeps the request's own."""
    return seed if index == 0 else _mix((int(seed) + index * 0xA0761D6478BD642F) & _MASK)
