"""What every HTTP request passes before it reaches an endpoint: the key, the limits of its body, the log.

Plain ASGI, so that streams pass through it untouched.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import quote

from prometheus_client.core import CounterMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minillm.server.errors import describe, failure
from minillm.server.protocol import error_body
from minillm.server.tenants import Tenant, Tenants

log = logging.getLogger("minillm.server.access")
MAX_BODY_BYTES = 8 * 2**20
MAX_JSON_DEPTH = 100
BODY_SECONDS = 30.0
CLIENT_GONE = 499
"""nginx's number for a client that left before its answer was complete; only the log sees it."""
OPEN_PATHS = ("/health", "/ready")
"""Where no key is asked for: a load balancer has none."""
_LARGE_BODY = 16_384
"""Bytes from which on a body isn't looked through in the event loop, where everybody would wait for it."""
_REQUEST_ID_HEADERS = (b"x-client-request-id", b"x-request-id")
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_JSON_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


class _RefusedError(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


class ResponseCounter:
    """Counts responses by status, for Prometheus. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, status: int) -> None:
        """One more response."""
        self._counts[status] += 1

    def collect(self) -> Iterator[Metric]:
        """What a `prometheus_client` registry asks of its collectors."""
        family = CounterMetricFamily(
            "minillm_http_responses", "HTTP responses by status; 499 is a client that left.", labels=["status"]
        )
        for status, number in sorted(self._counts.items()):
            family.add_metric([str(status)], number)
        yield family


class Door:
    """Lets requests in, with their bodies read whole; refuses the others in OpenAI's form.

    It leaves in the request's state: `tenant`, `request_id`, `body_size` in bytes. An endpoint may leave a `tally` for
    the log.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tenants: Tenants,
        open_paths: Collection[str] = OPEN_PATHS,
        responses: ResponseCounter | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self.app, self.tenants, self.responses = app, tenants, responses or ResponseCounter()
        self.open_paths = open_paths
        self.max_body_bytes, self.body_seconds = max_body_bytes, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begin, status, is_complete = time.perf_counter(), 0, False
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = f"req-{uuid.uuid4().hex[:16]}"

        async def send_watched(message: Message) -> None:
            nonlocal status, is_complete
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            await send(message)
            is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            body = await self._enter(scope, receive)
            if body is not None:
                await self.app(scope, _replay(body, receive), send_watched)
        except _RefusedError as refused:
            content = error_body(str(refused), "invalid_request_error", code=refused.code)
            # What is left of the body would otherwise be taken for the next request.
            response = failure(scope, refused.status, content, {**refused.headers, "Connection": "close"})
            await response(scope, receive, send_watched)
        except Exception as error:  # of our own making; the others have their handlers
            if status:
                raise
            await failure(scope, *describe(error))(scope, receive, send_watched)
        finally:
            status = status if is_complete else CLIENT_GONE
            self.responses.add(status)
            if status != 200 or scope["path"] not in self.open_paths:  # which are asked for every few seconds
                _log_access(scope, state, status, time.perf_counter() - begin)

    async def _enter(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body of a request that may come in; None if its client has gone."""
        if {b"content-length", b"transfer-encoding"} <= {name for name, _ in scope["headers"]}:
            # Whoever is in between may see another end of the body, and take the rest for a request (RFC 9112 §6.1).
            raise _RefusedError(400, "Content-Length and Transfer-Encoding are both there; send one of them.")
        tenant = Tenant() if scope["path"] in self.open_paths else self.tenants.find(_api_key(scope))
        try:
            async with asyncio.timeout(self.body_seconds):
                body = await self._read(receive, keep=tenant is not None)
        except TimeoutError:
            raise _RefusedError(408, f"The body took more than {self.body_seconds:g} s to arrive.") from None
        if tenant is None:
            challenge = {"WWW-Authenticate": "Bearer"}
            what = "No API key was given, or it's not one of this server's. Send it as 'Authorization: Bearer KEY'."
            raise _RefusedError(401, what, "invalid_api_key", challenge)
        scope["state"] |= {"tenant": tenant, "body_size": len(body or b"")}
        if body is None or len(body) < _LARGE_BODY:
            _check_json(body or b"")
        else:
            await asyncio.to_thread(_check_json, body)
        return body

    async def _read(self, receive: Receive, *, keep: bool) -> bytes | None:
        """The body, or b"" if it's not wanted; None if the client has gone."""
        # It's read to its end even if it's too large: a client that still sends when the connection closes may never
        # see the answer.
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            piece = message.get("body", b"")
            size += len(piece)
            if keep and size <= self.max_body_bytes:
                pieces.append(piece)
            elif size > self.max_body_bytes:
                pieces.clear()
                if size > 8 * self.max_body_bytes:
                    break
            if not message.get("more_body", False):
                break
        if size > self.max_body_bytes:
            raise _RefusedError(413, f"The body is larger than {self.max_body_bytes} bytes, the most that is taken.")
        return b"".join(pieces)


def _api_key(scope: Scope) -> str | None:
    """The one key of a request. Two headers are no key: whoever is in between may have looked at the other one."""
    values = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, key = values[0].decode("latin-1").partition(" ")
    if scheme.lower() != "bearer":
        return None
    # Header values are bytes; a key from a file is text.
    return key.strip().encode("latin-1").decode("utf-8", "replace")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once, and from then on what comes over the wire: the client's leaving."""
    first = True

    async def replay() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay


def _check_json(body: bytes) -> None:
    """Raises:
    _RefusedError: for what would trouble a parser. That it's JSON at all is found out later.
    """
    if b"\0" in body or not _is_utf8(body):  # Python's parser would take UTF-16 and UTF-32, too
        raise _RefusedError(400, "The body is not valid UTF-8, in which JSON is sent (RFC 8259 §8.1).")
    if json_is_deeper_than(body, MAX_JSON_DEPTH):
        raise _RefusedError(400, f"The body's JSON is nested more than {MAX_JSON_DEPTH} deep.")


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def json_is_deeper_than(body: bytes, limit: int) -> bool:
    """Whether brackets nest deeper, before anything recursive looks at them. Broken JSON is somebody else's matter."""
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    depth = 0
    for match in _JSON_TOKEN.finditer(body):
        first = body[match.start()]
        if first in b"[{":
            depth += 1
            if depth > limit:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def _client_request_id(scope: Scope) -> str | None:
    """What a client, or a proxy, calls the request."""
    for name, value in scope["headers"]:
        if name in _REQUEST_ID_HEADERS and _REQUEST_ID.fullmatch(value):
            return str(value.decode("ascii"))
    return None


def _log_access(scope: Scope, state: dict[str, Any], status: int, seconds: float) -> None:
    tenant, tally = state.get("tenant"), state.get("tally")
    fields = {
        "request_id": state["request_id"],
        "client_request_id": _client_request_id(scope),
        "method": scope["method"],
        "path": quote(scope["path"]),  # no line of its own in the log
        "status": status,
        "error": "client_gone" if status == CLIENT_GONE else state.get("error"),
        "seconds": round(seconds, 4),
        "tenant": tenant.name if tenant else None,
    }
    text = f"{fields['method']} {fields['path']} {status} {seconds:.3f} s"
    if tally is not None:
        fields |= {"prompt_tokens": tally.prompt, "cached_tokens": tally.cached, "completion_tokens": tally.completion}
        text += f", {tally.prompt} tokens in ({tally.cached} cached), {tally.completion} out"
    more = [fields[name] for name in ("error", "tenant", "request_id", "client_request_id") if fields[name]]
    log.info("%s", ", ".join([text, *more]), extra={"fields": fields})
