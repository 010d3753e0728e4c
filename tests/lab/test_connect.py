"""The lessons' endpoint: the engine in this process, or the one that the environment names."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from minillm import LLM
from minillm.errors import MinillmError
from minillm.lab import Endpoint
from minillm.server import LocalServer

VARIABLES = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "MINILLM_MODEL", "MINILLM_EMBEDDING_MODEL")
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def llm() -> LLM:
    return LLM("tiny-random")


def test_the_default_is_the_engine_in_this_process(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # nobody listens there
    endpoint = Endpoint(llm)
    try:
        request = {"model": endpoint.model, "messages": HELLO, "max_tokens": 4, "temperature": 0}
        reply = endpoint.client.chat.completions.create(**request)

        async def ask() -> Any:
            async with endpoint.async_client as client:
                return await client.chat.completions.create(**request)

        async_reply = asyncio.run(ask())
    finally:
        endpoint.stop()
    assert endpoint.is_local
    assert reply.usage.completion_tokens > 0
    assert reply.choices[0].message.content == async_reply.choices[0].message.content


def test_the_environment_names_another_endpoint(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    with LocalServer(llm) as other:
        monkeypatch.setenv("OPENAI_BASE_URL", other.base_url)
        monkeypatch.setenv("MINILLM_MODEL", "tiny-random")
        endpoint = Endpoint(LLM("tiny-random"))
        assert not endpoint.is_local
        assert endpoint.base_url == other.base_url
        assert endpoint.client.chat.completions.create(model=endpoint.model, messages=HELLO, max_tokens=2).choices
        endpoint.stop()


def test_an_endpoint_without_a_model_is_refused(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(MinillmError, match="MINILLM_MODEL"):
        Endpoint(llm)


def test_embeddings_come_from_the_same_endpoint_where_they_are_asked_for(llm: LLM) -> None:
    endpoint = Endpoint(llm, embeddings=True)
    try:
        reply = endpoint.client.embeddings.create(model=endpoint.embedding_model, input=["a", "b"])  # type: ignore[arg-type]
        assert [len(item.embedding) for item in reply.data] == [384, 384]
        assert endpoint.client.chat.completions.create(model=endpoint.model, messages=HELLO, max_tokens=2).choices
    finally:
        endpoint.stop()


def test_without_being_asked_for_embeddings_no_encoder_is_loaded(llm: LLM) -> None:
    endpoint = Endpoint(llm)
    served = [model.id for model in endpoint.client.models.list()]
    endpoint.stop()
    assert endpoint.embedding_model is None
    assert served == [llm.model_name]


def test_another_endpoint_needs_a_name_for_embeddings_too(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("MINILLM_MODEL", "chat")
    with pytest.raises(MinillmError, match="MINILLM_EMBEDDING_MODEL"):
        Endpoint(llm, embeddings=True)
    monkeypatch.setenv("MINILLM_EMBEDDING_MODEL", "vectors")
    endpoint = Endpoint(llm, embeddings=True)
    endpoint.stop()
    assert (endpoint.model, endpoint.embedding_model) == ("chat", "vectors")
