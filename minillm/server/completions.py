"""POST /v1/completions: texts, or token ids, to be continued as they are."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import Field

from minillm.engine import OutputChunk, RequestOutput
from minillm.errors import InvalidRequestError
from minillm.sampling import SamplingParams, TokenLogprobs
from minillm.sampling.params import MAX_LOGPROBS, MAX_N
from minillm.server.generation import Events, Service, respond
from minillm.server.protocol import GenerationRequest, Reply, Tally
from minillm.server.schemas import Completion, answers
from minillm.text import Tokenizer

DEFAULT_MAX_TOKENS = 16
_STREAM = "Each is a text_completion with the text that is new; the last one is [DONE]."


class CompletionRequest(GenerationRequest):
    """The body of a request."""

    unsupported: ClassVar[dict[str, tuple[Any, ...]]] = {
        "suffix": (None, ""),
        "response_format": (None, {"type": "text"}),
    }

    prompt: str | list[Any]
    """A text, a list of texts, of token ids, or of lists of token ids."""
    echo: bool | None = False
    """Put the prompt before the output."""
    best_of: int | None = None
    """Has to be n, if it's there at all."""
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    """Tell the log-probability of each token, and of so many of the most likely ones."""

    def sampling_params(self, **more: Any) -> SamplingParams:
        """The request's `SamplingParams`, with `more` of their fields.

        Raises:
            InvalidRequestError: for a value out of range, or a field that isn't supported.
        """
        if self.best_of not in (None, self.n or 1):
            raise InvalidRequestError(f"best_of={self.best_of} is not supported by this server.", param="best_of")
        if self.echo and self.logprobs is not None:
            raise InvalidRequestError("echo with logprobs is not supported by this server.", param="echo")
        max_tokens = DEFAULT_MAX_TOKENS if self.max_tokens is None else self.max_tokens
        return self.build_sampling_params(max_tokens=max_tokens, logprobs=self.logprobs, **more)

    def prompts(self, tokenizer: Tokenizer) -> list[list[int]]:
        """Token ids of each prompt.

        Raises:
            InvalidRequestError: unless `prompt` is a text, a list of texts, of token ids, or of lists of token ids.
        """
        prompt = self.prompt
        if isinstance(prompt, str):
            return [tokenizer.encode(prompt)]
        if _are_ids(prompt):
            return [prompt]
        if (outputs := len(prompt) * (self.n or 1)) > MAX_N:
            raise InvalidRequestError(
                f"{len(prompt)} prompts with n={self.n or 1} are {outputs} outputs; a request may have {MAX_N}. "
                "Send several.",
                "prompt",
            )
        if prompt and all(isinstance(each, str) for each in prompt):
            return [tokenizer.encode(each) for each in prompt]
        if prompt and all(_are_ids(each) for each in prompt):
            return prompt
        raise InvalidRequestError(
            "prompt must be a text, a list of texts, a list of token ids, or a list of such lists; none of them empty.",
            "prompt",
        )

    def echoes(self, tokenizer: Tokenizer, prompts: Sequence[list[int]]) -> list[str]:
        """What comes before each prompt's outputs: its text as it was given, or nothing."""
        if not self.echo:
            return [""] * len(prompts)
        texts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if isinstance(texts[0], str):
            return texts
        return [tokenizer.decode(prompt, skip_special_tokens=False) for prompt in prompts]


def _are_ids(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)


def completions_router(service: Service) -> APIRouter:
    """The endpoint."""
    router = APIRouter()

    @router.post("/v1/completions", responses=answers(Completion, stream=_STREAM))
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Continues a text, or several."""
        fingerprint = service.fingerprint_of(body.model)  # an unknown model is told first
        params = body.sampling_params()
        tokenizer = service.llm.tokenizer
        prompts = await service.tokenized(request, lambda: body.prompts(tokenizer))
        tally = Tally(sum(map(len, prompts)))
        reply = Reply("cmpl", "text_completion", fingerprint, body, tally)
        events = service.generate(request, prompts, params, body.model)
        echoes = [echo for echo in body.echoes(tokenizer, prompts) for _ in range(params.n)]
        return await respond(request, events, CompletionAnswer(reply, tokenizer, echoes), stream=body.stream)

    return router


class CompletionAnswer:
    """Builds a `text_completion`, whole or in chunks."""

    def __init__(self, reply: Reply, tokenizer: Tokenizer, echoes: Sequence[str]) -> None:
        self.reply, self.echoes = reply, echoes  # for each choice the text that comes before its output
        self.tally = reply.tally
        self._logprobs = [CompletionLogprobs(tokenizer) for _ in echoes]

    async def whole(self, events: Events) -> dict[str, Any]:
        """The one object, when all events have come."""
        outputs: dict[int, RequestOutput] = {}
        async for index, event in events:
            self.tally.add(event)
            if isinstance(event, RequestOutput):
                outputs[index] = event
        return self.reply.whole(
            [
                self._choice(index, self.echoes[index] + output.text, output.finish_reason, output.logprobs)
                for index, output in sorted(outputs.items())
            ]
        )

    async def chunks(self, events: Events) -> AsyncIterator[dict[str, Any]]:
        """For each choice the echo, the text as it comes, the finish reason; then the usage."""
        for index, echo in enumerate(self.echoes):
            if echo:
                yield self.reply.chunk(self._choice(index, echo))
        finished: set[int] = set()
        async for index, event in events:
            self.tally.add(event)
            if isinstance(event, OutputChunk) and (event.text or event.logprobs or event.finish_reason):
                finished |= {index} if event.finish_reason else set()
                yield self.reply.chunk(self._choice(index, event.text, event.finish_reason, event.logprobs))
            elif isinstance(event, RequestOutput) and index not in finished:  # it ended for want of room
                yield self.reply.chunk(self._choice(index, "", event.finish_reason))
        if self.reply.include_usage:
            yield self.reply.usage_chunk()

    def _choice(
        self,
        index: int,
        text: str,
        finish_reason: str | None = None,
        logprobs: Sequence[TokenLogprobs] | None = None,
    ) -> dict[str, Any]:
        entries = None if logprobs is None else self._logprobs[index].take(logprobs)
        return {"index": index, "text": text, "finish_reason": finish_reason, "logprobs": entries}


class CompletionLogprobs:
    """Log-probabilities in the form of this endpoint: lists side by side, and where in the text each token begins."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # counts characters that are complete

    def take(self, entries: Sequence[TokenLogprobs]) -> dict[str, Any]:
        """The next tokens of the output."""
        offsets = [self._advance(each.token_id) for each in entries]
        return {
            "tokens": [self._name(each.token_id) for each in entries],
            "token_logprobs": [each.logprob for each in entries],
            "top_logprobs": [{self._name(token): logprob for token, logprob in each.top} for each in entries],
            "text_offset": offsets,
        }

    def _advance(self, token_id: int) -> int:
        """Goes past a token; returns where it began."""
        special = token_id in self._tokenizer.special_token_ids  # not part of the text
        raw = b"" if special else self._tokenizer.token_bytes(token_id)
        begin = self._offset
        if raw and self._decoder.getstate()[0] and not 0x80 <= raw[0] < 0xC0:
            begin += 1  # half a character that stays one becomes U+FFFD
        self._offset += len(self._decoder.decode(raw))
        return begin

    def _name(self, token_id: int) -> str:
        """A token's text; of half a character the bytes, so that two such tokens have two names."""
        raw = self._tokenizer.token_bytes(token_id)
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
