"""The chat completions API: what comes in, checked, and what goes out.

Fields that change the answer and aren't supported are refused by name. Unknown and advisory ones (`user`, `store`,
`metadata`, …) are accepted, because clients send them.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from minillm.engine.request import RequestOutput
from minillm.errors import InvalidRequestError
from minillm.sampling import SamplingParams, TokenLogprobs
from minillm.sampling.params import MAX_LOGPROBS
from minillm.text import Tokenizer

DEFAULT_MAX_TOKENS = 512
# Each would change the answer. The value tells what's the same as not asking.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "tools": (None, []),
    "functions": (None, []),
    "tool_choice": (None, "none", "auto"),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "web_search_options": (None,),
    "reasoning_effort": (None, "none"),
    "n": (None, 1),
}


_SAMPLING_FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "seed",
    "stop",
)
# These mean the same to `SamplingParams`.
_SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "logit_bias", "seed", "stop"),
    *("repetition_penalty", "presence_penalty", "frequency_penalty"),
)


class StreamOptions(BaseModel):
    """`stream_options` of a request."""

    include_usage: bool = False


class ChatCompletionRequest(BaseModel):
    """The body of POST /v1/chat/completions; OpenAI's fields, and vLLM's `top_k`, `min_p`, `repetition_penalty`."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[dict[str, Any]] = Field(min_length=1)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[int, float] | None = None
    seed: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: str | list[str] | None = None
    ignore_eos: bool = False
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    def chat_messages(self) -> list[dict[str, Any]]:
        """The messages as chat templates know them."""
        return [_chat_message(message) for message in self.messages]

    def sampling_params(self) -> SamplingParams:
        """The request's `SamplingParams`; what isn't given has the API's default.

        Raises:
            InvalidRequestError: for a value out of range, or a field that isn't supported.
        """
        for name, harmless in _UNSUPPORTED.items():
            if (value := (self.model_extra or {}).get(name)) not in harmless:
                raise InvalidRequestError(f"{name}={value!r} is not supported by this server.", param=name)
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequestError("top_logprobs needs logprobs=true.", param="top_logprobs")
        given = {name: value for name in _SAMPLING_FIELDS if (value := getattr(self, name)) is not None}
        max_tokens = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        return SamplingParams(
            max_tokens=DEFAULT_MAX_TOKENS if max_tokens is None else max_tokens,
            ignore_eos=self.ignore_eos,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            **given,
        )


def _chat_message(message: dict[str, Any]) -> dict[str, Any]:
    """Adapts a message to small models: they know no `developer` (OpenAI's newer `system`), and no null content."""
    role, content = message.get("role"), message.get("content")
    return message | {"role": "system" if role == "developer" else role, "content": "" if content is None else content}


class Reply:
    """Builds the objects that answer one request; they share its id and time."""

    def __init__(self, model: str, fingerprint: str, tokenizer: Tokenizer, *, include_usage: bool = False) -> None:
        self.tokenizer = tokenizer
        self.include_usage = include_usage
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }

    def whole(self, output: RequestOutput) -> dict[str, Any]:
        """A `chat.completion`."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": output.text, "refusal": None},
            "finish_reason": output.finish_reason,
            "logprobs": self.logprobs(output.logprobs),
        }
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage(output)}

    def chunk(
        self, delta: dict[str, Any], finish_reason: str | None = None, logprobs: list[TokenLogprobs] | None = None
    ) -> dict[str, Any]:
        """A `chat.completion.chunk` with one choice."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": self.logprobs(logprobs)}
        # Where usage comes at the end, the API has the other chunks say that it isn't there yet.
        head = {**self._head, "usage": None} if self.include_usage else self._head
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}

    def usage_chunk(self, output: RequestOutput) -> dict[str, Any]:
        """The last chunk of a stream that asked for usage: no choices."""
        return {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage(output)}

    def logprobs(self, entries: list[TokenLogprobs] | None) -> dict[str, Any] | None:
        """Log-probabilities in OpenAI's form, each token with its bytes."""
        if entries is None:
            return None

        def token(token_id: int, logprob: float) -> dict[str, Any]:
            raw = self.tokenizer.token_bytes(token_id)
            return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}

        content = [
            {**token(e.token_id, e.logprob), "top_logprobs": [token(i, logprob) for i, logprob in e.top]}
            for e in entries
        ]
        return {"content": content, "refusal": None}


def usage(output: RequestOutput) -> dict[str, Any]:
    """Tokens in and out."""
    prompt, completion = len(output.prompt_token_ids), len(output.token_ids)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
