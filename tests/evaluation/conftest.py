from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from minillm.engine import LLM
from minillm.evaluation import Connection
from minillm.server import LocalServer


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """The model is so small that two threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def server(tiny: LLM) -> Iterator[LocalServer]:
    with LocalServer(tiny) as running:
        yield running


@pytest.fixture
def connection(server: LocalServer) -> Connection:
    return Connection(server.base_url, "tiny-random", through_proxy=False)
