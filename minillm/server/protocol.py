"""What the endpoints have in common: fields of a request, usage, log-probabilities, errors.

Fields that change the answer and aren't supported are refused by name. Unknown and advisory ones (`user`, `store`,
`metadata`, …) are accepted, because clients send them.
"""

from __future__ import annotations

import json
import re
import reprlib
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from minillm.engine.engine import Event
from minillm.engine.request import OutputChunk, RequestOutput
from minillm.errors import InvalidRequestError
from minillm.sampling import SamplingParams

T = TypeVar("T")
FailFastList: TypeAlias = Annotated[list[T], Field(fail_fast=True)]
"""A list of which only the first fault is told: a million faults would take minutes and gigabytes to describe."""
MAX_LOGIT_BIAS = 4096
MAX_STOPS = 64
MAX_STOP_LENGTH = 1000
_TOKEN_ID = re.compile("[0-9]{1,18}")
# These mean the same to `SamplingParams`.
_SAMPLING_FIELDS = (
    *("temperature", "top_p", "top_k", "min_p", "seed", "stop", "n", "ignore_eos"),
    *("repetition_penalty", "presence_penalty", "frequency_penalty"),
)


class Body(BaseModel):
    """A request's body. Fields that nobody knows are accepted; a number in quotes or `true` for 1 is not."""

    model_config = ConfigDict(extra="allow", strict=True)


class StreamOptions(Body):
    """`stream_options` of a request.

    Attributes:
        include_usage: tell the usage in a last chunk without choices.
        continuous_usage_stats: tell the usage so far in every chunk (vLLM's; load generators ask for it).
    """

    include_usage: bool = False
    continuous_usage_stats: bool = False


class GenerationRequest(Body):
    """What every endpoint that generates takes: OpenAI's fields, and vLLM's `top_k`, `min_p`, …"""

    # Each would change the answer. The values tell what's the same as not asking.
    unsupported: ClassVar[dict[str, tuple[Any, ...]]] = {}

    model: str
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, Any] | None = None
    seed: int | None = None
    max_tokens: int | None = None
    stop: str | list[Any] | None = None  # the strings are checked below, one fault being enough
    n: int | None = None
    ignore_eos: bool = False
    stream: bool | None = False
    stream_options: StreamOptions | None = None

    def check_supported(self) -> None:
        """Raises:
        InvalidRequestError: for a field that would change the answer and isn't supported.
        """
        for name, harmless in self.unsupported.items():
            if (value := getattr(self, name, None)) not in harmless:
                raise InvalidRequestError(f"{name}={reprlib.repr(value)} is not supported by this server.", param=name)

    def build_sampling_params(self, *, max_tokens: int, logprobs: int | None, **more: Any) -> SamplingParams:
        """The request's `SamplingParams`; what isn't given has the API's default.

        Args:
            max_tokens, logprobs: which the endpoints ask for in different ways.
            more: further fields of `SamplingParams`.

        Raises:
            InvalidRequestError: for a value out of range, or a field that isn't supported.
        """
        self.check_supported()
        _check_stops(self.stop)
        given = {name: value for name in _SAMPLING_FIELDS if (value := getattr(self, name)) is not None}
        if self.logit_bias is not None:
            given["logit_bias"] = _token_bias(self.logit_bias)
        return SamplingParams(max_tokens=max_tokens, logprobs=logprobs, **given, **more)


def _token_bias(bias: dict[str, Any]) -> dict[int, Any]:
    """`logit_bias` by token id. JSON's keys are strings."""
    if len(bias) > MAX_LOGIT_BIAS:
        raise InvalidRequestError(
            f"logit_bias has {len(bias)} tokens; this server takes {MAX_LOGIT_BIAS}.", "logit_bias"
        )
    for token in bias:
        if not _TOKEN_ID.fullmatch(token):  # int() would take blanks, and digits of every script
            raise InvalidRequestError(f"logit_bias has the key {token!r:.80}, which is no token id.", "logit_bias")
    return {int(token): value for token, value in bias.items()}


def _check_stops(stop: str | list[Any] | None) -> None:
    stops = [stop] if isinstance(stop, str) else stop or []
    if len(stops) > MAX_STOPS or not all(isinstance(each, str) and len(each) <= MAX_STOP_LENGTH for each in stops):
        raise InvalidRequestError(
            f"stop is {reprlib.repr(stop)}; expected a string, or a list of up to {MAX_STOPS} of them, of up to "
            f"{MAX_STOP_LENGTH} characters.",
            "stop",
        )


@dataclass
class Tally:
    """The tokens of one HTTP request, counted as they come.

    Attributes:
        prompt: of all its prompts.
        cached: those of them that came from the prefix cache.
        completion: of all its outputs so far.
    """

    prompt: int
    cached: int = 0
    completion: int = 0

    def add(self, event: Event) -> None:
        """Counts what an event brings."""
        if isinstance(event, OutputChunk):
            self.completion += len(event.token_ids)
        elif isinstance(event, RequestOutput) and event.index == 0:  # the other outputs have the same prompt
            self.cached += event.cached_tokens

    def usage(self) -> dict[str, Any]:
        """In OpenAI's form."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


class Reply:
    """The objects that answer one request share their id, time and count of tokens."""

    def __init__(self, prefix: str, kind: str, fingerprint: str, body: GenerationRequest, tally: Tally) -> None:
        # prefix: of the id; kind: the `object` of what is answered.
        self.tally = tally
        options = body.stream_options or StreamOptions()
        self.include_usage = options.include_usage
        self._continuous = options.include_usage and options.continuous_usage_stats
        self._head = {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": body.model,
            "system_fingerprint": fingerprint,
        }

    def whole(self, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The one object that answers it all."""
        return {**self._head, "choices": list(choices), "usage": self.tally.usage()}

    def chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        """A part of a stream."""
        if not self.include_usage:
            return {**self._head, "choices": [choice]}
        # Where usage comes at the end, the API has the other chunks say that it isn't there yet.
        return {**self._head, "choices": [choice], "usage": self.tally.usage() if self._continuous else None}

    def usage_chunk(self) -> dict[str, Any]:
        """The last part of a stream that asked for usage: no choices."""
        return {**self._head, "choices": [], "usage": self.tally.usage()}


def check_can_be_told_again(value: Any, name: str) -> None:
    """Python reads more than JSON in UTF-8 can say: halves of characters, NaN.

    Raises:
        InvalidRequestError: if a field holds such, naming it.
    """
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise InvalidRequestError(f"{name} holds what JSON can't ({error}).", name) from None


class ErrorDetail(BaseModel):
    """What went wrong; see `error_body`."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """An error in OpenAI's form."""

    error: ErrorDetail


def error_body(message: str, kind: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error in OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
