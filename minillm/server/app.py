"""The application, put together: endpoints, the door in front of them, and the engine's thread behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry, generate_latest

from minillm.engine import LLM
from minillm.server.chat import chat_router
from minillm.server.completions import completions_router
from minillm.server.door import OPEN_PATHS, Door, ResponseCounter
from minillm.server.errors import UnknownModelError, add_error_handlers, error_response
from minillm.server.generation import Service
from minillm.server.playground import PAGE_PATHS, playground_router
from minillm.server.protocol import ErrorBody, error_body
from minillm.server.responses import ResponseStore, responses_router
from minillm.server.schemas import ModelCard, ModelList, Status, answers
from minillm.server.telemetry import fastapi_telemetry
from minillm.server.tenants import Tenants
from minillm.server.tokens import tokens_router
from minillm.server.watch import watch_router

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from minillm.engine.embedding import EmbeddingModel


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request is wrong; `param` names the field.", "model": ErrorBody},
    401: {"description": "The API key is missing or wrong.", "model": ErrorBody},
    404: {"description": "There is no such model, or no such response.", "model": ErrorBody},
    408: {"description": "The body took too long to arrive.", "model": ErrorBody},
    413: {"description": "The body is too large.", "model": ErrorBody},
    429: {"description": "Over a limit, or the engine is full; Retry-After says when.", "model": ErrorBody},
    500: {"description": "The server failed.", "model": ErrorBody},
    503: {"description": "No requests are taken now.", "model": ErrorBody},
}


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """What FastAPI can't know: a wrong body is a 400, all errors are JSON, keys are asked for at the door."""
        schema = super().openapi()
        schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        error = {"$ref": "#/components/schemas/ErrorBody"}
        schema["security"] = [{"key": []}, {}]  # where the server has no keys, everybody may come in
        for operations in schema["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                for status, response in operation["responses"].items():
                    if status >= "400":
                        response["content"] = {"application/json": {"schema": error}}
        return schema


def create_app(
    llm: LLM,
    *,
    tenants: Tenants | None = None,
    embedding_model: EmbeddingModel | None = None,
    response_store: ResponseStore | None = None,
    log_prompts: bool = False,
    tracer_provider: TracerProvider | None = None,
) -> FastAPI:
    """Builds the application around a loaded model; the engine's thread runs as long as the application does.

    Args:
        llm: the model; its adapters are served as "model+adapter".
        tenants: who may use it; everybody if None.
        embedding_model: answers /v1/embeddings.
        response_store: keeps what /v1/responses answers; one with the usual limits if None.
        log_prompts: write the prompts to the log, and into the spans.
        tracer_provider: of OpenTelemetry, takes a span for each HTTP request and each generation.

    Returns:
        The application. `app.state.service` is what its endpoints share.
    """
    service = Service(llm, log_prompts=log_prompts, tracer_provider=tracer_provider)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.open()
        yield
        service.close()

    # No pages that would load their scripts from somewhere else.
    app = _Application(
        title="minillm",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=ERRORS,
        telemetry=fastapi_telemetry(tracer_provider),
    )
    app.state.service = service
    add_error_handlers(app)
    responses = ResponseCounter()
    open_paths = (*OPEN_PATHS, *PAGE_PATHS)
    app.add_middleware(Door, tenants=tenants or Tenants(), open_paths=open_paths, responses=responses)
    parents = {name: None if adapter is None else llm.model_name for name, adapter in service.models.items()}
    for router in (
        _health_router(service, responses),
        chat_router(service),
        completions_router(service),
        responses_router(service, response_store or ResponseStore()),
        tokens_router(service),
        watch_router(service),
        playground_router(),
    ):
        app.include_router(router)
    if embedding_model is not None:
        from minillm.server.embeddings import embeddings_router

        app.include_router(embeddings_router(lambda: embedding_model), dependencies=[Depends(_in_flight)])
        parents[embedding_model.model_name] = None
    app.include_router(_models_router(parents))
    return app


async def _in_flight(request: Request) -> AsyncIterator[None]:
    """Counts a request against its tenant's limit, where the endpoint doesn't do it itself."""
    with request.state.tenant.request(0):
        yield


def _health_router(service: Service, responses: ResponseCounter) -> APIRouter:
    router = APIRouter()

    @router.get("/health", response_model=None, responses=answers(Status))
    async def health() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @router.get("/ready", responses=answers(Status))
    async def ready() -> Response:
        """Whether requests are taken: not before the start, and not while the server drains."""
        if service.is_ready:
            return Response('{"status": "ready"}', media_type="application/json")
        return error_response(503, error_body("The server takes no requests now.", "server_error"))

    @router.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """The engine's counters, gauges and histograms, and the responses by status, for Prometheus."""
        registry = CollectorRegistry()  # of this call only: nothing is registered anywhere else
        registry.register(service.llm.engine.metrics)
        registry.register(responses)
        return PlainTextResponse(generate_latest(registry), media_type="text/plain; version=0.0.4")

    return router


def _models_router(parents: Mapping[str, str | None]) -> APIRouter:
    """Tells the models that are served, each with the one that its adapter belongs to, if it has one."""
    router = APIRouter()

    @router.get("/v1/models", response_model=None, responses=answers(ModelList))
    async def models() -> dict[str, Any]:
        """What is served."""
        return {"object": "list", "data": [_model_card(*item) for item in parents.items()]}

    @router.get("/v1/models/{model:path}", response_model=None, responses=answers(ModelCard))
    async def model(model: str) -> dict[str, Any]:
        """One of the models."""
        if model not in parents:
            known = ", ".join(parents)
            raise UnknownModelError(f"The model {model!r:.200} is not served here; this server has {known}.")
        return _model_card(model, parents[model])

    return router


def _model_card(name: str, parent: str | None) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "minillm", "parent": parent}
