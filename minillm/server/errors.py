"""Every error leaves in OpenAI's form, with the status that client libraries expect.

They try again after 408, 409, 429 and 5xx, and wait as long as Retry-After says.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import Scope

from minillm.errors import EngineOverloadedError, EngineStoppedError, InvalidRequestError, MinillmError
from minillm.server.protocol import error_body

log = logging.getLogger("minillm.server")


class UnknownModelError(MinillmError):
    """A request names a model that this server doesn't have."""


class UnknownResponseError(MinillmError):
    """A request names a response that isn't kept for its tenant. `param` is the field that names it."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class RateLimitedError(MinillmError):
    """A tenant is over one of its limits. `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ClientGoneError(Exception):
    """The client closed the connection, so nobody would read an answer."""


def describe(error: Exception) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers for an error."""
    text = str(error)
    match error:
        case InvalidRequestError():
            # The engine knows grammars only; what a client sends is a response format.
            param = "response_format" if error.param == "grammar" else error.param
            return 400, error_body(text, "invalid_request_error", param), {}
        case UnknownModelError():
            return 404, error_body(text, "invalid_request_error", "model", "model_not_found"), {}
        case UnknownResponseError():
            code = error.param.removesuffix("_id") + "_not_found"
            return 404, error_body(text, "invalid_request_error", error.param, code), {}
        case RateLimitedError():
            wait = str(max(1, math.ceil(error.retry_after)))
            return 429, error_body(text, "rate_limit_error", code="rate_limit_exceeded"), {"Retry-After": wait}
        case EngineOverloadedError():
            return 429, error_body(text, "rate_limit_error", code="engine_overloaded"), {"Retry-After": "1"}
        case EngineStoppedError():
            return 503, error_body(text, "server_error", code="server_stopping"), {"Retry-After": "5"}
        case MinillmError() if error.__cause__ is None:
            return 500, error_body(text, "server_error"), {}
    # What a part of the engine raised, or a fault of our own: what's inside stays inside.
    log.error("A request failed", exc_info=error)
    return 500, error_body("The engine failed; the server's log says why.", "server_error"), {}


def error_response(status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """As ASCII, so that half a character in a message can't break the answer."""
    return Response(json.dumps(body), status, headers, "application/json")


def failure(scope: Scope, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """The response to a request that failed. The log is told by what kind of error: its text may quote the prompt."""
    note_error(scope, body)
    return error_response(status, body, headers)


def note_error(scope: Scope, body: dict[str, Any]) -> None:
    """Leaves an error's kind in the request's state, for the log."""
    error = body["error"]
    kind = error["code"] or error["type"]
    scope["state"]["error"] = f"{kind} ({error['param']})" if error["param"] else kind


def add_error_handlers(app: FastAPI) -> None:
    """Sees to it that no error leaves in another form."""

    @app.exception_handler(MinillmError)
    async def failed(request: Request, error: Exception) -> Response:
        return failure(request.scope, *describe(error))

    @app.exception_handler(ClientGoneError)
    async def gone(request: Request, error: ClientGoneError) -> Response:
        return Response(status_code=499)  # nginx's number for it, to be seen in the log

    @app.exception_handler(RequestValidationError)
    async def invalid_body(request: Request, error: RequestValidationError) -> Response:
        message, param = _explain(error)
        return failure(request.scope, 400, error_body(message, "invalid_request_error", param))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        if error.status_code == 400:  # the one that FastAPI raises
            message = f"The body is not valid JSON: {error.__cause__!s:.200}."
            return failure(request.scope, 400, error_body(message, "invalid_request_error"))
        served = ", ".join(request.app.openapi()["paths"])
        message = f"{request.method} {request.url.path:.200}: {error.detail}. This server has {served}."
        headers = dict(error.headers or {})
        return failure(request.scope, error.status_code, error_body(message, "invalid_request_error"), headers)


def _explain(error: RequestValidationError) -> tuple[str, str | None]:
    """The first fault of a body, and the field at fault."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"The body is not valid JSON: {first['ctx']['error']} (character {first['loc'][-1]}).", None
    path = [str(part) for part in first["loc"][1:]]  # after "body" or "query"
    if not path:
        return f"The body must be a JSON object, sent as application/json ({first['msg']}).", None
    return f"{'.'.join(path):.200}: {first['msg']}.", path[0]
