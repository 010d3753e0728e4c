"""/v1/embeddings as OpenAI's client sees it, and as others send it."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from fastapi.testclient import TestClient

from minillm import LLM, EmbeddingModel
from minillm.engine.embedding import Vectors
from minillm.server import create_app
from minillm.server.embeddings import MAX_INPUTS
from minillm.server.tenants import Tenants

MODEL = "all-minilm-l6-v2"
TEXTS = ["A cat sleeps.", "Zürich 東京 🙂", "Interest rates rose. " * 20]


@pytest.fixture(scope="module")
def minilm() -> EmbeddingModel:
    return EmbeddingModel(MODEL, device="cpu", max_batch_tokens=128)  # so that a request takes several batches


@pytest.fixture(scope="module")
def http(tiny: LLM, minilm: EmbeddingModel) -> Iterator[TestClient]:
    with TestClient(create_app(tiny, embedding_model=minilm), raise_server_exceptions=False) as running:
        yield running


@pytest.fixture(scope="module")
def client(http: TestClient) -> openai.OpenAI:
    return openai.OpenAI(base_url="http://testserver/v1", api_key="x", max_retries=0, http_client=http)


def post(http: TestClient, body: dict[str, Any]) -> httpx.Response:
    return http.post("/v1/embeddings", json={"model": MODEL} | body)


def test_the_clients_base64_and_plain_numbers_are_the_models_vectors(
    client: openai.OpenAI, minilm: EmbeddingModel
) -> None:
    own = minilm.embed(TEXTS)
    for options in ({}, {"encoding_format": "float"}):
        answer = client.embeddings.create(model=MODEL, input=TEXTS, **options)  # type: ignore[arg-type]
        assert [item.index for item in answer.data] == [0, 1, 2]
        assert (answer.object, answer.data[0].object, answer.model) == ("list", "embedding", MODEL)
        np.testing.assert_array_equal(np.array([item.embedding for item in answer.data], np.float32), own)
        num_tokens = sum(map(len, minilm.encode(TEXTS)))
        assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (num_tokens, num_tokens)


def test_the_answer_keeps_the_apis_types(http: TestClient) -> None:
    strict = openai.OpenAI(
        base_url="http://testserver/v1", api_key="x", http_client=http, _strict_response_validation=True
    )
    assert len(strict.embeddings.create(model=MODEL, input=TEXTS, encoding_format="float").data) == 3


def test_base64_is_little_endian_float32(http: TestClient, minilm: EmbeddingModel) -> None:
    answer = post(http, {"input": TEXTS[0], "encoding_format": "base64"}).json()
    raw = base64.b64decode(answer["data"][0]["embedding"], validate=True)
    np.testing.assert_array_equal(np.frombuffer(raw, "<f4"), minilm.embed(TEXTS[0])[0])


def test_one_text_and_token_ids_are_taken_too(http: TestClient, minilm: EmbeddingModel) -> None:
    ids = minilm.encode(TEXTS[0])[0]
    for one in (TEXTS[0], [TEXTS[0]], ids, [ids]):
        (item,) = post(http, {"input": one}).json()["data"]
        np.testing.assert_array_equal(np.array(item["embedding"], np.float32), minilm.embed(TEXTS[0])[0])
    assert len(post(http, {"input": [ids, TEXTS[1], [101, 102]]}).json()["data"]) == 3


def test_dimensions(client: openai.OpenAI, minilm: EmbeddingModel) -> None:
    answer = client.embeddings.create(model=MODEL, input=TEXTS, dimensions=32)
    got = np.array([item.embedding for item in answer.data], np.float32)
    np.testing.assert_array_equal(got, minilm.embed(TEXTS, 32))


def test_a_long_text_is_refused_or_cut_as_asked(http: TestClient, minilm: EmbeddingModel) -> None:
    refusal = post(http, {"input": ["fine", "word " * 300]})
    assert refusal.status_code == 400
    assert "Text 1 has 302 tokens" in refusal.json()["error"]["message"]
    cut = post(http, {"input": ["fine", "word " * 300], "truncate": True}).json()
    assert cut["usage"]["prompt_tokens"] == 3 + 256
    assert len(cut["data"]) == 2


def test_fields_that_change_nothing_are_accepted(http: TestClient) -> None:
    body = {"input": "a", "user": "me", "encoding_format": None, "dimensions": None, "something": [1]}
    assert post(http, body).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": 5}, "input"),
        ({"input": {"text": "a"}}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": ["a", None]}, "input"),
        ({"input": [True]}, "input"),
        ({"input": [1, "a"]}, "input"),
        ({"input": [1.5]}, "input"),
        ({"input": [30522]}, "input"),
        ({"input": [10**30]}, "input"),
        ({"input": [-1]}, "input"),
        ({"input": ["a"] * (MAX_INPUTS + 1)}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 385}, "dimensions"),
        ({"input": "a", "dimensions": "x"}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "truncate": "maybe"}, "truncate"),
        ({"input": "a", "model": None}, "model"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_is_wrong_is_a_400_that_names_the_field(http: TestClient, body: dict[str, Any], param: str) -> None:
    answer = post(http, body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)


def test_half_a_character_is_a_400(http: TestClient) -> None:
    body = f'{{"model": "{MODEL}", "input": "a\\ud800"}}'
    answer = http.post("/v1/embeddings", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert "surrogate" in answer.json()["error"]["message"]


def test_another_model_is_a_404(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as refusal:
        client.embeddings.create(model="text-embedding-3-small", input="a")
    assert refusal.value.code == "model_not_found"
    assert MODEL in refusal.value.message


def test_tokens_count_against_the_tenants_limit(tiny: LLM, minilm: EmbeddingModel, tmp_path: Any) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text('[ann]\nkeys = ["a-key-of-some-length"]\ntokens_per_minute = 10\n')
    with TestClient(create_app(tiny, tenants=Tenants.load(keys), embedding_model=minilm)) as http:
        body, headers = {"model": MODEL, "input": "word " * 20}, {"Authorization": "Bearer a-key-of-some-length"}
        assert http.post("/v1/embeddings", json=body).status_code == 401
        assert http.post("/v1/embeddings", json=body, headers=headers).status_code == 200
        assert http.post("/v1/embeddings", json=body, headers=headers).status_code == 429


class CountingModel(EmbeddingModel):
    """Counts its batches."""

    num_batches = 0

    def embed_batch(self, token_ids: Sequence[Sequence[int]]) -> Vectors:
        self.num_batches += 1
        return super().embed_batch(token_ids)


def test_a_client_that_leaves_ends_its_request_between_two_batches(tiny: LLM) -> None:
    model = CountingModel(MODEL, device="cpu", max_batch_tokens=16)
    body = json.dumps({"model": MODEL, "input": ["a cat sleeps"] * 30}).encode()
    statuses = []

    async def receive() -> dict[str, Any]:
        """The body, then the client's leaving, once the first batch is done."""
        if body_sent:
            return {"type": "http.disconnect"} if model.num_batches else await asyncio.Event().wait()  # type: ignore
        body_sent.append(True)
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    body_sent: list[bool] = []
    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/embeddings", "headers": headers, "query_string": b""}
    asyncio.run(create_app(tiny, embedding_model=model)(scope, receive, send))
    assert (model.num_batches, statuses[0]) == (1, 499)
