"""Which server is asked: the one that the environment names, or `minillm serve` on this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from minillm.rag.errors import ServerError

if TYPE_CHECKING:
    import openai

LOCAL = "http://127.0.0.1:8000/v1"
"""Where `minillm serve` listens, if nothing else is said."""

START = "minillm serve --embedding-model all-minilm-l6-v2"
"""The command that starts a server with all that's needed."""


class Connection:
    """A client, and the models to ask for.

    OPENAI_BASE_URL is the server's address, OPENAI_API_KEY its key, MINILLM_MODEL the model that answers and
    MINILLM_EMBEDDING_MODEL the one that makes embeddings. Without an address it's `minillm serve` on this machine,
    whose first model answers and whose second one makes embeddings.

    Attributes:
        client: of OpenAI's library.
        base_url: the server's address.
    """

    def __init__(self) -> None:
        """Makes the client; nothing is asked before it's needed."""
        import openai

        address = os.environ.get("OPENAI_BASE_URL")
        self.base_url = address or LOCAL
        # A proxy must not get between this machine and itself.
        self._http = openai.DefaultHttpxClient(trust_env=bool(address))
        self.client = openai.OpenAI(
            base_url=self.base_url, api_key=os.environ.get("OPENAI_API_KEY") or "not-needed", http_client=self._http
        )

    @property
    def model(self) -> str:
        """The model that answers.

        Raises:
            ServerError: if none is named and the server can't be asked.
        """
        return os.environ.get("MINILLM_MODEL") or self._served(0, "MINILLM_MODEL", "answers")

    @property
    def embedding_model(self) -> str:
        """The model that makes embeddings.

        Raises:
            ServerError: if none is named and the server can't be asked, or has none.
        """
        return os.environ.get("MINILLM_EMBEDDING_MODEL") or self._served(1, "MINILLM_EMBEDDING_MODEL", "embeds")

    def close(self) -> None:
        """Closes the client's connections."""
        self.client.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _served(self, place: int, variable: str, does: str) -> str:
        if os.environ.get("OPENAI_BASE_URL"):
            raise ServerError(
                f"OPENAI_BASE_URL is {self.base_url}, but {variable} isn't set: name the model that {does}."
            )
        with explained(self.client, "", "a list of its models"):
            names = [model.id for model in self.client.models.list()]
        if len(names) <= place:
            raise ServerError(f"The server at {self.base_url} has no model that {does}. Start it with: {START}")
        return names[place]


@contextmanager
def explained(client: openai.OpenAI, model: str, wanted: str) -> Iterator[None]:
    """Turns the client's errors into one that says what to do. What the client raised is its `__cause__`.

    Raises:
        ServerError: in place of an error of OpenAI's library.
    """
    import openai

    address = str(client.base_url).rstrip("/")
    try:
        yield
    except openai.APIConnectionError as error:  # time-outs too
        raise ServerError(
            f"No server answers at {address}. Start one with: {START} (or set OPENAI_BASE_URL to another's address)."
        ) from error
    except openai.NotFoundError as error:
        raise ServerError(
            f"The server at {address} gives no {wanted} with the model {model!r} ({_said(error)}). "
            f"Minillm's gives both answers and embeddings when it's started with: {START}"
        ) from error
    except openai.AuthenticationError as error:
        raise ServerError(f"The server at {address} wants another key: set OPENAI_API_KEY. ({_said(error)})") from error
    except openai.APIStatusError as error:
        raise ServerError(f"The server at {address} refused to give {wanted}: {_said(error)}") from error
    except openai.OpenAIError as error:
        raise ServerError(f"The server at {address} gave no {wanted} that could be read: {error}") from error


def _said(error: openai.APIStatusError) -> str:
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or error.message)
