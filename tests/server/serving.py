"""What the server's tests share: a strict client, raw bytes, a sampler to watch and hold up, and patience."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable

import openai
from torch import Tensor

from minillm.sampling import FilteringSampler, SamplingMetadata
from minillm.server import LocalServer

MODEL = "tiny-random"


def connect(server: LocalServer, *, timeout: float = 60, api_key: str = "not-needed") -> openai.OpenAI:
    """A client that checks every answer against the types of the API."""
    return openai.OpenAI(
        base_url=server.base_url,
        api_key=api_key,
        max_retries=0,
        timeout=timeout,
        _strict_response_validation=True,
    )


def address(server: LocalServer) -> tuple[str, int]:
    """Host and port."""
    host, _, port = server.base_url.removeprefix("http://").removesuffix("/v1").partition(":")
    return host, int(port)


def exchange(server: LocalServer, data: bytes, *, wait: float = 20) -> bytes:
    """What comes back for these bytes until the server closes, or pauses."""
    received = b""
    with socket.create_connection(address(server), timeout=wait) as connection:
        try:
            connection.sendall(data)
            while piece := connection.recv(65536):
                received += piece
                connection.settimeout(0.5)
        except (TimeoutError, ConnectionError):
            pass
    return received


def statuses(received: bytes) -> list[int]:
    """The status codes of what came back, in order."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", received)]


class WatchedSampler(FilteringSampler):
    """The engine's sampler, which counts its tokens, can be held up, slowed down and made to fail."""

    def __init__(self, *, delay: float = 0.0, fails_at: int | None = None) -> None:
        self.num_calls = 0
        self.delay = delay
        self.fails_at = fails_at
        self.gate = threading.Event()
        self.gate.set()

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        self.gate.wait(timeout=30)
        time.sleep(self.delay)
        self.num_calls += 1
        if self.num_calls == self.fails_at:
            raise RuntimeError("the sampler broke")
        return super().sample(logits, metadata)


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()
