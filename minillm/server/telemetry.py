"""OpenTelemetry: a span for each generation, with the names of the semantic conventions for generative AI.

FastAPI makes the span of the HTTP request around it, and takes up the client's `traceparent`. Nothing is made, and
nothing of the SDK is imported, where no exporter is configured.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastapi import Request
from fastapi.telemetry import TelemetryConfig

from minillm.engine import LLM, OutputChunk, RequestOutput
from minillm.engine.engine import Event
from minillm.errors import MinillmError
from minillm.sampling import SamplingParams

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
    from opentelemetry.trace import Span, TracerProvider

Observe = Callable[[int, Event], None]
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def fastapi_telemetry(provider: TracerProvider | None) -> TelemetryConfig:
    """What FastAPI is told: HTTP spans only. Its logs would hold what a client sent."""
    return {
        "tracer_provider": provider,
        "tracing": provider is not None,
        "metrics": False,
        "logs": False,
        "operation_spans": False,
        "auto_configure": False,
    }


def tracer_provider_from_environment() -> SDKTracerProvider | None:
    """What the standard variables ask for; None where they name no OTLP endpoint, or turn it off.

    OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) says where to; OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and the like mean what they always do.

    Raises:
        MinillmError: if the packages for it are missing, or an exporter is asked for that isn't there.
    """
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "otlp").strip().lower() or "otlp"
    if exporter == "none" or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    if exporter != "otlp":
        raise MinillmError(f"OTEL_TRACES_EXPORTER is {exporter!r}; expected 'otlp' or 'none'.")
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in (None, "", "http/protobuf"):
        raise MinillmError(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}; expected 'http/protobuf'.")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise MinillmError(
            f"An OTLP endpoint is configured, and {error.name} isn't installed. Run: pip install "
            "'minillm[telemetry]' (or unset OTEL_EXPORTER_OTLP_ENDPOINT)"
        ) from error
    resource = Resource.create({SERVICE_NAME: "minillm"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


class GenerationSpans:
    """Makes the spans of generations.

    Attributes:
        log_content: put prompts and outputs into the spans.
    """

    def __init__(self, llm: LLM, provider: TracerProvider | None, *, log_content: bool) -> None:
        self.llm, self.log_content = llm, log_content
        self._tracer = None if provider is None else provider.get_tracer("minillm")

    @contextmanager
    def generation(
        self, request: Request, prompts: Sequence[list[int]], params: SamplingParams, model: str
    ) -> Iterator[Observe | None]:
        """A span around a generation with a model; gives what wants to see its events, None if nobody does."""
        if self._tracer is None:
            yield None
            return
        from opentelemetry.trace import SpanKind, Status, StatusCode

        operation = "text_completion" if request.url.path.endswith("/v1/completions") else "chat"
        attributes = _of_request(operation, model, params)
        # Not the current span of its context: an async generator may be left in another one than it was entered in.
        span = self._tracer.start_span(f"{operation} {model}", kind=SpanKind.INTERNAL, attributes=attributes)
        watched = _Watched(prompts)
        try:
            yield watched.observe
        except Exception as error:
            span.set_status(Status(StatusCode.ERROR))
            span.set_attribute("error.type", type(error).__qualname__)
            raise
        except (GeneratorExit, asyncio.CancelledError):  # nobody reads it any more
            span.set_status(Status(StatusCode.ERROR))
            span.set_attribute("error.type", "client_gone")
            raise
        finally:
            span.set_attributes(watched.attributes())
            span.set_attribute("gen_ai.response.model", model)
            span.set_attribute("minillm.tenant", request.state.tenant.name)
            span.set_attribute("minillm.request_id", request.state.request_id)
            if self.log_content:
                self._add_content(span, prompts, watched)
            span.end()

    def _add_content(self, span: Span, prompts: Sequence[list[int]], watched: _Watched) -> None:
        def message(role: str, text: str) -> dict[str, Any]:
            return {"role": role, "parts": [{"type": "text", "content": text}]}

        decode = self.llm.tokenizer.decode
        inputs = [message("user", decode(prompt, skip_special_tokens=False)) for prompt in prompts]
        span.set_attribute("gen_ai.input.messages", json.dumps(inputs))
        outputs = [
            message("assistant", "".join(pieces)) | {"finish_reason": watched.finish_reasons.get(index, "error")}
            for index, pieces in sorted(watched.pieces.items())
        ]
        span.set_attribute("gen_ai.output.messages", json.dumps(outputs))


def _of_request(operation: str, model: str, params: SamplingParams) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "minillm",
        "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": params.max_tokens,
        "gen_ai.request.temperature": float(params.temperature),
        "gen_ai.request.top_p": float(params.top_p),
        "gen_ai.request.frequency_penalty": float(params.frequency_penalty),
        "gen_ai.request.presence_penalty": float(params.presence_penalty),
        "gen_ai.output.type": "json" if params.grammar is not None else "text",
    }
    if params.top_k > 0:
        attributes["gen_ai.request.top_k"] = params.top_k
    if params.seed is not None:
        attributes["gen_ai.request.seed"] = params.seed
    if params.n != 1:
        attributes["gen_ai.request.choice.count"] = params.n
    # The protocol has integers of 64 bits.
    return {name: value for name, value in attributes.items() if not isinstance(value, int) or abs(value) < 2**63}


class _Watched:
    """What a generation's events come to."""

    def __init__(self, prompts: Sequence[list[int]]) -> None:
        self.num_prompt_tokens = sum(map(len, prompts))
        self.num_cached = self.num_output = 0
        self.finish_reasons: dict[int, str] = {}
        self.pieces: dict[int, list[str]] = defaultdict(list)
        self._begin, self._first = time.perf_counter(), 0.0

    def observe(self, index: int, event: Event) -> None:
        """The next event, of the choice `index`."""
        if isinstance(event, OutputChunk):
            self._first = self._first or time.perf_counter()
            self.num_output += len(event.token_ids)
            self.pieces[index].append(event.text)
        elif isinstance(event, RequestOutput):
            self.finish_reasons[index] = event.finish_reason
            self.num_cached += event.cached_tokens if event.index == 0 else 0

    def attributes(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "gen_ai.usage.input_tokens": self.num_prompt_tokens,
            "gen_ai.usage.output_tokens": self.num_output,
            "gen_ai.usage.cache_read.input_tokens": self.num_cached,
        }
        if self.finish_reasons:
            attributes["gen_ai.response.finish_reasons"] = [text for _, text in sorted(self.finish_reasons.items())]
        if self._first:
            attributes["gen_ai.response.time_to_first_chunk"] = self._first - self._begin
        return attributes
