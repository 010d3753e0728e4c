"""What comes over the wire when it isn't a well-behaved client: every answer is a clear error, and nothing is left."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving import MODEL, WatchedSampler, address, connect, exchange, wait_until
from starlette.types import Message, Receive, Scope, Send

from minillm.engine import LLM
from minillm.server import LocalServer
from minillm.server.door import Door, json_is_deeper_than
from minillm.server.tenants import Tenants

GOOD: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}


def still_answers(server: LocalServer) -> bool:
    with connect(server) as client:
        return bool(client.chat.completions.create(**GOOD).choices)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


JSON = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(JSON, st.integers(0, 6))
def test_the_depth_of_json_is_what_the_parser_finds(value: Any, limit: int) -> None:
    assert json_is_deeper_than(json.dumps(value).encode(), limit) == (depth(value) > limit)


@given(st.binary())
def test_the_depth_of_anything_else_is_no_problem(body: bytes) -> None:
    json_is_deeper_than(body, 1)


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 100_000, 400),
        (b'{"a":' * 100_000, 400),
        (b'{"model": "x", "metadata": ' + b"[" * 101 + b"]" * 101 + b"}", 400),
        (b"x" * (9 * 2**20), 413),
        (b"\x00\xff" * 1000, 400),
    ],
    ids=["brackets", "objects", "metadata", "large", "garbage"],
)
def test_a_bomb_is_refused_before_anybody_unpacks_it(server: LocalServer, path: str, body: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json"}
    response = httpx.post(f"{server.base_url}/{path}", content=body, headers=headers, timeout=60)
    assert response.status_code == status
    assert response.json()["error"]["message"]
    assert response.headers["x-request-id"].startswith("req-")


def test_a_body_of_unknown_size_is_counted_as_it_comes(server: LocalServer) -> None:
    pieces = (b"x" * 65536 for _ in range(150))
    response = httpx.post(f"{server.base_url}/completions", content=pieces, timeout=60)
    assert response.status_code == 413


@pytest.mark.parametrize("text", ["word " * 200_000, "a" * 1_000_000, "🎉" * 250_000, "\u2028\x00" * 250_000])
def test_a_megabyte_of_prompt_is_refused_with_its_length(server: LocalServer, text: str) -> None:
    body = GOOD | {"messages": [{"role": "user", "content": text}]}
    response = httpx.post(f"{server.base_url}/chat/completions", json=body, timeout=120)
    assert response.status_code == 400
    assert "Shorten the prompt" in response.json()["error"]["message"]


def test_ten_thousand_stop_strings_are_refused_by_name(server: LocalServer) -> None:
    body = GOOD | {"stop": [str(i) for i in range(10_000)]}
    response = httpx.post(f"{server.base_url}/chat/completions", json=body, timeout=60)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "stop"


@pytest.mark.parametrize(
    "head",
    [
        "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST /v1/chat/completions HTTP/1.1\r\nHost : x\r\nContent-Length: 2\r\n\r\n{}",
        "GET /v1/models HTTP/1.1\r\n\r\n",
        "GARBAGE\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=["both lengths", "two lengths", "xchunked", "space", "no host", "garbage", "tls"],
)
def test_a_malformed_head_gets_one_400_at_most(server: LocalServer, head: str) -> None:
    """Above all never two answers: the rest of one request must not be taken for another."""
    received = exchange(server, head.encode("latin-1"), wait=1)
    assert received.count(b"HTTP/1.1 ") <= 1
    assert b"HTTP/1.1 2" not in received
    assert still_answers(server)


@pytest.mark.parametrize(
    ("path", "field", "item"),
    [
        ("/v1/chat/completions", "messages", "5"),
        ("/v1/chat/completions", "stop", "5"),
        ("/v1/completions", "prompt", '"x"'),
        ("/v1/completions", "prompt", "[]"),
        ("/detokenize", "tokens", '"x"'),
        ("/tokenize", "messages", "5"),
    ],
)
def test_a_million_faults_are_told_as_one(server: LocalServer, path: str, field: str, item: str) -> None:
    """Each of them described, they took a minute and five gigabytes."""
    rest = json.dumps({key: value for key, value in GOOD.items() if key != field})[1:]
    body = f'{{"{field}": [{",".join([item] * 1_000_000)}], {rest}'
    url = server.base_url.removesuffix("/v1") + path
    response = httpx.post(url, content=body, headers={"Content-Type": "application/json"}, timeout=120)
    assert response.status_code == 400
    assert len(response.content) < 1000
    error = response.json()["error"]
    assert error["param"] == field


def test_half_a_body_and_then_nothing() -> None:
    with LocalServer(LLM(MODEL)) as server:
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        for _ in range(50):
            with socket.create_connection(address(server)) as connection:
                connection.sendall(head + b'{"model": "tiny')
        assert still_answers(server)


def test_a_body_that_never_ends_is_given_up() -> None:
    sent: list[Message] = []

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("it came in")

    async def receive() -> Message:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    door = Door(never, tenants=Tenants(), body_seconds=0.2)
    scope: Scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": []}
    asyncio.run(door(scope, receive, send))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_client_that_leaves_while_it_waits_for_its_turn_is_forgotten() -> None:
    sampler = WatchedSampler()
    sampler.gate.clear()
    llm = LLM(MODEL, sampler=sampler, max_num_seqs=1)
    with LocalServer(llm) as server:
        body = json.dumps(GOOD | {"stream": True}).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connections = [socket.create_connection(address(server)) for _ in range(8)]
        for connection in connections:
            connection.sendall(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(0.3)
        for connection in connections:
            connection.close()
        time.sleep(0.3)
        sampler.gate.set()
        assert wait_until(lambda: not llm.engine.has_unfinished)
        assert llm.engine.metrics.snapshot().num_finished["abort"] == 8
        stats = llm.engine.kv.usage()
        assert stats.referenced == 0
        assert still_answers(server)


def test_a_reader_that_does_not_read_holds_nobody_up() -> None:
    llm = LLM(MODEL)
    with LocalServer(llm) as server:
        request = GOOD | {"stream": True, "max_tokens": 1500, "logprobs": True, "top_logprobs": 20, "ignore_eos": True}
        body = json.dumps(request).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        with socket.create_connection(address(server)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
            assert wait_until(lambda: llm.engine.has_unfinished)
            assert still_answers(server)
            assert wait_until(lambda: not llm.engine.has_unfinished)  # the engine is done with it all the same
