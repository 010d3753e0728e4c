"""The application: chat completions, whole and streamed, over one model."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from minillm.engine import LLM, AsyncEngine, OutputChunk, RequestOutput
from minillm.engine.engine import Event
from minillm.errors import InvalidRequestError, MinillmError
from minillm.server.protocol import ChatCompletionRequest, Reply, error_body

log = logging.getLogger("minillm.server")
# Proxies, such as those in front of hosted notebooks, would otherwise collect the stream before they pass it on.
_UNBUFFERED = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def create_app(llm: LLM) -> FastAPI:
    """Builds the application around a loaded model; the engine's thread runs as long as the application does."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.engine = AsyncEngine(llm.engine)
        yield
        app.state.engine.close()

    app = FastAPI(title="minillm", lifespan=lifespan)
    _add_error_handlers(app)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [_model_card(llm)]}

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> dict[str, Any]:
        _check_model(model, llm)
        return _model_card(llm)

    @app.post("/v1/chat/completions")
    async def chat_completions(body: ChatCompletionRequest, request: Request) -> Response:
        _check_model(body.model, llm)
        params = body.sampling_params()
        prompt = llm.tokenizer.apply_chat_template(body.chat_messages())
        events = app.state.engine.generate(prompt, params)
        include_usage = body.stream_options is not None and body.stream_options.include_usage
        reply = Reply(llm.model_name, llm.fingerprint, llm.tokenizer, include_usage=include_usage)
        # Waiting for the first event turns a request that can't be served into a status, not into a broken stream.
        first = await anext(events)
        if body.stream:
            return StreamingResponse(_sse(first, events, reply), media_type="text/event-stream", headers=_UNBUFFERED)
        return await _whole(first, events, reply, request)

    return app


async def _whole(first: Event, events: AsyncIterator[Event], reply: Reply, request: Request) -> Response:
    event = first
    while not isinstance(event, RequestOutput):
        if await request.is_disconnected():
            await events.aclose()  # type: ignore[attr-defined]
            return Response(status_code=499)  # nobody is there to read it
        event = await anext(events)
    return JSONResponse(reply.whole(event))


async def _sse(first: Event, events: AsyncIterator[Event], reply: Reply) -> AsyncIterator[str]:
    """The stream as server-sent events: the role, the text as it comes, the finish reason, usage, [DONE]."""

    def data(content: dict[str, Any]) -> str:
        # As ASCII: some clients take U+2028 and its kind for the end of a line.
        return f"data: {json.dumps(content)}\n\n"

    try:
        yield data(reply.chunk({"role": "assistant", "content": ""}))
        event = first
        while isinstance(event, OutputChunk):
            if event.text or event.logprobs:
                yield data(reply.chunk({"content": event.text}, logprobs=event.logprobs))
            if event.finish_reason:
                yield data(reply.chunk({}, event.finish_reason))
            event = await anext(events)
        if reply.include_usage and isinstance(event, RequestOutput):
            yield data(reply.usage_chunk(event))
    except MinillmError as error:  # the status is sent already, so the error travels as an event
        yield data(error_body(str(error), "server_error"))
    finally:
        await events.aclose()  # type: ignore[attr-defined]
    yield "data: [DONE]\n\n"


def _model_card(llm: LLM) -> dict[str, Any]:
    return {"id": llm.model_name, "object": "model", "created": 0, "owned_by": "minillm"}


class UnknownModelError(MinillmError):
    """A request names a model that this server doesn't have."""


def _check_model(name: str, llm: LLM) -> None:
    if name != llm.model_name:
        raise UnknownModelError(f"The model {name!r} is not served here; this server has {llm.model_name!r}.")


def _add_error_handlers(app: FastAPI) -> None:
    """Every error leaves in OpenAI's form."""

    @app.exception_handler(RequestValidationError)
    async def invalid_body(request: Request, error: RequestValidationError) -> JSONResponse:
        message, param = _explain(error)
        return JSONResponse(error_body(message, "invalid_request_error", param), 400)

    @app.exception_handler(InvalidRequestError)
    async def invalid_request(request: Request, error: InvalidRequestError) -> JSONResponse:
        return JSONResponse(error_body(str(error), "invalid_request_error", error.param), 400)

    @app.exception_handler(UnknownModelError)
    async def unknown_model(request: Request, error: UnknownModelError) -> JSONResponse:
        return JSONResponse(error_body(str(error), "invalid_request_error", "model", "model_not_found"), 404)

    @app.exception_handler(MinillmError)
    async def failed(request: Request, error: MinillmError) -> JSONResponse:
        return JSONResponse(error_body(str(error), "server_error"), 500)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = f"{request.method} {request.url.path}: {error.detail}. This server answers POST /v1/chat/completions."
        return JSONResponse(error_body(message, "invalid_request_error"), error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        log.exception("A request failed", exc_info=error)
        return JSONResponse(error_body("The server failed; its log says why.", "server_error"), 500)


def _explain(error: RequestValidationError) -> tuple[str, str | None]:
    """The first fault of a body, and the field at fault."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"The body is not valid JSON: {first['ctx']['error']} (character {first['loc'][-1]}).", None
    path = [str(part) for part in first["loc"] if part != "body"]
    if not path:
        return f"The body must be a JSON object, sent as application/json ({first['msg']}).", None
    return f"{'.'.join(path)}: {first['msg']}.", path[0]
