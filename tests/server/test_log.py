"""The server's log: a line for each request, whatever became of it; no secrets, and nothing that a client forged."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from serving import MODEL, WatchedSampler, connect, exchange, wait_until

from minillm.engine import LLM
from minillm.server import LocalServer
from minillm.server.serve import set_up_logging
from minillm.server.tenants import Tenant, Tenants

ACCESS = "minillm.server.access"
BODY: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "my secret"}],
    "max_tokens": 3,
    "seed": 1,
}


class Log:
    """What is logged while a test runs."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [record.fields for record in self.caplog.records if record.name == ACCESS]  # type: ignore[attr-defined]

    def of(self, response: httpx.Response) -> dict[str, Any]:
        name = response.headers["x-request-id"]
        assert wait_until(lambda: any(each["request_id"] == name for each in self.requests))
        return next(each for each in self.requests if each["request_id"] == name)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Log:
    caplog.set_level(logging.DEBUG)
    return Log(caplog)


@pytest.fixture(scope="module")
def guarded() -> Iterator[LocalServer]:
    tenants = Tenants({"sk-ann": Tenant("ann"), "sk-bob": Tenant("bob", tokens_per_minute=1)})
    with LocalServer(LLM(MODEL, device="cpu"), tenants=tenants) as server:
        yield server


def post(
    server: LocalServer, key: str = "sk-ann", headers: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"} | (headers or {})
    return httpx.post(f"{server.base_url}/chat/completions", json=BODY | more, headers=headers, timeout=60)


def test_an_answer_is_a_line_with_its_tenant_tokens_and_time(guarded: LocalServer, log: Log) -> None:
    response = post(guarded, ignore_eos=True)
    usage, entry = response.json()["usage"], log.of(response)
    assert entry.pop("seconds") > 0
    assert entry == {
        "request_id": response.headers["x-request-id"],
        "client_request_id": None,
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "error": None,
        "tenant": "ann",
        "prompt_tokens": usage["prompt_tokens"],
        "cached_tokens": usage["prompt_tokens_details"]["cached_tokens"],
        "completion_tokens": 3,
    }


def test_what_failed_says_how(guarded: LocalServer, log: Log) -> None:
    expected = {
        "invalid_request_error (temperature)": post(guarded, temperature=-1),
        "model_not_found (model)": post(guarded, model="gpt-9"),
        "invalid_api_key": post(guarded, key="sk-eve"),
    }
    post(guarded, key="sk-bob")
    expected["rate_limit_exceeded"] = post(guarded, key="sk-bob")
    for error, response in expected.items():
        entry = log.of(response)
        assert (entry["status"], entry["error"]) == (response.status_code, error)


def test_failures_inside_and_mid_stream_are_told_apart_from_success(log: Log) -> None:
    sampler = WatchedSampler(fails_at=1)
    with LocalServer(LLM(MODEL, sampler=sampler)) as server:
        response = post(server)
        assert (response.status_code, log.of(response)["error"]) == (500, "server_error")
        sampler.fails_at = sampler.num_calls + 2
        streamed = post(server, stream=True, ignore_eos=True)
        entry = log.of(streamed)
    assert (entry["status"], entry["error"], entry["completion_tokens"]) == (200, "server_error", 1)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_left_is_a_499(log: Log, stream: bool) -> None:
    sampler = WatchedSampler(delay=0.002)
    with LocalServer(LLM(MODEL, sampler=sampler)) as server, connect(server) as client:
        request: Any = BODY | {"max_tokens": 1500, "extra_body": {"ignore_eos": True}}
        if stream:
            answer = client.chat.completions.create(**request, stream=True)
            next(iter(answer))
            answer.close()
        else:
            with pytest.raises(Exception, match="timed out"):
                client.chat.completions.create(**request, timeout=0.3)
        assert wait_until(lambda: len(log.requests) == 1)
    assert (log.requests[0]["status"], log.requests[0]["error"]) == (499, "client_gone")


def test_shed_load_and_a_stopping_server_are_told(log: Log) -> None:
    sampler = WatchedSampler()
    sampler.gate.clear()
    with LocalServer(LLM(MODEL, sampler=sampler, max_num_seqs=1, max_num_waiting=1)) as server:
        body = {"model": MODEL, "prompt": ["a", "b", "c", "d"], "max_tokens": 1}
        response = httpx.post(f"{server.base_url}/completions", json=body, timeout=60)
        sampler.gate.set()
        assert (log.of(response)["status"], log.of(response)["error"]) == (429, "engine_overloaded")


def test_neither_keys_nor_prompts_are_in_it(guarded: LocalServer, log: Log) -> None:
    post(guarded)
    post(guarded, key="sk-wrong-key")
    post(guarded, temperature="my secret")
    post(guarded, stop=["my secret"] * 100)
    exchange(guarded, b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk-ann\r\nmy secret\r\n\r\n")
    text = "\n".join(record.getMessage() + str(record.__dict__) for record in log.caplog.records)
    for secret in ("sk-ann", "sk-wrong", "my secret"):
        assert secret not in text


def test_a_clients_own_id_is_noted_if_it_is_one(guarded: LocalServer, log: Log) -> None:
    named = post(guarded, headers={"X-Client-Request-Id": "trace-1"})
    assert log.of(named)["client_request_id"] == "trace-1"
    for value in ("a b", "x" * 200, ""):
        assert log.of(post(guarded, headers={"X-Client-Request-Id": value}))["client_request_id"] is None


# -- how it's written -------------------------------------------------------------------------------------------

FORGED = "/v1/x\n12:00:00 POST /v1/completions 200\u2028\x1b[31m\u202e"


@pytest.fixture
def restored() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("minillm", "uvicorn.error")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def write(as_json: bool, capsys: pytest.CaptureFixture[str]) -> list[str]:
    set_up_logging(as_json=as_json)
    logger = logging.getLogger("minillm.server")
    try:
        raise ValueError(FORGED)
    except ValueError:
        logger.exception("A request for %s failed", FORGED, extra={"fields": {"path": FORGED}})
    sys.stderr.flush()
    return capsys.readouterr().err.split("\n")[:-1]


@pytest.mark.usefixtures("restored")
def test_lines_for_people_hold_one_record_each(capsys: pytest.CaptureFixture[str]) -> None:
    first, *traceback = write(False, capsys)
    assert first.endswith(r"A request for /v1/x\n12:00:00 POST /v1/completions 200\u2028\x1b[31m\u202e failed")
    assert traceback
    assert all(line.startswith("    ") and line.isprintable() for line in traceback)


@pytest.mark.usefixtures("restored")
def test_lines_for_machines_hold_one_object_each(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = write(True, capsys)
    entry = json.loads(line)
    assert line.isascii()
    assert (entry["level"], entry["path"]) == ("error", FORGED)
    assert "ValueError" in entry["exception"]


def test_a_forged_path_stays_on_its_line(guarded: LocalServer, log: Log) -> None:
    httpx.get(f"{guarded.base_url}/x%0a12:00:00%20GET%20/v1/models%20200", headers={"Authorization": "Bearer sk-ann"})
    assert wait_until(lambda: bool(log.requests))
    assert log.requests[-1]["path"] == "/v1/x%0A12%3A00%3A00%20GET%20/v1/models%20200"
    assert "\n" not in log.caplog.records[-1].getMessage()
