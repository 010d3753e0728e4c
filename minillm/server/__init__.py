"""An HTTP door to the engine that any OpenAI client can use."""

from minillm.server.app import create_app
from minillm.server.local import LocalServer

__all__ = ["LocalServer", "create_app"]
