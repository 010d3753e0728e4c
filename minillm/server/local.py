"""A server inside this process, for notebooks and tests: started in one line, stopped cleanly."""

from __future__ import annotations

import threading
import time
from typing import Any

import uvicorn

from minillm.engine import LLM
from minillm.errors import MinillmError
from minillm.server.app import create_app
from minillm.server.http import uvicorn_config
from minillm.server.serve import listen


class LocalServer:
    """Serves a loaded model on this machine only, from a thread of its own.

    >>> server = LocalServer(LLM("smollm2-135m"))
    >>> client = openai.OpenAI(base_url=server.base_url, api_key="not-needed")
    >>> server.stop()
    """

    def __init__(self, llm: LLM, port: int = 0, **options: Any) -> None:
        """Starts to serve.

        Args:
            llm: the model.
            port: 0 takes any free one.
            options: see `create_app`.

        Raises:
            MinillmError: if the port is taken or the server doesn't come up.
        """
        self._socket = listen("127.0.0.1", port)
        self._app = create_app(llm, **options)
        config = uvicorn_config(self._app, log_level="warning", timeout_graceful_shutdown=2)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="minillm-server", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + 30
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise MinillmError("The local server did not start; the log above says why.")
            time.sleep(0.01)

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as `base_url`."""
        host, port = self._socket.getsockname()
        return f"http://{host}:{port}/v1"

    @property
    def url(self) -> str:
        """Where a browser finds the playground."""
        return self.base_url.removesuffix("v1")

    def stop(self) -> None:
        """Stops serving; requests that are running get an error. A second call does nothing."""
        if self._thread.is_alive():
            self._server.should_exit = True
            # Otherwise the server would wait for the streams to come to their ends.
            self._app.state.service.close()
            self._thread.join(timeout=10)
        if not self._thread.is_alive():
            self._app.state.service.release()
        self._socket.close()

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
