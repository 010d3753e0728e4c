"""Adapters behind the API: what is listed, what a request chooses by its model's name, and what is told of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from random_adapters import random_adapter
from serving import MODEL, connect

from minillm import SamplingParams
from minillm.engine import LLM
from minillm.lab.connect import Endpoint
from minillm.models.adapter_files import save_adapter
from minillm.server import LocalServer

NAMES = ("one", "other")
MODELS = [MODEL, f"{MODEL}+one", f"{MODEL}+other"]
TALK: list[Any] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def llm(tiny: LLM) -> LLM:
    adapters = {name: random_adapter(tiny.model.config, seed=seed) for seed, name in enumerate(NAMES)}
    return LLM(MODEL, device="cpu", adapters=adapters)


@pytest.fixture(scope="module")
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture(scope="module")
def server(llm: LLM, spans: InMemorySpanExporter) -> Iterator[LocalServer]:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with LocalServer(llm, tracer_provider=provider) as running:
        yield running
    provider.shutdown()


@pytest.fixture(scope="module")
def client(server: LocalServer) -> Iterator[openai.OpenAI]:
    with connect(server) as strict:
        yield strict


@pytest.fixture(scope="module")
def expected(llm: LLM) -> dict[str, str]:
    """What each model says."""
    params = SamplingParams(temperature=0, max_tokens=12)
    texts = {
        model: llm.chat(TALK, params, adapter=name).text for model, name in zip(MODELS, (None, *NAMES), strict=True)
    }
    assert len(set(texts.values())) == 3
    return texts


def test_models_are_listed_with_their_parents(client: openai.OpenAI) -> None:
    cards = client.models.list().data
    assert [card.id for card in cards] == MODELS
    assert [card.model_dump()["parent"] for card in cards] == [None, MODEL, MODEL]
    card = client.models.retrieve(MODELS[1])
    assert (card.id, card.model_dump()["parent"]) == (MODELS[1], MODEL)


@pytest.mark.parametrize("model", MODELS)
def test_the_name_chooses_in_every_endpoint(
    client: openai.OpenAI, llm: LLM, expected: dict[str, str], model: str
) -> None:
    answer = client.chat.completions.create(model=model, messages=TALK, temperature=0, max_tokens=12)
    assert (answer.model, answer.choices[0].message.content) == (model, expected[model])
    adapter = model.partition("+")[2] or None
    assert answer.system_fingerprint == llm.engine.fingerprint_with(adapter)
    with client.chat.completions.create(
        model=model, messages=TALK, temperature=0, max_tokens=12, stream=True
    ) as stream:
        chunks = list(stream)
    assert {chunk.model for chunk in chunks} == {model}
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == expected[model]
    response = client.responses.create(model=model, input="Hello", temperature=0, max_output_tokens=12)
    assert (response.model, response.output_text) == (model, expected[model])
    text = llm.generate("Hello", SamplingParams(temperature=0, max_tokens=12), adapter=adapter).text
    completion = client.completions.create(model=model, prompt="Hello", temperature=0, max_tokens=12)
    assert (completion.model, completion.choices[0].text) == (model, text)
    assert completion.system_fingerprint == answer.system_fingerprint


def test_an_answer_may_go_on_with_another_model(client: openai.OpenAI) -> None:
    first = client.responses.create(model=MODELS[1], input="Hello", temperature=0, max_output_tokens=12)
    second = client.responses.create(
        model=MODELS[2], input="Go on", previous_response_id=first.id, temperature=0, max_output_tokens=12
    )
    assert (first.model, second.model) == (MODELS[1], MODELS[2])


def test_tokens_are_the_same_for_all_of_them(server: LocalServer) -> None:
    root = server.base_url.removesuffix("/v1")
    counts = {
        httpx.post(f"{root}/tokenize", json={"model": model, "prompt": "Hello"}).json()["count"] for model in MODELS
    }
    assert len(counts) == 1


@pytest.mark.parametrize("model", ["one", "+one", f"{MODEL}+", f"{MODEL}+absent", f"{MODEL}+one+other"])
def test_an_unknown_one_is_a_404_that_lists_what_is_there(client: openai.OpenAI, model: str) -> None:
    calls = [
        lambda: client.chat.completions.create(model=model, messages=TALK),
        lambda: client.completions.create(model=model, prompt="Hello"),
        lambda: client.responses.create(model=model, input="Hello"),
        lambda: client.models.retrieve(model),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError) as caught:
            call()
        assert caught.value.code == "model_not_found"
        for known in MODELS:
            assert known in str(caught.value)


def test_spans_metrics_and_the_live_view_name_it(
    client: openai.OpenAI, server: LocalServer, spans: InMemorySpanExporter
) -> None:
    root = server.base_url.removesuffix("/v1")
    with (
        httpx.stream("GET", f"{root}/v1/engine/steps") as watched,
        client.chat.completions.create(
            model=MODELS[2], messages=TALK, max_tokens=1500, stream=True, extra_body={"ignore_eos": True}
        ) as answer,
    ):
        next(iter(answer))
        for line in watched.iter_lines():
            requests = json.loads(line.removeprefix("data: "))["requests"] if line else []
            if requests:
                break
    assert [request["adapter"] for request in requests] == ["other"]
    spans.clear()
    client.chat.completions.create(model=MODELS[1], messages=TALK, max_tokens=5)
    span = next(span for span in spans.get_finished_spans() if span.name == f"chat {MODELS[1]}")
    attributes = dict(span.attributes or {})
    assert attributes["gen_ai.request.model"] == attributes["gen_ai.response.model"] == MODELS[1]
    metrics = httpx.get(f"{root}/metrics").text
    assert 'minillm_lora_requests_total{lora_name="one"}' in metrics
    assert 'minillm_lora_generation_tokens_total{lora_name="one"}' in metrics


def test_a_notebook_asks_for_an_adapter_by_its_model(llm: LLM, expected: dict[str, str]) -> None:
    endpoint = Endpoint(llm)
    try:
        for model in (endpoint.model, f"{endpoint.model}+one"):
            answer = endpoint.client.chat.completions.create(model=model, messages=TALK, temperature=0, max_tokens=12)
            assert answer.choices[0].message.content == expected[model]
    finally:
        endpoint.stop()


def test_a_merged_adapter_is_a_model_like_any_other(tiny: LLM, tmp_path: Path) -> None:
    save_adapter(tmp_path, random_adapter(tiny.model.config))
    name = f"{MODEL}+{tmp_path}"
    with LocalServer(LLM(name, device="cpu")) as server, connect(server) as client:
        assert [(card.id, card.model_dump()["parent"]) for card in client.models.list().data] == [(name, None)]
        assert client.chat.completions.create(model=name, messages=TALK, max_tokens=3).model == name
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model=MODEL, messages=TALK)
