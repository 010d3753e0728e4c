from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
import torch
from serving import connect

from minillm.engine import LLM
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


@pytest.fixture(scope="package")
def client(server: LocalServer) -> Iterator[openai.OpenAI]:
    with connect(server) as strict:
        yield strict
