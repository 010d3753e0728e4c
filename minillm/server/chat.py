"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from minillm.engine import OutputChunk, RequestOutput
from minillm.errors import InvalidRequestError
from minillm.sampling import SamplingParams, TokenLogprobs
from minillm.sampling.params import MAX_LOGPROBS
from minillm.server.generation import Events, Service, respond
from minillm.server.protocol import FailFastList, GenerationRequest, Reply, Tally
from minillm.structured import Grammar
from minillm.text import Tokenizer

DEFAULT_MAX_TOKENS = 512


class ChatCompletionRequest(GenerationRequest):
    """The body of a request."""

    unsupported: ClassVar[dict[str, tuple[Any, ...]]] = {
        "tools": (None, []),
        "functions": (None, []),
        "tool_choice": (None, "none", "auto"),
        "function_call": (None, "none", "auto"),
        "modalities": (None, ["text"]),
        "audio": (None,),
        "prediction": (None,),
        "web_search_options": (None,),
        "reasoning_effort": (None, "none"),
    }

    messages: FailFastList[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    response_format: dict[str, Any] | None = None

    def sampling_params(self, **more: Any) -> SamplingParams:
        """The request's `SamplingParams`, with `more` of their fields.

        Raises:
            InvalidRequestError: for a value out of range, or a field that isn't supported.
        """
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequestError("top_logprobs needs logprobs=true.", param="top_logprobs")
        max_tokens = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        return self.build_sampling_params(
            max_tokens=DEFAULT_MAX_TOKENS if max_tokens is None else max_tokens,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            **more,
        )


def response_grammar(response_format: dict[str, Any] | None) -> Grammar | None:
    """What the answer has to follow. None for plain text.

    Raises:
        InvalidRequestError: for a form that isn't known, or a schema that isn't one.
    """
    match response_format:
        case None | {"type": "text"}:
            return None
        case {"type": "json_object"}:
            return Grammar.json_object()
        case {"type": "json_schema", "json_schema": {"schema": dict() as schema}}:
            # Strict or not: the output follows the schema.
            return Grammar.json_schema(schema)
    raise InvalidRequestError(
        'response_format has to be {"type": "text"}, {"type": "json_object"}, or {"type": "json_schema", '
        f'"json_schema": {{"name": …, "schema": {{…}}}}}}; got {str(response_format)[:200]}.',
        "response_format",
    )


def chat_messages(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as small models' templates know them: no `developer` (OpenAI's newer `system`), no null content."""
    return [
        message
        | {
            "role": "system" if message.get("role") == "developer" else message.get("role"),
            "content": "" if message.get("content") is None else message["content"],
        }
        for message in messages
    ]


def chat_router(service: Service) -> APIRouter:
    """The endpoint."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat_completions(body: ChatCompletionRequest, request: Request) -> Response:
        """Answers a conversation."""
        service.check_model(body.model)
        grammar = response_grammar(body.response_format)
        if grammar is not None:
            await service.compile(grammar)
        params = body.sampling_params(grammar=grammar)
        tokenizer = service.llm.tokenizer
        prompt = await service.tokenized(request, lambda: tokenizer.apply_chat_template(chat_messages(body.messages)))
        tally = Tally(len(prompt))
        kind = "chat.completion.chunk" if body.stream else "chat.completion"
        reply = Reply("chatcmpl", kind, service.llm.fingerprint, body, tally)
        events = service.generate(request, [prompt], params)
        return await respond(request, events, ChatAnswer(reply, tokenizer, params.n), stream=body.stream)

    return router


class ChatAnswer:
    """Builds a `chat.completion`, or its chunks."""

    def __init__(self, reply: Reply, tokenizer: Tokenizer, n: int) -> None:
        self.reply, self.tokenizer, self.n = reply, tokenizer, n
        self.tally = reply.tally

    async def whole(self, events: Events) -> dict[str, Any]:
        """The one object, when all events have come."""
        outputs: dict[int, RequestOutput] = {}
        async for index, event in events:
            self.tally.add(event)
            if isinstance(event, RequestOutput):
                outputs[index] = event
        return self.reply.whole([self._choice(index, outputs[index]) for index in sorted(outputs)])

    def _choice(self, index: int, output: RequestOutput) -> dict[str, Any]:
        return {
            "index": index,
            "message": {"role": "assistant", "content": output.text, "refusal": None},
            "finish_reason": output.finish_reason,
            "logprobs": chat_logprobs(self.tokenizer, output.logprobs),
        }

    async def chunks(self, events: Events) -> AsyncIterator[dict[str, Any]]:
        """For each choice the role, the text as it comes, the finish reason; then the usage."""
        for index in range(self.n):
            yield self._chunk(index, {"role": "assistant", "content": ""})
        finished: set[int] = set()
        async for index, event in events:
            self.tally.add(event)
            if isinstance(event, OutputChunk) and (event.text or event.logprobs):
                yield self._chunk(index, {"content": event.text}, logprobs=event.logprobs)
            # An output that ends for want of room has no last chunk.
            if isinstance(event, OutputChunk | RequestOutput) and event.finish_reason and index not in finished:
                finished.add(index)
                yield self._chunk(index, {}, event.finish_reason)
        if self.reply.include_usage:
            yield self.reply.usage_chunk()

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: Sequence[TokenLogprobs] | None = None,
    ) -> dict[str, Any]:
        entries = chat_logprobs(self.tokenizer, logprobs)
        return self.reply.chunk({"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": entries})


def chat_logprobs(tokenizer: Tokenizer, entries: Sequence[TokenLogprobs] | None) -> dict[str, Any] | None:
    """Log-probabilities in OpenAI's form, each token with its bytes."""
    if entries is None:
        return None

    def token(token_id: int, logprob: float) -> dict[str, Any]:
        raw = tokenizer.token_bytes(token_id)
        return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}

    content = [
        {**token(each.token_id, each.logprob), "top_logprobs": [token(*top) for top in each.top]} for each in entries
    ]
    return {"content": content, "refusal": None}
