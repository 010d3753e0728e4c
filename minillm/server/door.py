"""What every HTTP request passes before it reaches an endpoint: the key, the limits of its body, the log.

Plain ASGI, so that streams pass through it untouched.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from minillm.server.errors import error_response
from minillm.server.protocol import error_body
from minillm.server.tenants import Tenant, Tenants

log = logging.getLogger("minillm.server.access")
MAX_BODY_BYTES = 8 * 2**20
MAX_JSON_DEPTH = 100
BODY_SECONDS = 30.0
OPEN_PATHS = ("/health", "/ready")
"""Where no key is asked for: a load balancer has none."""
_JSON_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


class _RefusedError(Exception):
    def __init__(self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.code, self.headers = status, code, headers or {}


class Door:
    """Lets requests in, with their bodies read whole; refuses the others in OpenAI's form.

    It leaves in the request's state: `tenant`, `body_size` in bytes. An endpoint may leave a `tally` for the log.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        tenants: Tenants,
        max_body_bytes: int = MAX_BODY_BYTES,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self.app, self.tenants = app, tenants
        self.max_body_bytes, self.body_seconds = max_body_bytes, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begin, status = time.perf_counter(), 0
        state = scope.setdefault("state", {})
        request_id = f"req-{uuid.uuid4().hex[:16]}"

        async def send_watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", request_id.encode())]}
            await send(message)

        try:
            body = await self._enter(scope, receive)
            if body is not None:
                await self.app(scope, _replay(body, receive), send_watched)
        except _RefusedError as refused:
            content = error_body(str(refused), "invalid_request_error", code=refused.code)
            # What is left of the body would otherwise be taken for the next request.
            response = error_response(refused.status, content, {**refused.headers, "Connection": "close"})
            await response(scope, receive, send_watched)
        finally:
            _log_access(scope, state, request_id, status, time.perf_counter() - begin)

    async def _enter(self, scope: Scope, receive: Receive) -> bytes | None:
        """The body of a request that may come in; None if its client has gone."""
        tenant = Tenant() if scope["path"] in OPEN_PATHS else self.tenants.find(_api_key(scope))
        try:
            async with asyncio.timeout(self.body_seconds):
                body = await self._read(receive, keep=tenant is not None)
        except TimeoutError:
            raise _RefusedError(408, f"The body took more than {self.body_seconds:g} s to arrive.") from None
        if tenant is None:
            challenge = {"WWW-Authenticate": "Bearer"}
            what = "No API key was given, or it's not one of this server's. Send it as 'Authorization: Bearer KEY'."
            raise _RefusedError(401, what, "invalid_api_key", challenge)
        is_deep: bool = await asyncio.to_thread(json_is_deeper_than, body or b"", MAX_JSON_DEPTH)
        if is_deep:
            raise _RefusedError(400, f"The body's JSON is nested more than {MAX_JSON_DEPTH} deep.")
        scope["state"] |= {"tenant": tenant, "body_size": len(body or b"")}
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


def _log_access(scope: Scope, state: dict[str, Any], request_id: str, status: int, seconds: float) -> None:
    if scope["path"] in OPEN_PATHS and status == 200:
        return  # asked every few seconds
    tenant, tally = state.get("tenant"), state.get("tally")
    fields = {
        "request_id": request_id,
        "method": scope["method"],
        "path": quote(scope["path"]),  # no line of its own in the log
        "status": status or 499,
        "seconds": round(seconds, 4),
        "tenant": tenant.name if tenant else None,
    }
    text = f"{fields['method']} {fields['path']} {fields['status']} {seconds:.3f} s"
    if tally is not None:
        fields |= {"prompt_tokens": tally.prompt, "cached_tokens": tally.cached, "completion_tokens": tally.completion}
        text += f", {tally.prompt} tokens in ({tally.cached} cached), {tally.completion} out"
    log.info("%s%s", text, f", {fields['tenant']}" if fields["tenant"] else "", extra={"fields": fields})
