"""OpenTelemetry: what the spans say, what they keep to themselves, and that they arrive at a collector."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import openai
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from serving import MODEL, WatchedSampler, connect, wait_until
from test_serve_command import client_of, serving

from minillm.engine import LLM
from minillm.errors import MinillmError
from minillm.server import LocalServer
from minillm.server.telemetry import tracer_provider_from_environment
from minillm.server.tenants import Tenant, Tenants

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
BODY: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "my secret"}],
    "max_tokens": 4,
    "seed": 1,
}


class Spans:
    """The finished spans of a provider."""

    def __init__(self) -> None:
        self.exporter, self.provider = InMemorySpanExporter(), TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def wait_for(self, name: str) -> ReadableSpan:
        assert wait_until(lambda: bool(self.named(name))), [span.name for span in self.exporter.get_finished_spans()]
        return self.named(name)[-1]


@pytest.fixture
def spans() -> Iterator[Spans]:
    made = Spans()
    yield made
    made.provider.shutdown()


@pytest.mark.parametrize("stream", [False, True])
def test_a_generation_is_a_span_with_the_conventions_names(spans: Spans, tiny: LLM, stream: bool) -> None:
    tenants = Tenants({"sk-ann": Tenant("ann")})
    with LocalServer(tiny, tenants=tenants, tracer_provider=spans.provider) as server:
        headers = {"Authorization": "Bearer sk-ann"} | PARENT
        options = {"ignore_eos": True, "n": 2, "temperature": 0.5, "stream": stream}
        response = httpx.post(f"{server.base_url}/chat/completions", json=BODY | options, headers=headers, timeout=60)
        assert response.status_code == 200
        http = spans.wait_for("POST /v1/chat/completions")
    span = spans.wait_for(f"chat {MODEL}")
    about = dict(span.attributes or {})
    seconds = about.pop("gen_ai.response.time_to_first_chunk")
    assert isinstance(seconds, float)
    assert seconds > 0
    assert about.pop("gen_ai.usage.cache_read.input_tokens") in (0, 16)  # the fixture's model may know the prompt
    assert about == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "minillm",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.max_tokens": 4,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.frequency_penalty": 0.0,
        "gen_ai.request.presence_penalty": 0.0,
        "gen_ai.request.seed": 1,
        "gen_ai.request.choice.count": 2,
        "gen_ai.output.type": "text",
        "gen_ai.response.model": MODEL,
        "gen_ai.response.finish_reasons": ("length", "length"),
        "gen_ai.usage.input_tokens": len(tiny.tokenizer.apply_chat_template(BODY["messages"])),
        "gen_ai.usage.output_tokens": 8,
        "minillm.tenant": "ann",
        "minillm.request_id": response.headers["x-request-id"],
    }
    # The client's trace goes on: its span, the HTTP request's, the generation's.
    assert (http.kind, span.kind) == (SpanKind.SERVER, SpanKind.INTERNAL)
    assert http.parent is not None
    assert f"{http.parent.span_id:016x}" == "b7ad6b7169203331"
    assert span.parent is not None
    assert span.parent.span_id == http.context.span_id
    assert f"{span.context.trace_id:032x}" == TRACE
    assert "secret" not in str([each.to_json() for each in spans.exporter.get_finished_spans()])


def test_prompts_and_outputs_are_in_it_only_when_asked_for(spans: Spans, tiny: LLM) -> None:
    with LocalServer(tiny, tracer_provider=spans.provider, log_prompts=True) as server, connect(server) as client:
        body: Any = {"model": MODEL, "prompt": ["my secret", "another"], "max_tokens": 3, "seed": 2}
        texts = [choice.text for choice in client.completions.create(**body).choices]
        about = spans.wait_for(f"text_completion {MODEL}").attributes or {}
    inputs, outputs = (json.loads(str(about[f"gen_ai.{way}.messages"])) for way in ("input", "output"))
    assert [message["parts"][0]["content"] for message in inputs] == ["my secret", "another"]
    assert [message["parts"][0]["content"] for message in outputs] == texts


def test_a_failure_and_a_client_that_left_are_errors(spans: Spans) -> None:
    llm = LLM(MODEL, sampler=WatchedSampler(delay=0.002, fails_at=1))
    with LocalServer(llm, tracer_provider=spans.provider) as server, connect(server) as client:
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(**BODY)
        failed = spans.wait_for(f"chat {MODEL}")
        stream = client.chat.completions.create(**BODY | {"max_tokens": 1500}, stream=True)
        next(iter(stream))
        stream.close()
        assert wait_until(lambda: len(spans.named(f"chat {MODEL}")) == 2)
    left = spans.named(f"chat {MODEL}")[-1]
    assert [(span.attributes or {})["error.type"] for span in (failed, left)] == ["MinillmError", "client_gone"]
    assert failed.status.status_code == left.status.status_code == StatusCode.ERROR


# -- the environment --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "TRACES_ENDPOINT", "PROTOCOL", "TRACES_PROTOCOL"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
    for name in ("OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


def test_without_an_endpoint_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracer_provider_from_environment() is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert tracer_provider_from_environment() is None
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert tracer_provider_from_environment() is None


@pytest.mark.parametrize(
    ("name", "value"), [("OTEL_TRACES_EXPORTER", "zipkin"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]
)
def test_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/v1/traces")
    monkeypatch.setenv(name, value)
    with pytest.raises(MinillmError, match=f"{name} is '{value}'; expected"):
        tracer_provider_from_environment()


def test_a_missing_package_is_named_with_the_command_that_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(MinillmError, match=r"pip install 'minillm\[telemetry\]'"):
        tracer_provider_from_environment()


class Collector(BaseHTTPRequestHandler):
    """Takes what an OTLP exporter sends over HTTP."""

    received: ExportTraceServiceRequest

    def do_POST(self) -> None:
        assert self.path == "/v1/traces"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).received.MergeFromString(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_the_command_sends_its_spans_to_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    Collector.received = ExportTraceServiceRequest()
    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        try:
            environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}
            with serving(environment=environment) as (process, url, _), client_of(url) as client:
                client.chat.completions.create(**BODY, extra_headers=PARENT)
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=60) == 0  # and what wasn't sent yet is sent
        finally:
            collector.shutdown()
            thread.join()
    (resource,) = Collector.received.resource_spans
    assert ("service.name", "minillm") in [(each.key, each.value.string_value) for each in resource.resource.attributes]
    sent = {span.name: span for scope in resource.scope_spans for span in scope.spans}
    about = {each.key: each.value for each in sent[f"chat {MODEL}"].attributes}
    assert about["gen_ai.usage.output_tokens"].int_value > 0
    assert sent[f"chat {MODEL}"].trace_id.hex() == TRACE
    assert sent[f"chat {MODEL}"].parent_span_id == sent["POST /v1/chat/completions"].span_id
