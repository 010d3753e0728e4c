"""What all tests share: the models, loaded once, and hypothesis without a deadline (CI machines are slow)."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from minillm.errors import MinillmError
from minillm.weights import resolve

if TYPE_CHECKING:
    from minillm import LLM

# PyTorch's threads wait for each other by spinning. Where something else wants a core as well, long spinning makes
# the real model several times slower. It has to be set before PyTorch is imported, hence the imports in fixtures.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

settings.register_profile("minillm", parent=settings(), deadline=None)
settings.load_profile("minillm")


@pytest.fixture(scope="module", autouse=True)
def _leaks_are_found_where_they_are_made() -> Iterator[None]:
    """A socket that a test leaves open is an error when it's collected: here, not in whatever module comes later."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2's GGUF file in the user's cache. Without it, half of the tests would prove nothing, so they fail."""
    try:
        return resolve("smollm2-135m", progress=False)
    except MinillmError as error:
        pytest.fail(f"The tests need the real model, which could not be had: {error} Fetch it with: make weights")


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> LLM:
    """The real model in float32 on the CPU, where it can be compared with the oracle number by number."""
    from minillm import LLM

    return LLM("smollm2-135m", device="cpu")


@pytest.fixture(scope="session")
def tiny() -> LLM:
    """Two layers of random weights."""
    from minillm import LLM

    return LLM("tiny-random", device="cpu")
