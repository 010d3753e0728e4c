"""The page at `/`: a chat, and beside it the live inside of the engine.

Plain HTML, CSS and JavaScript modules, served as they lie here: no build step, and nothing from anywhere else. The
page itself needs no key; what it shows comes from /v1/chat/completions and /v1/engine/steps, which do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import Response

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FILES = {
    "/" if path.name == "index.html" else f"/playground/{path.name}": path
    for path in sorted(Path(__file__).parent.iterdir())
    if path.suffix in _TYPES
}
PAGE_PATHS = tuple(_FILES)
"""What the page consists of; all of it may be read without a key."""
_HEADERS = {
    # The browser itself sees to it that the page loads from nowhere else, talks to nobody else, and runs no script
    # that a model has written.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def playground_router() -> APIRouter:
    """The page and its parts, read once."""
    router = APIRouter(include_in_schema=False)
    for url, path in _FILES.items():
        router.add_api_route(url, _page(path), methods=["GET"])
    return router


def _page(path: Path) -> Callable[[], Awaitable[Response]]:
    content = path.read_bytes()

    async def page() -> Response:
        return Response(content, headers=_HEADERS, media_type=_TYPES[path.suffix])

    return page
