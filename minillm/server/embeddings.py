"""`/v1/embeddings`: texts in, vectors out, as OpenAI's API has it."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, WithJsonSchema

from minillm.engine.embedding import EmbeddingModel, Vectors, shorten
from minillm.errors import InvalidRequestError
from minillm.server.errors import ClientGoneError, UnknownModelError
from minillm.server.protocol import Body
from minillm.server.schemas import EmbeddingList, answers

MAX_INPUTS = 2048
"""The most texts of a request, as in OpenAI's API."""

_TOKEN_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_INPUTS}
_MANY_TOKEN_IDS = {"type": "array", "items": _TOKEN_IDS, "minItems": 1, "maxItems": MAX_INPUTS}


class EmbeddingRequest(Body):
    """The body of POST /v1/embeddings: OpenAI's fields, and `truncate`."""

    model: str
    """One of those that /v1/models lists."""
    # Checked by the model, whose message says which text is wrong; one from here would list four types.
    input: Annotated[Any, WithJsonSchema({"anyOf": [{"type": "string"}, _TEXTS, _TOKEN_IDS, _MANY_TOKEN_IDS]})]
    """A text, a list of texts, or token ids of one or several."""
    dimensions: int | None = Field(None, ge=1)
    """Keep only so many of a vector's numbers, and make its length 1 again."""
    encoding_format: Literal["float", "base64"] | None = "float"
    """Numbers, or base64 of little-endian float32: a quarter of the size, and exact."""
    truncate: bool = False
    """Cut off what is longer than the model reads, in place of refusing it."""

    def texts(self) -> list[Any]:
        """The texts, or lists of token ids, as a list even where there is one.

        Raises:
            InvalidRequestError: for something else, nothing, or too much.
        """
        texts = self.input
        if isinstance(texts, str) or (isinstance(texts, list) and texts and all(type(item) is int for item in texts)):
            texts = [texts]
        if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_INPUTS:
            raise InvalidRequestError(
                f"input must be a text, a list of token ids, or a list of 1 to {MAX_INPUTS} of either.", "input"
            )
        return texts


def embeddings_router(get_model: Callable[[], EmbeddingModel]) -> APIRouter:
    """The endpoint. `get_model` may load the model when it's first called; it's called from a worker thread."""
    router = APIRouter()
    # One batch at a time: between two of them, other requests have their turn, and clients that left are noticed.
    one_at_a_time = CapacityLimiter(1)

    @router.post("/v1/embeddings", responses=answers(EmbeddingList))
    async def embeddings(body: EmbeddingRequest, request: Request) -> Response:
        """A vector for each text."""
        model = await run_sync(get_model, limiter=one_at_a_time)
        if body.model != model.model_name:
            raise UnknownModelError(f"{body.model!r:.200} makes no embeddings here; {model.model_name!r} does.")
        model.check_dimensions(body.dimensions)
        token_ids = await run_sync(lambda: model.encode(body.texts(), truncate=body.truncate))
        num_tokens = sum(map(len, token_ids))
        request.state.tenant.charge(num_tokens)
        vectors = np.empty((len(token_ids), model.dimensions), dtype=np.float32)
        for batch in model.batches(token_ids):
            if await request.is_disconnected():
                raise ClientGoneError
            vectors[batch] = await run_sync(model.embed_batch, [token_ids[i] for i in batch], limiter=one_at_a_time)
        return await run_sync(_reply, shorten(vectors, body.dimensions), model.model_name, num_tokens, body)

    return router


def _reply(vectors: Vectors, model_name: str, num_tokens: int, body: EmbeddingRequest) -> Response:
    values: list[Any] = vectors.tolist()
    if body.encoding_format == "base64":  # OpenAI's client asks for it: a quarter of the size, and exact
        values = [base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii") for vector in vectors]
    data = [{"object": "embedding", "index": i, "embedding": value} for i, value in enumerate(values)]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return JSONResponse({"object": "list", "data": data, "model": model_name, "usage": usage})
