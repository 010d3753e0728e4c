"""`minillm serve`: the application on a port, with a log, until somebody says stop."""

from __future__ import annotations

import ipaddress
import json
import logging
import signal
import socket
import sys
import threading
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from minillm.errors import MinillmError
from minillm.server.http import uvicorn_config

log = logging.getLogger("minillm.server")


def run(app: FastAPI, listening: socket.socket, *, drain_seconds: float = 30.0) -> None:
    """Serves until SIGINT or SIGTERM, then takes no more requests and lets those that run end.

    Args:
        app: from `create_app`.
        listening: from `listen`.
        drain_seconds: how long they may take; those that don't make it end with an error.
    """
    # When it's over, uvicorn raises the signal anew, for handlers that were there before. Stopping is no failure.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    config = uvicorn_config(app, log_config=None, timeout_graceful_shutdown=max(1, round(drain_seconds) + 5))
    _DrainingServer(config, app, drain_seconds).run(sockets=[listening])
    log.info("Stopped.")


class _DrainingServer(uvicorn.Server):
    """Uvicorn waits for its connections to end; the engine sees to it that they do."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, drain_seconds: float) -> None:
        super().__init__(config)
        self._service, self._drain_seconds = app.state.service, drain_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Says where it serves, once it does: before, connections would be refused."""
        await super().startup(sockets)
        for listening in sockets or ():
            host, port = listening.getsockname()[:2]
            address = f"[{host}]" if ":" in host else host
            page = "localhost" if address in ("0.0.0.0", "[::]") else address
            log.info("Playground: http://%s:%d/", page, port)
            models = ", ".join(self._service.models)
            log.info("Serving %s at http://%s:%d/v1. Ctrl-C stops it.", models, address, port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """At the first signal, drains; at a second one, ends what runs."""
        again = self.should_exit
        super().handle_exit(sig, frame)
        # In threads, since both wait for the engine, and the streams need the event loop to come to their ends.
        if again:
            log.info("Stopping now.")
            threading.Thread(target=self._service.end_all, name="minillm-end", daemon=True).start()
        else:
            log.info("Stopping: what runs gets %g s to end.", self._drain_seconds)
            arguments = (self._drain_seconds,)
            threading.Thread(target=self._service.close, args=arguments, name="minillm-drain", daemon=True).start()


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections at a port of this machine.

    Args:
        host: an address or a name; "0.0.0.0" and "::" are all of this machine's addresses.
        port: 0 takes any free one.

    Raises:
        MinillmError: if the port is taken or the address isn't this machine's.
    """
    listening: socket.socket | None = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
        # Without the protocol's number asyncio doesn't turn Nagle's algorithm off, and every answer takes 40 ms more.
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address[0], port, *address[2:]))
        return listening
    except (OSError, OverflowError) as error:
        if listening is not None:
            listening.close()
        reason = error.strerror if isinstance(error, OSError) else "ports are 0 to 65535"
        raise MinillmError(f"Port {port} can't be used at {host} ({reason}). Choose another, or 0 for any.") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may stand for anything


def set_up_logging(*, as_json: bool) -> None:
    """Sends the log to standard error: lines for a person, or one JSON object for each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSONFormatter() if as_json else _LineFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    for name in ("minillm", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "minillm" else logging.WARNING)


class _LineFormatter(logging.Formatter):
    """One line for each record, whatever is in it. A traceback is indented: none of its lines passes for a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return _printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:
        return "\n".join(f"    {_printable(line)}" for line in super().formatException(ei).splitlines())


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


class _JSONFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            content["exception"] = self.formatException(record.exc_info)
        return json.dumps(content)
