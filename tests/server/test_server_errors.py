"""Requests that can't be served: a 4xx with a body in OpenAI's form that says what to change."""

from __future__ import annotations

import json
import socket
from typing import Any

import httpx
import openai
import pytest
from serving import MODEL, WatchedSampler, connect

from minillm.engine import LLM
from minillm.errors import MinillmError
from minillm.server import LocalServer

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
GOOD: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 2}


def post(server: LocalServer, content: bytes | str, content_type: str = "application/json") -> httpx.Response:
    url = f"{server.base_url}/chat/completions"
    return httpx.post(url, content=content, headers={"Content-Type": content_type}, timeout=60)


def error_of(response: httpx.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    return dict(body["error"])


WRONG: list[tuple[str, Any, str]] = [
    ("temperature", "hot", "temperature"),
    ("temperature", -1, "temperature"),
    ("temperature", [0.5], "temperature"),
    ("top_p", 0, "top_p"),
    ("top_p", 1.5, "top_p"),
    ("top_k", 2.5, "top_k"),
    ("min_p", 2, "min_p"),
    ("max_tokens", 0, "max_tokens"),
    ("max_tokens", "many", "max_tokens"),
    ("max_completion_tokens", 0, "max_completion_tokens"),
    ("presence_penalty", 3, "presence_penalty"),
    ("repetition_penalty", 0, "repetition_penalty"),
    ("logit_bias", {"5": 200}, "logit_bias"),
    ("logit_bias", {"99999999": 1}, "logit_bias"),
    ("logit_bias", {"x": 1}, "logit_bias"),
    ("seed", "lucky", "seed"),
    ("stop", 5, "stop"),
    ("stop", [""], "stop"),
    ("stop", ["a", 5], "stop"),
    ("stream", "perhaps", "stream"),
    ("top_logprobs", 3, "top_logprobs"),
    ("messages", [], "messages"),
    ("messages", None, "messages"),
    ("messages", "Hello", "messages"),
    ("messages", ["Hello"], "messages"),
    ("messages", [{"content": "x"}], "messages"),
    ("messages", [{"role": "wizard", "content": "x"}], "messages"),
    ("messages", [{"role": ["user"], "content": "x"}], "messages"),
    ("messages", [{"role": "user", "content": 5}], "messages"),
    ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], "messages"),
    ("messages", [{"role": "user", "content": [{"type": "text"}]}], "messages"),
    ("messages", [{"role": "user", "content": "\ud83d"}], "messages"),
    ("model", 5, "model"),
    ("model", None, "model"),
]


@pytest.mark.parametrize(("field", "value", "param"), WRONG, ids=lambda value: str(value)[:40])
def test_a_wrong_value_is_a_400_that_names_the_field(server: LocalServer, field: str, value: Any, param: str) -> None:
    response = post(server, json.dumps(GOOD | {field: value}))
    error = error_of(response)
    assert response.status_code == 400
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_missing_field_is_named(server: LocalServer, field: str) -> None:
    response = post(server, json.dumps({key: value for key, value in GOOD.items() if key != field}))
    assert response.status_code == 400
    assert error_of(response)["param"] == field


@pytest.mark.parametrize(
    "body", ["{", "", "null", "[]", "5", '"text"', '{"model": NaN', b"\xff\xfe", '{"model": "tiny-random", }']
)
def test_what_is_not_a_json_object_is_a_400(server: LocalServer, body: bytes | str) -> None:
    response = post(server, body)
    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"


def test_broken_json_is_called_that(server: LocalServer) -> None:
    error = error_of(post(server, '{"model": '))
    assert "not valid JSON" in error["message"]
    assert error["param"] is None


def test_numbers_that_json_does_not_have_are_refused(server: LocalServer) -> None:
    response = post(server, json.dumps(GOOD | {"temperature": float("nan")}))
    assert response.status_code == 400
    assert error_of(response)["param"] == "temperature"


def test_a_prompt_too_long_says_how_long(server: LocalServer, tiny: LLM) -> None:
    long = GOOD | {"messages": [{"role": "user", "content": "cat " * 3000}]}
    response = post(server, json.dumps(long))
    assert response.status_code == 400
    assert f"takes {tiny.max_model_len}" in error_of(response)["message"]
    streamed = post(server, json.dumps(long | {"stream": True}))
    assert streamed.status_code == 400
    assert error_of(streamed) == error_of(response)


def test_an_unknown_model(server: LocalServer) -> None:
    with connect(server) as client, pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    body: Any = caught.value.body
    assert (body["code"], body["param"]) == ("model_not_found", "model")
    assert MODEL in body["message"]
    with connect(server) as client, pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-9")


def test_a_door_that_is_not_there(server: LocalServer) -> None:
    with connect(server) as client, pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model=MODEL, input="x")
    assert "/v1/embeddings" in str(caught.value)
    assert "/v1/chat/completions" in str(caught.value)
    response = httpx.get(f"{server.base_url}/chat/completions")
    assert response.status_code == 405
    assert "Method Not Allowed" in error_of(response)["message"]


def test_the_server_goes_on_after_all_that(server: LocalServer) -> None:
    with connect(server) as client:
        assert client.chat.completions.create(**GOOD).choices


# -- failures inside --------------------------------------------------------------------------------------------


def test_a_failure_before_the_first_token_is_a_500_and_ends_nothing_else() -> None:
    with LocalServer(LLM(MODEL, sampler=WatchedSampler(fails_at=1))) as server, connect(server) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(**GOOD)
        assert "sampler broke" not in str(caught.value)  # what's inside stays inside; the log has it
        assert client.chat.completions.create(**GOOD).choices


def test_a_failure_mid_stream_is_an_event() -> None:
    with LocalServer(LLM(MODEL, sampler=WatchedSampler(fails_at=3))) as server, connect(server) as client:
        stream = client.chat.completions.create(**GOOD | {"max_tokens": 9}, stream=True, logprobs=True)
        got: list[Any] = []
        with pytest.raises(openai.APIError, match="The engine failed"):
            got.extend(stream)
        assert sum(bool(chunk.choices[0].logprobs) for chunk in got) == 2
        assert client.chat.completions.create(**GOOD).choices


def test_a_models_own_error_tells_the_client_why() -> None:
    """Weights that give nan: the message is for the user, so it travels."""
    tiny = LLM(MODEL)
    tiny.model.embed_tokens.weight.data.fill_(float("nan"))
    with (
        LocalServer(tiny) as server,
        connect(server) as client,
        pytest.raises(openai.InternalServerError, match="weights are broken"),
    ):
        client.chat.completions.create(**GOOD)


# -- ports ------------------------------------------------------------------------------------------------------


def test_a_taken_port_is_said_so(server: LocalServer, tiny: LLM) -> None:
    port = int(server.base_url.removesuffix("/v1").rpartition(":")[2])
    with pytest.raises(MinillmError, match=f"Port {port} can't be used"):
        LocalServer(tiny, port=port)


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
def test_a_number_that_is_no_port(tiny: LLM, port: int) -> None:
    with pytest.raises(MinillmError, match=f"Port {port} can't be used"):
        LocalServer(tiny, port=port)


def test_it_listens_on_this_machine_only(server: LocalServer) -> None:
    assert server.base_url.startswith("http://127.0.0.1:")
    port = int(server.base_url.removesuffix("/v1").rpartition(":")[2])
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))  # would be refused if the server held all addresses
