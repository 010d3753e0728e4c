"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from minillm.engine import OutputChunk, RequestOutput
from minillm.errors import InvalidRequestError
from minillm.sampling import SamplingParams, TokenLogprobs
from minillm.sampling.params import MAX_LOGPROBS
from minillm.server.generation import Events, Service, respond
from minillm.server.protocol import ChatMessages, GenerationRequest, Reply, Tally
from minillm.server.schemas import ChatCompletion, answers
from minillm.server.tools import prepare_tools
from minillm.structured import Grammar
from minillm.structured.tool_calls import (
    ArgumentsDelta,
    PreparedChat,
    TextDelta,
    ToolCall,
    ToolCallBegin,
    ToolCallParser,
    ToolEvent,
    collect_events,
)
from minillm.text import Tokenizer

DEFAULT_MAX_TOKENS = 512
_STREAM = "Each is a chat.completion.chunk: choices with a delta of the message; the last one is [DONE]."


class ChatCompletionRequest(GenerationRequest):
    """The body of a request."""

    unsupported: ClassVar[dict[str, tuple[Any, ...]]] = {
        "functions": (None, []),
        "function_call": (None, "none", "auto"),
        "modalities": (None, ["text"]),
        "audio": (None,),
        "prediction": (None,),
        "web_search_options": (None,),
        "reasoning_effort": (None, "none"),
    }

    messages: ChatMessages = Field(min_length=1)
    """The conversation so far: objects with `role` and `content`."""
    max_completion_tokens: int | None = Field(None, ge=1)
    """The most tokens to generate; goes before max_tokens."""
    logprobs: bool | None = None
    """Tell the log-probability of each token."""
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    """Tell those of so many of the most likely tokens, too."""
    response_format: dict[str, Any] | None = None
    """{"type": "json_object"}, or {"type": "json_schema", "json_schema": {"name": …, "schema": …}}: what the answer
    has to be. Tokens that don't fit are never chosen."""
    tools: list[Any] | None = None
    """Functions that the model may call: {"type": "function", "function": {"name", "description", "parameters"}}."""
    tool_choice: str | dict[str, Any] | None = None
    """"none", "auto", "required", or {"type": "function", "function": {"name": …}} for a call of that one."""
    parallel_tool_calls: bool | None = None
    """Let several calls follow each other. Not given: where the model is free to call, not where it has to."""

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
            try:
                return Grammar.json_schema(schema)
            except InvalidRequestError as error:
                raise InvalidRequestError(str(error), "response_format") from None
    raise InvalidRequestError(
        'response_format has to be {"type": "text"}, {"type": "json_object"}, or {"type": "json_schema", '
        f'"json_schema": {{"name": …, "schema": {{…}}}}}}; got {str(response_format)[:200]}.',
        "response_format",
    )


def chat_router(service: Service) -> APIRouter:
    """The endpoint."""
    router = APIRouter()

    @router.post("/v1/chat/completions", responses=answers(ChatCompletion, stream=_STREAM))
    async def chat_completions(body: ChatCompletionRequest, request: Request) -> Response:
        """Answers a conversation."""
        fingerprint = service.fingerprint_of(body.model)  # an unknown model is told first
        answer = response_grammar(body.response_format)
        body.sampling_params(grammar=answer)  # a wrong field is told before anything is done
        tokenizer = service.llm.tokenizer

        def prepare() -> PreparedChat:
            return prepare_tools(
                tokenizer,
                body.messages,
                tools=body.tools,
                tool_choice=body.tool_choice,
                parallel_tool_calls=body.parallel_tool_calls,
                answer=answer,
            )

        chat = await service.tokenized(request, prepare)
        if chat.grammar is not None:
            await service.compile(chat.grammar)
        params = body.sampling_params(grammar=chat.grammar)
        tally = Tally(len(chat.prompt_token_ids))
        kind = "chat.completion.chunk" if body.stream else "chat.completion"
        reply = Reply("chatcmpl", kind, fingerprint, body, tally)
        events = service.generate(request, [chat.prompt_token_ids], params, body.model)
        chat_answer = ChatAnswer(reply, tokenizer, params.n, chat.new_parser)
        return await respond(request, events, chat_answer, stream=body.stream)

    return router


