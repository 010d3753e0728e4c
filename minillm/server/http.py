"""HTTP/1.1 as uvicorn speaks it, with what it leaves to a proxy: slow heads are given up, and every refusal is JSON."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from minillm.server.protocol import error_body

log = logging.getLogger("minillm.server.access")
HEAD_SECONDS = 10.0
"""What a request's first line and headers may take. A client that sends a byte now and then holds a connection, and
there are only so many."""
KEEP_ALIVE_SECONDS = 65
"""How long a connection may be idle between requests: longer than clients and load balancers wait themselves, or they
would now and then send a request into a connection that is just being closed."""


def uvicorn_config(app: Any, **options: Any) -> uvicorn.Config:
    """How uvicorn serves the application, from a terminal and from a notebook alike."""
    return uvicorn.Config(
        app,
        http=Protocol,
        ws="none",  # they would come in past the keys
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        access_log=False,
        server_header=False,
        **options,
    )


class Protocol(H11Protocol):
    """One connection."""

    head_seconds = HEAD_SECONDS
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The clock runs from here to the first request's last header."""
        super().connection_made(transport)
        self._watch_head()

    def data_received(self, data: bytes) -> None:
        """Takes what comes; where it ends within a head, the rest of the head must follow soon."""
        super().data_received(data)
        self._update_head_watch()

    def on_response_complete(self) -> None:
        """What came in the meantime may be half of the next head."""
        super().on_response_complete()
        self._update_head_watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of it."""
        self._unwatch_head()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Uvicorn calls this while it handles h11's error, which says more."""
        error = sys.exception()
        reason = str(error).partition(":")[0]  # without the line in question, which may hold a key
        self._refuse(getattr(error, "error_status_hint", 400), f"The request is not valid HTTP: {reason or msg}.")

    def _update_head_watch(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._unwatch_head()
        elif self._head_timer is None and self.conn.trailing_data[0]:
            self._watch_head()

    def _watch_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._give_head_up)

    def _unwatch_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_head_up(self) -> None:
        self._head_timer = None
        if self.conn.trailing_data[0]:
            log.info("408, a request's headers didn't arrive", extra={"fields": {"status": 408}})
            self._refuse(408, f"The request's headers took more than {self.head_seconds:g} s to arrive.")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """Answers what isn't a request yet, and closes."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):  # else an answer is on its way already
            body = json.dumps(error_body(message, "invalid_request_error")).encode()
            headers = [
                ("Content-Type", "application/json"),
                ("Connection", "close"),
                ("Content-Length", str(len(body))),
            ]
            events = (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage())
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()
