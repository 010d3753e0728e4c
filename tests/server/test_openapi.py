"""The server and its own OpenAPI document: whatever the document says is so, for every endpoint that is in it.

schemathesis draws requests from the document: right ones, and some that are wrong in one place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving import MODEL, connect

from minillm import EmbeddingModel
from minillm.engine import LLM
from minillm.server import LocalServer

EMBEDDER = "all-minilm-l6-v2"
ANSWERED = (
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/models",
    "/tokenize", "/detokenize",
)  # fmt: skip
"""Where some of the drawn requests must be good: tests that only see refusals prove little."""
CHECKED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
]
drawn = settings(
    max_examples=25, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    # So small a context that no drawn max_tokens takes long.
    llm = LLM(MODEL, device="cpu", max_model_len=96, num_blocks=1024, max_num_waiting=256)
    with LocalServer(llm, embedding_model=EmbeddingModel(EMBEDDER, device="cpu")) as running:
        yield running


@pytest.fixture(scope="module")
def root(server: LocalServer) -> str:
    return server.base_url.removesuffix("/v1")


@pytest.fixture(scope="module")
def api(root: str) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{root}/openapi.json")


@pytest.fixture(scope="module")
def document(root: str) -> dict[str, Any]:
    return dict(httpx.get(f"{root}/openapi.json").json())


def call(case: Case) -> int:
    """Sends a request and checks the answer. Names of models aren't drawn: nobody would ever guess one."""
    if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
        case.body["model"] = EMBEDDER if "embeddings" in case.path else MODEL
    return case.call_and_validate(checks=CHECKED).status_code


def test_right_requests_are_answered_as_documented(api: schemathesis.BaseSchema) -> None:
    seen: Counter[tuple[str, int]] = Counter()
    for result in api.get_all_operations():
        operation = result.ok()

        @given(operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
        @drawn
        def check(case: Case) -> None:
            seen[case.path, call(case)] += 1

        check()
        if operation.path == "/v1/chat/completions":
            # It has so many fields that one drawn request in 25 is good, or none: what the process has drawn before
            # seems to decide. So this one comes in any case.
            body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello?"}], "max_tokens": 4}
            seen[operation.path, call(operation.Case(body=body, media_type="application/json"))] += 1
    assert [path for path in ANSWERED if not seen[path, 200]] == []


def test_wrong_requests_are_refused_as_documented(api: schemathesis.BaseSchema) -> None:
    for result in api.get_all_operations():
        operation = result.ok()
        if not operation.body:
            continue  # nothing can be wrong

        @given(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
        @drawn
        def check(case: Case) -> None:
            assert 400 <= call(case) < 500

        check()


def test_the_server_goes_on_after_all_that(server: LocalServer) -> None:
    with connect(server) as client:
        assert client.completions.create(model=MODEL, prompt="x", max_tokens=1).choices


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_its_schemas_are_schemas_and_its_references_lead_somewhere(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)

    def check(part: Any) -> None:
        if isinstance(part, dict):
            if isinstance(reference := part.get("$ref"), str):
                assert reference.removeprefix("#/components/schemas/") in schemas
            for value in part.values():
                check(value)
        elif isinstance(part, list):
            for value in part:
                check(value)

    check(document["paths"])


def test_every_endpoint_says_what_it_does_and_what_comes_back(document: dict[str, Any]) -> None:
    for name, operation in operations(document):
        assert operation["description"], name
        content = operation["responses"]["200"]["content"]
        assert all(each["schema"] for each in content.values()), name
        assert "422" not in operation["responses"], name
        for status in ("401", "429", "500", "503"):
            schema = operation["responses"][status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorBody"}, name


def test_every_field_of_every_request_is_described(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, operation in operations(document):
        if body := operation.get("requestBody"):
            schema = schemas[body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]]
            bare = [field for field, about in schema["properties"].items() if not about.get("description")]
            assert not bare, f"{name}: {bare}; a docstring below the field is its description"
            if "stream" in schema["properties"]:
                assert "text/event-stream" in operation["responses"]["200"]["content"], name


def test_other_methods_and_paths_are_refused_in_openais_form(root: str, document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        response = httpx.request("DELETE", root + path.replace("{model}", MODEL))
        assert "delete" in methods or response.status_code == 405
        if response.status_code == 405:
            assert set(response.headers["allow"].lower().split(", ")) == set(methods)
            assert response.json()["error"]["type"] == "invalid_request_error"
    response = httpx.get(f"{root}/v1/nothing")
    assert response.status_code == 404
    assert "/v1/chat/completions" in response.json()["error"]["message"]
