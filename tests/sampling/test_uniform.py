"""The random numbers: uniform, unrelated, and the same in every version."""

from __future__ import annotations

import math
from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from minillm.sampling import uniform
from minillm.sampling.random import fresh_seed

# Part of a promise: a request with a seed gives the same tokens after an update. Never change them.
GOLDEN = {
    (0, 0): 0.8710581041222718,
    (0, 1): 0.27121292014591114,
    (1, 0): 0.5051788171265185,
    (0, 0, 1): 0.8074357056472079,
    (42, 7): 0.020733736710335626,
    (42, 7, 2): 0.40531131973107515,
    (-1, 0): 0.25307128394205936,
    (2**64, 0): 0.8710581041222718,
    (123456789, 2047): 0.030021430176254693,
}

NUM = 20_000
integers = st.integers(-(2**70), 2**70)


@pytest.mark.parametrize(("arguments", "number"), GOLDEN.items())
def test_pinned_values(arguments: tuple[int, ...], number: float) -> None:
    assert uniform(*arguments) == number


@given(integers, st.integers(0, 2**40), st.integers(0, 2**20))
def test_lies_in_the_half_open_interval_and_repeats(seed: int, position: int, stream: int) -> None:
    number = uniform(seed, position, stream)
    assert 0 <= number < 1
    assert number == uniform(seed, position, stream)
    assert number == uniform(seed + 2**64, position, stream)
    assert (number * 2**53).is_integer()


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint64])
def test_takes_numpys_integers(kind: type) -> None:
    assert uniform(kind(42), 7) == GOLDEN[42, 7]


SERIES: dict[str, Callable[[int], float]] = {
    "positions": lambda i: uniform(0, i),
    "seeds": lambda i: uniform(i, 0),
    "streams": lambda i: uniform(0, 0, i),
    "positions of a large seed": lambda i: uniform(2**63 + 11, i),
    "seeds far apart": lambda i: uniform(i << 40, 3),
    "the diagonal": lambda i: uniform(i, i),
    "the other diagonal": lambda i: uniform(i, NUM - i),
}


@pytest.mark.parametrize("name", SERIES)
def test_is_uniform(name: str) -> None:
    """Kolmogorov and Smirnov: the empirical distribution stays near the diagonal; the limit is that of 1 in 10,000."""
    numbers = np.sort([SERIES[name](i) for i in range(NUM)])
    steps = np.arange(NUM + 1) / NUM
    distance = max(np.abs(numbers - steps[:-1]).max(), np.abs(numbers - steps[1:]).max())
    assert distance < math.sqrt(-0.5 * math.log(1e-4 / 2)) / math.sqrt(NUM)


@pytest.mark.parametrize("name", SERIES)
def test_every_bit_is_even(name: str) -> None:
    bits = np.array([int(SERIES[name](i) * 2**53) for i in range(NUM)], dtype=np.uint64)
    for bit in range(53):
        ones = int(((bits >> np.uint64(bit)) & np.uint64(1)).sum())
        assert abs(ones - NUM / 2) < 5 * math.sqrt(NUM) / 2, f"bit {bit}"


PAIRS: dict[str, Callable[[int], tuple[float, float]]] = {
    "next position": lambda i: (uniform(7, i), uniform(7, i + 1)),
    "next seed": lambda i: (uniform(i, 7), uniform(i + 1, 7)),
    "next stream": lambda i: (uniform(7, i), uniform(7, i, 1)),
    "seed and position exchanged": lambda i: (uniform(i, i + 1), uniform(i + 1, i)),
    "seed one up, position one down": lambda i: (uniform(i, 100), uniform(i + 1, 99)),
    "position and stream exchanged": lambda i: (uniform(7, i, i + 1), uniform(7, i + 1, i)),
    "seed and its negative": lambda i: (uniform(i + 1, 0), uniform(-i - 1, 0)),
    "seed and twice the seed": lambda i: (uniform(i + 1, 0), uniform(2 * i + 2, 0)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_neighbors_have_nothing_to_do_with_each_other(name: str) -> None:
    x, y = np.array([PAIRS[name](i) for i in range(NUM)]).T
    assert abs(np.corrcoef(x, y)[0, 1]) < 4 / math.sqrt(NUM)
    # Correlation sees lines only; a grid of 16 by 16 cells sees every pattern that is not finer.
    counts, *_ = np.histogram2d(x, y, bins=16, range=[[0, 1], [0, 1]])
    expected = NUM / 256
    assert ((counts - expected) ** 2 / expected).sum() < 255 + 4 * math.sqrt(2 * 255)


def test_no_two_places_share_a_number() -> None:
    numbers = {uniform(s, p, t) for s in range(60) for p in range(60) for t in range(3)}
    assert len(numbers) == 60 * 60 * 3


def test_fresh_seeds_differ() -> None:
    seeds = {fresh_seed() for _ in range(100)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**64 for seed in seeds)
