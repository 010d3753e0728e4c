"""/v1/responses: OpenAI's API for agents, whose answers are kept, so that a request can go on from one of them."""

from minillm.server.responses.router import responses_router
from minillm.server.responses.store import ResponseStore

__all__ = ["ResponseStore", "responses_router"]