class ChatAnswer:
    """Builds a `chat.completion`, or its chunks."""

    def __init__(
        self, reply: Reply, tokenizer: Tokenizer, n: int, new_parser: Callable[[], ToolCallParser | None]
    ) -> None:
        """Args:
        reply: what the objects have in common.
        tokenizer: of the model.
        n: how many choices there are.
        new_parser: looks for tool calls in a choice's output, if there may be any.
        """
        self.reply, self.tokenizer, self.n = reply, tokenizer, n
        self.tally = reply.tally
        self._parsers = [new_parser() for _ in range(n)]

    async def whole(self, events: Events) -> dict[str, Any]:
        """The one object, when all events have come."""
        outputs: dict[int, RequestOutput] = {}
        async for index, event in events:
            self.tally.add(event)
            if isinstance(event, RequestOutput):
                outputs[index] = event
        return self.reply.whole([self._choice(index, outputs[index]) for index in sorted(outputs)])

    def _choice(self, index: int, output: RequestOutput) -> dict[str, Any]:
        text, calls = collect_events(self._read(index, output.text) + self._finish(index))
        message = {"role": "assistant", "content": text or None if calls else text, "refusal": None}
        return {
            "index": index,
            "message": message | ({"tool_calls": [call.as_dict() for call in calls]} if calls else {}),
            "finish_reason": self._finish_reason(index, output.finish_reason),
            "logprobs": chat_logprobs(self.tokenizer, output.logprobs),
        }

    async def chunks(self, events: Events) -> AsyncIterator[dict[str, Any]]:
        """For each choice the role, the text and the calls as they come, the finish reason; then the usage."""
        for index in range(self.n):
            # Where calls may follow, there may be no content at all.
            content = "" if self._parsers[index] is None else None
            yield self._chunk(index, {"role": "assistant", "content": content})
        finished: set[int] = set()
        async for index, event in events:
            self.tally.add(event)
            if isinstance(event, OutputChunk):
                for chunk in self._pieces(index, event):
                    yield chunk
            # An output that ends for want of room has no last chunk.
            reason = event.finish_reason if isinstance(event, OutputChunk | RequestOutput) else None
            if reason and index not in finished:
                finished.add(index)
                for delta in _deltas(self._finish(index)):
                    yield self._chunk(index, delta)
                yield self._chunk(index, {}, self._finish_reason(index, reason))
        if self.reply.include_usage:
            yield self.reply.usage_chunk()

    def _pieces(self, index: int, chunk: OutputChunk) -> Iterator[dict[str, Any]]:
        """What the engine's chunk brings; its log-probabilities with the first piece, or alone."""
        logprobs = chunk.logprobs
        for delta in _deltas(self._read(index, chunk.text)) or ([{}] if logprobs else []):
            yield self._chunk(index, delta, logprobs=logprobs)
            logprobs = None

    def _read(self, index: int, text: str) -> list[ToolEvent]:
        """What a piece of a choice's output is: text or calls."""
        parser = self._parsers[index]
        if parser is not None:
            return parser.push(text)
        return [TextDelta(text)] if text else []

    def _finish(self, index: int) -> list[ToolEvent]:
        parser = self._parsers[index]
        return [] if parser is None else parser.finish()

    def _finish_reason(self, index: int, reason: str) -> str:
        parser = self._parsers[index]
        return "tool_calls" if parser is not None and parser.num_calls and reason == "stop" else reason

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        finish_reason: str | None = None,
        logprobs: Sequence[TokenLogprobs] | None = None,
    ) -> dict[str, Any]:
        entries = chat_logprobs(self.tokenizer, logprobs)
        return self.reply.chunk({"index": index, "delta": delta, "finish_reason": finish_reason, "logprobs": entries})


def _deltas(events: Sequence[ToolEvent]) -> list[dict[str, Any]]:
    """Pieces of a message in a stream. The end of a call is none: the next piece tells it."""
    deltas: list[dict[str, Any]] = []
    for event in events:
        match event:
            case TextDelta(text):
                deltas.append({"content": text})
            case ToolCallBegin(index, call_id, name):
                deltas.append({"tool_calls": [{"index": index, **ToolCall(call_id, name, "").as_dict()}]})
            case ArgumentsDelta(index, text):
                deltas.append({"tool_calls": [{"index": index, "function": {"arguments": text}}]})
    return deltas


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
