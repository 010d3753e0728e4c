"""Which server is asked: the one that the environment names, or `minillm serve` on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from minillm.evaluation.errors import ServerError

if TYPE_CHECKING:
    import openai

LOCAL = "http://127.0.0.1:8000/v1"
"""Where `minillm serve` listens, if nothing else is said."""

START = "minillm serve"
"""The command that starts a server."""


@dataclass(frozen=True)
class Connection:
    """A server, and the model to ask for.

    Attributes:
        base_url: the server's address.
        model: what is passed as `model`.
        api_key: the server's key.
        through_proxy: whether a proxy that the environment names is used; it must not get between this machine and
            itself.
    """

    base_url: str
    model: str
    api_key: str = "not-needed"
    through_proxy: bool = True

    @classmethod
    def from_environment(cls, model: str | None = None) -> Connection:
        """Reads OPENAI_BASE_URL, OPENAI_API_KEY and MINILLM_MODEL.

        Without an address it's `minillm serve` on this machine, and the first model that it serves.

        Args:
            model: the model, whatever MINILLM_MODEL says.

        Raises:
            ServerError: if no model is named, and there's no server on this machine to ask.
        """
        address = os.environ.get("OPENAI_BASE_URL")
        key = os.environ.get("OPENAI_API_KEY") or "not-needed"
        base_url, through_proxy = address or LOCAL, bool(address)
        model = model or os.environ.get("MINILLM_MODEL")
        if not model and address:
            raise ServerError(
                f"OPENAI_BASE_URL is {address}, but MINILLM_MODEL isn't set: name a model that it serves (or --model)."
            )
        return cls(base_url, model or _first_model(base_url, key), key, through_proxy)

    def open(self, *, timeout: float = 600.0) -> openai.AsyncOpenAI:
        """A client for the event loop that runs now, which has to close it.

        Args:
            timeout: seconds that one answer may take.
        """
        openai = _openai()
        return openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self.api_key,
            timeout=timeout,
            max_retries=0,  # it's `ask_all` that tries again: it has to know when the server is full
            http_client=openai.DefaultAsyncHttpxClient(trust_env=self.through_proxy),
        )


def _first_model(base_url: str, api_key: str) -> str:
    openai = _openai()
    with openai.OpenAI(
        base_url=base_url,
        api_key=api_key,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    ) as client:
        try:
            models = [model.id for model in client.models.list()]
        except openai.OpenAIError as error:
            raise explain(error, base_url, "") from error
    if not models:
        raise ServerError(f"The server at {base_url} has no models. Set MINILLM_MODEL to the one that's meant.")
    return models[0]


def explain(error: openai.OpenAIError, base_url: str, model: str) -> ServerError:
    """What an error of the client means, and what to do about it."""
    openai = _openai()
    said = _said(error)
    cases: list[tuple[type[Exception], Callable[[], str]]] = [
        (
            openai.APITimeoutError,
            lambda: f"The server at {base_url} gave no answer in time. Is it overloaded or stuck?",
        ),
        (
            openai.APIConnectionError,
            lambda: (
                f"No server answers at {base_url}. Start one with: {START} (or set OPENAI_BASE_URL to the address of "
                "another)."
            ),
        ),
        (
            openai.NotFoundError,
            lambda: f"The server at {base_url} doesn't have the model {model!r} ({said}). Set MINILLM_MODEL.",
        ),
        (
            openai.AuthenticationError,
            lambda: f"The server at {base_url} wants another key: set OPENAI_API_KEY. ({said})",
        ),
    ]
    for kind, message in cases:
        if isinstance(error, kind):
            return ServerError(message())
    return ServerError(f"The server at {base_url} gave no answer: {said}")


def _said(error: openai.OpenAIError) -> str:
    body = getattr(error, "body", None)
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or error)


def _openai() -> Any:
    try:
        import openai
    except ModuleNotFoundError as error:
        raise ServerError("minillm.evaluation needs openai. Run: pip install 'minillm[course]'") from error
    return openai
