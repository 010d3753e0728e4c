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

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from minillm.engine.engine import Event
from minillm.engine.request import OutputChunk, RequestOutput
from minillm.errors import InvalidRequestError
from minillm.sampling import SamplingParams
from minillm.sampling.params import MAX_N, MAX_REPETITION_PENALTY, MAX_TEMPERATURE

T = TypeVar("T")
FailFastList: TypeAlias = Annotated[list[T], Field(fail_fast=True)]
"""A list of which only the first fault is told: a million faults would take minutes and gigabytes to describe."""
_PARTS = {"type": "array", "items": {"type": "object", "properties": {"type": {}, "text": {}}, "required": ["type"]}}
_MESSAGE = {
    "type": "object",
    "properties": {
        "role": {"enum": ["system", "developer", "user", "assistant", "tool"]},
        "content": {"anyOf": [{"type": "string"}, _PARTS, {"type": "null"}]},
        "name": {"type": "string"},
    },
    "required": ["role"],
}
ChatMessages: TypeAlias = FailFastList[Annotated[dict[str, Any], WithJsonSchema(_MESSAGE)]]
"""A conversation. The chat template checks it, whose errors say more than a type could."""
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
    """A request's body. Fields that nobody knows are accepted; a number in quotes or `true` for 1 is not.

    Docstrings below the fields are their descriptions in /openapi.json.
    """

    model_config = ConfigDict(extra="allow", strict=True, use_attribute_docstrings=True)


class StreamOptions(Body):
    """`stream_options` of a request."""

    include_usage: bool = False
    """Tell the usage in a last chunk without choices."""
    continuous_usage_stats: bool = False
    """Tell the usage so far in every chunk (vLLM's; load generators ask for it)."""


class GenerationRequest(Body):
    """What every endpoint that generates takes: OpenAI's fields, and vLLM's `top_k`, `min_p`, …"""

    # Each would change the answer. The values tell what's the same as not asking.
    unsupported: ClassVar[dict[str, tuple[Any, ...]]] = {}

    model: str
    """One of those that /v1/models lists."""
    temperature: float | None = Field(None, ge=0, le=MAX_TEMPERATURE)
    """Divides the logits: 0 takes the most likely token, 1 (the default) samples from the model's own distribution."""
    top_p: float | None = Field(None, gt=0, le=1)
    """Sample among the fewest tokens whose probabilities add up to this; more than 0, at most 1."""
    top_k: int | None = Field(None, ge=-1)
    """Sample among this many of the most likely tokens; 0 or -1 among all."""
    min_p: float | None = Field(None, ge=0, le=1)
    """Drop tokens less likely than this times the most likely one; 0 to 1."""
    repetition_penalty: float | None = Field(None, ge=1 / MAX_REPETITION_PENALTY, le=MAX_REPETITION_PENALTY)
    """Divides positive logits of tokens seen in prompt or output, multiplies negative ones; 1 is none."""
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    """Is taken off the logits of tokens that are in the output; -2 to 2."""
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    """Is taken off the logits once for each time that a token is in the output; -2 to 2."""
    logit_bias: dict[str, Any] | None = None
    """Numbers from -100 to 100 that are added to the logits, by token id."""
    seed: int | None = None
    """The same seed gives the same answer, whoever shares the server."""
    max_tokens: int | None = Field(None, ge=1)
    """The most tokens to generate."""
    stop: str | list[Any] | None = None  # the strings are checked below, one fault being enough
    """Text at which the output ends, without it; or a list of such texts."""
    n: int | None = Field(None, ge=1, le=MAX_N)
    """How many outputs to generate for the prompt."""
    ignore_eos: bool = False
    """Generate on after the model's end of text, to max_tokens: for measurements."""
    stream: bool | None = False
    """Send the output as server-sent events while it is made."""
    stream_options: StreamOptions | None = None
    """What a stream tells beside the output."""

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
