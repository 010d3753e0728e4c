"""Where a notebook's OpenAI client connects to: the engine in this process, or any endpoint that the reader names."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from minillm.errors import MinillmError

if TYPE_CHECKING:
    from minillm.engine import LLM


class Endpoint:
    """An OpenAI-compatible endpoint: a client, an async client, and the model's name to ask for.

    By default a server in this process serves `llm`. With OPENAI_BASE_URL in the environment, it is that endpoint
    instead; OPENAI_API_KEY is its key, MINILLM_MODEL the model to ask for, and MINILLM_EMBEDDING_MODEL the one that
    makes embeddings.

    Attributes:
        base_url: the endpoint's address.
        model: what to pass as `model`.
        embedding_model: what to pass as `model` for embeddings; None if they weren't asked for.
        client: for ordinary code.
        async_client: for many requests at once.
        is_local: whether the answers come from this process.
    """

    def __init__(self, llm: LLM, *, embeddings: bool = False) -> None:
        """Connects; starts the local server if no other endpoint is named.

        Args:
            llm: what the local server serves.
            embeddings: whether `client.embeddings` will be used; the local server then has all-MiniLM-L6-v2 as well.

        Raises:
            MinillmError: if OPENAI_BASE_URL is set and MINILLM_MODEL isn't, or MINILLM_EMBEDDING_MODEL with embeddings.
        """
        remote = os.environ.get("OPENAI_BASE_URL")
        self.is_local = not remote
        self.embedding_model: str | None = None
        if remote:
            self.base_url, self.model = remote, _remote_model(remote, "MINILLM_MODEL")
            if embeddings:
                self.embedding_model = _remote_model(remote, "MINILLM_EMBEDDING_MODEL")
            self._connect(os.environ.get("OPENAI_API_KEY") or "not-needed")
        else:
            from minillm.engine.embedding import EmbeddingModel
            from minillm.server import LocalServer

            encoder = EmbeddingModel() if embeddings else None
            self.embedding_model = encoder.model_name if encoder else None
            self._server = LocalServer(llm, embedding_model=encoder)
            self.base_url, self.model = self._server.base_url, llm.model_name
            # The server asks for no key, but the client insists on having one. A proxy in the environment must not
            # get between this process and itself.
            self._connect("not-needed", trust_env=False)

    def _connect(self, api_key: str, **options: Any) -> None:
        import openai

        self.client = openai.OpenAI(
            base_url=self.base_url, api_key=api_key, http_client=openai.DefaultHttpxClient(**options)
        )
        self.async_client = openai.AsyncOpenAI(
            base_url=self.base_url, api_key=api_key, http_client=openai.DefaultAsyncHttpxClient(**options)
        )

    def stop(self) -> None:
        """Closes `client`, and stops the local server, if there is one.

        The connections of `async_client` belong to the event loop that opened them; `await async_client.close()` there.
        """
        self.client.close()
        if self.is_local:
            self._server.stop()

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r}, model={self.model!r})"


def _remote_model(base_url: str, variable: str) -> str:
    model = os.environ.get(variable)
    if not model:
        raise MinillmError(
            f"OPENAI_BASE_URL is {base_url}, but {variable} isn't set. Set it to the name of a model that this "
            "endpoint serves, or unset OPENAI_BASE_URL to use the local engine."
        )
    return model
