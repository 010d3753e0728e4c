"""POST /tokenize and /detokenize, as vLLM has them: what a text or a conversation is to the model."""

from __future__ import annotations

import reprlib
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field

from minillm.errors import InvalidRequestError
from minillm.server.generation import Service
from minillm.server.protocol import Body, ChatMessages, FailFastList
from minillm.server.schemas import Text, Tokens, answers
from minillm.server.tools import prepare_tools


class TokenizeRequest(Body):
    """A text or a conversation."""

    model: str | None = None
    """The one that is served, if it's there at all."""
    prompt: str | None = None
    """The text; or give messages."""
    messages: ChatMessages | None = Field(None, min_length=1)
    """The conversation, which is put into the model's chat template."""
    tools: list[Any] | None = None
    """What the conversation's model may call, as in /v1/chat/completions."""
    add_special_tokens: bool = True
    """Put before and behind a text what the model expects there."""
    add_generation_prompt: bool = True
    """End a conversation with the beginning of an answer."""
    return_token_strs: bool = False
    """Tell the text of each token, too."""


class DetokenizeRequest(Body):
    """Token ids."""

    model: str | None = None
    """The one that is served, if it's there at all."""
    tokens: FailFastList[int]
    """Token ids."""


def tokens_router(service: Service) -> APIRouter:
    """The endpoints."""
    router = APIRouter()
    tokenizer = service.llm.tokenizer

    @router.post("/tokenize", response_model=None, responses=answers(Tokens))
    async def tokenize(body: TokenizeRequest, request: Request) -> dict[str, Any]:
        """Token ids of a text, or of a conversation in the model's chat template."""
        if body.model is not None:
            service.adapter_of(body.model)
        if (body.prompt is None) == (body.messages is None):
            raise InvalidRequestError("Give either prompt or messages.", "prompt")

        def encode() -> list[int]:
            if body.prompt is not None:
                return tokenizer.encode(body.prompt, add_special_tokens=body.add_special_tokens)
            return prepare_tools(
                tokenizer, body.messages or [], tools=body.tools, add_generation_prompt=body.add_generation_prompt
            ).prompt_token_ids

        ids = await service.tokenized(request, encode)
        strings = [tokenizer.token_bytes(token).decode("utf-8", "replace") for token in ids]
        return {
            "count": len(ids),
            "max_model_len": service.llm.max_model_len,
            "tokens": ids,
            "token_strs": strings if body.return_token_strs else None,
        }

    @router.post("/detokenize", response_model=None, responses=answers(Text))
    async def detokenize(body: DetokenizeRequest, request: Request) -> dict[str, Any]:
        """The text of token ids."""
        if body.model is not None:
            service.adapter_of(body.model)
        if bad := [token for token in body.tokens if not 0 <= token < tokenizer.vocab_size]:
            raise InvalidRequestError(
                f"tokens has {reprlib.repr(bad[0])}; the vocabulary has the tokens 0 to {tokenizer.vocab_size - 1}.",
                "tokens",
            )
        text = await service.tokenized(request, lambda: tokenizer.decode(body.tokens, skip_special_tokens=False))
        return {"prompt": text}

    return router
