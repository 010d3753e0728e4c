"""What the answers look like, for /openapi.json and whoever checks against it.

The endpoints build plain dictionaries: to validate every chunk of a stream would cost more than to make it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class Answer(BaseModel):
    """A part of an answer. Docstrings below its fields are their descriptions."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Status(Answer):
    """The server's state."""

    status: str


class ModelCard(Answer):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    parent: str | None
    """Of a LoRA adapter, the model that it's used with; as vLLM tells it."""


class ModelList(Answer):
    """All models that are served."""

    object: Literal["list"]
    data: list[ModelCard]


class PromptTokensDetails(Answer):
    """Where the prompt's tokens came from."""

    cached_tokens: int
    """Of the prompt's tokens, those that the prefix cache had."""


class Usage(Answer):
    """The tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class LikelyToken(Answer):
    """A token and how likely it was."""

    token: str
    logprob: float
    """The logarithm of its probability, as the model has it: before temperature, penalties and the like."""
    bytes: list[int] | None
    """Its bytes: a token may be a part of a character."""


class TokenLogprob(LikelyToken):
    """A token of the output, and the most likely ones in its place."""

    top_logprobs: list[LikelyToken]


class ChatLogprobs(Answer):
    """Log-probabilities of the tokens of an answer, or of a chunk of it."""

    content: list[TokenLogprob] | None
    refusal: None


class CalledFunction(Answer):
    """A function to call."""

    name: str
    arguments: str
    """JSON that follows the tool's schema; its beginning, if the answer was cut off."""


class ToolCall(Answer):
    """A call of one of the tools."""

    id: str
    """What the message with its result has to name."""
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(Answer):
    """What the model answered."""

    role: Literal["assistant"]
    content: str | None
    """Null where there are only calls."""
    refusal: None
    tool_calls: list[ToolCall] | None = None
    """There if tools were called."""


class ChatChoice(Answer):
    """One of the n answers."""

    index: int
    message: ChatMessage
    finish_reason: FinishReason
    logprobs: ChatLogprobs | None


class ChatCompletion(Answer):
    """An answer to a conversation."""

    id: str
    object: Literal["chat.completion"]
    created: int
    """Seconds since 1970."""
    model: str
    system_fingerprint: str
    """A hash over all that can change the numbers: weights, tokenizer, dtype, settings."""
    choices: list[ChatChoice]
    usage: Usage


class CompletionLogprobs(Answer):
    """Log-probabilities of the tokens of a text: lists side by side."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]
    """Where in the text each token begins, in characters."""


class CompletionChoice(Answer):
    """One of the texts."""

    index: int
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: CompletionLogprobs | None


class Completion(Answer):
    """Texts, continued."""

    id: str
    object: Literal["text_completion"]
    created: int
    """Seconds since 1970."""
    model: str
    system_fingerprint: str
    """A hash over all that can change the numbers: weights, tokenizer, dtype, settings."""
    choices: list[CompletionChoice]
    """n for each prompt, in the order of the prompts."""
    usage: Usage


class Embedding(Answer):
    """One text's vector."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str
    """Numbers, or base64 of little-endian float32."""


class EmbeddingUsage(Answer):
    """The tokens of the texts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Answer):
    """A vector for each text, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class ResponseUsage(Answer):
    """The tokens of a response."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class ResponseObject(Answer):
    """An answer to an input, with the request's settings."""

    id: str
    """What a request that goes on from here names as previous_response_id."""
    object: Literal["response"]
    created_at: float
    """Seconds since 1970."""
    model: str
    status: Literal["completed", "incomplete", "failed", "in_progress"]
    incomplete_details: dict[str, str] | None
    """Why it's incomplete."""
    output: list[dict[str, Any]]
    """Messages and function calls, in the order in which they were made."""
    usage: ResponseUsage | None


class DeletedResponse(Answer):
    """An answer that is forgotten."""

    id: str
    object: Literal["response"]
    deleted: bool


class ItemList(Answer):
    """A page of a response's input."""

    object: Literal["list"]
    data: list[dict[str, Any]]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Tokens(Answer):
    """What a text is to the model."""

    count: int
    max_model_len: int
    """The most tokens that the model takes, prompt and output together."""
    tokens: list[int]
    token_strs: list[str] | None


class Text(Answer):
    """The text of tokens."""

    prompt: str


def answers(model: type[Answer], *, stream: str | None = None) -> dict[int | str, dict[str, Any]]:
    """What FastAPI takes as `responses` of an endpoint.

    Args:
        model: of the whole answer.
        stream: what the server-sent events are, for an endpoint that can stream.
    """
    response: dict[str, Any] = {"model": model, "description": (model.__doc__ or "").splitlines()[0]}
    if stream is not None:
        event = {
            "type": "object",
            "description": f"Server-sent events, with stream=true. {stream}",
            "properties": {"event": {"type": "string"}, "data": {"type": "string"}},
            "required": ["data"],
        }
        response["content"] = {"text/event-stream": {"schema": event}}
    return {200: response}
