"""Vectors for texts, from whatever server the client talks to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from minillm.rag.connection import explained
from minillm.rag.errors import ServerError

if TYPE_CHECKING:
    import openai

Vectors: TypeAlias = np.ndarray[tuple[int, int], np.dtype[np.float32]]

_SHORTEST = 40  # characters: a text that's refused at this length isn't refused for its length


class EmbedsTexts(Protocol):
    """What an index asks for vectors. `Embedder` is one; anything with these two will do."""

    @property
    def model(self) -> str:
        """What makes the vectors. An index keeps to one: vectors of two models can't be compared."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector of length 1 for each text, [len(texts), dimensions]."""
        ...


class Embedder:
    """Asks /v1/embeddings.

    Attributes:
        model: what is asked for as `model`.
    """

    def __init__(self, client: openai.OpenAI, model: str) -> None:
        self.model = model
        self._client = client

    def embed(self, texts: Sequence[str]) -> Vectors:
        """A vector for each text, in one request if the server takes all of them.

        A text that is longer than the model reads is embedded in halves; its vector is their mean, by their lengths.

        Returns:
            [len(texts), dimensions] float32, each of length 1.

        Raises:
            ServerError: if the server can't be reached or refuses.
        """
        import openai

        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        try:
            with explained(self._client, self.model, "embeddings"):
                reply = self._client.embeddings.create(model=self.model, input=list(texts))
        except ServerError as error:
            if not isinstance(error.__cause__, openai.BadRequestError):
                raise
            return self._in_parts(texts, error)
        vectors = np.array([item.embedding for item in reply.data], dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise ServerError(f"{self.model} gave vectors of shape {vectors.shape} for {len(texts)} texts.")
        return _scaled(vectors)

    def _in_parts(self, texts: Sequence[str], refusal: ServerError) -> Vectors:
        """The server says which text is too long in words of its own, so it's found by halving."""
        if len(texts) > 1:
            middle = len(texts) // 2
            return np.concatenate([self.embed(texts[:middle]), self.embed(texts[middle:])])
        text = texts[0]
        if len(text) <= _SHORTEST:
            raise refusal
        middle = text.rfind(" ", len(text) // 4, len(text) // 2 + 1)
        middle = len(text) // 2 if middle < 0 else middle
        parts = [text[:middle], text[middle:].lstrip()]
        lengths = np.array([[len(part)] for part in parts], dtype=np.float32)
        return _scaled((self.embed(parts) * lengths).sum(axis=0, keepdims=True))


def _scaled(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled
