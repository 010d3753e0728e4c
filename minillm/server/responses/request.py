"""The body of POST /v1/responses: its fields, what they ask of the engine, and what the answer tells of them."""

from __future__ import annotations

import reprlib
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, WithJsonSchema

from minillm.errors import InvalidRequestError
from minillm.sampling import SamplingParams
from minillm.sampling.params import MAX_LOGPROBS
from minillm.server.chat import DEFAULT_MAX_TOKENS, response_grammar
from minillm.server.protocol import FailFastList, GenerationRequest, check_can_be_told_again
from minillm.structured import Grammar

LOGPROBS = "message.output_text.logprobs"
_ITEM = {"type": "object", "properties": {"type": {"type": "string"}, "role": {"type": "string"}}}
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]


class ResponseRequest(GenerationRequest):
    """The body of a request."""

    unsupported: ClassVar[dict[str, tuple[Any, ...]]] = {
        "background": (None, False),
        "context_management": (None, []),
        "conversation": (None,),
        "moderation": (None,),
        "prompt": (None,),
        # Of the other endpoints; here they have other names, or none.
        "max_completion_tokens": (None,),
        "max_tokens": (None,),
        "messages": (None,),
        "n": (None, 1),
        "response_format": (None, {"type": "text"}),
    }

    # Checked where it's read, whose message says which item is wrong; one from here would list every form.
    input: Annotated[Any, WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": _ITEM}]})]
    """A text, or items: messages, function calls and their outputs."""
    instructions: str | None = None
    """A system message for this request only."""
    previous_response_id: str | None = None
    """The answer to go on from; its conversation comes before the input."""
    truncation: Literal["auto", "disabled"] | None = None
    """"auto" leaves out the oldest turns of a conversation that is too long; else that is an error."""
    max_output_tokens: int | None = Field(None, ge=1)
    """The most tokens to generate."""
    text: dict[str, Any] | None = None
    """{"format": …} with "text", "json_object", or {"type": "json_schema", "name": …, "schema": …}."""
    reasoning: dict[str, Any] | None = None
    """The models here don't reason: no effort but "none" is taken."""
    include: FailFastList[str] | None = None
    """What else to tell: "message.output_text.logprobs"."""
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)
    """Tell the log-probabilities of so many of the most likely tokens, too."""
    store: bool | None = True
    """Keep the answer, to be gone on from."""
    tools: list[Any] | None = None
    """Functions that the model may call: {"type": "function", "name", "description", "parameters"}."""
    tool_choice: str | dict[str, Any] | None = None
    """"none", "auto", "required", {"type": "function", "name": …} or {"type": "allowed_tools", …}."""
    parallel_tool_calls: bool | None = None
    """Let several calls follow each other."""
    metadata: Metadata | None = None
    """Up to 16 pairs of strings, told again in the answer."""
    user: str | None = None
    """Told again in the answer."""
    max_tool_calls: int | None = Field(None, ge=1)
    """Of built-in tools, of which there are none; told again in the answer."""
    prompt_cache_key: str | None = None
    """Told again in the answer; prompts are found in the cache by their tokens."""
    safety_identifier: str | None = None
    """Told again in the answer."""

    def check_supported(self) -> None:
        """Raises:
        InvalidRequestError: for a field that would change the answer and isn't supported.
        """
        super().check_supported()
        parts = {
            "reasoning.effort": ((self.reasoning or {}).get("effort"), (None, "none")),
            "text.verbosity": ((self.text or {}).get("verbosity"), (None, "medium")),
        }
        for name, (value, harmless) in parts.items():
            if value not in harmless:
                raise InvalidRequestError(f"{name}={reprlib.repr(value)} is not supported by this server.", name)
        if self.top_logprobs and not self.has_logprobs:
            raise InvalidRequestError(f"top_logprobs needs include=[{LOGPROBS!r}].", "top_logprobs")

    @property
    def max_new_tokens(self) -> int:
        """The most tokens of the answer."""
        return DEFAULT_MAX_TOKENS if self.max_output_tokens is None else self.max_output_tokens

    @property
    def has_logprobs(self) -> bool:
        """Whether log-probabilities are asked for."""
        return LOGPROBS in (self.include or [])

    def sampling_params(self, **more: Any) -> SamplingParams:
        """The request's `SamplingParams`, with `more` of their fields.

        Raises:
            InvalidRequestError: for a value out of range, or a field that isn't supported.
        """
        return self.build_sampling_params(
            max_tokens=self.max_new_tokens,
            logprobs=(self.top_logprobs or 0) if self.has_logprobs else None,
            **more,
        )

    def settings(self) -> dict[str, Any]:
        """What the answer tells of the request.

        Raises:
            InvalidRequestError: for a value that an answer can't hold.
        """
        settings = {
            "model": self.model,
            "background": False,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "max_tool_calls": self.max_tool_calls,
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": self.previous_response_id,
            "prompt_cache_key": self.prompt_cache_key,
            "reasoning": {"effort": (self.reasoning or {}).get("effort"), "summary": None},
            "safety_identifier": self.safety_identifier,
            "service_tier": "default",
            "store": self.store is not False,
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "text": {"format": (self.text or {}).get("format") or {"type": "text"}, "verbosity": "medium"},
            "tool_choice": self.tool_choice or "auto",
            "tools": self.tools or [],
            "top_logprobs": self.top_logprobs or 0,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            "truncation": self.truncation or "disabled",
            "user": self.user,
        }
        for name, value in settings.items():
            check_can_be_told_again(value, name)
        return settings


def text_grammar(text: dict[str, Any] | None) -> Grammar | None:
    """What `text.format` has the answer follow. None for plain text.

    Raises:
        InvalidRequestError: for a form that isn't known, or a schema that can't be honoured.
    """
    match (text or {}).get("format"):
        case None | {"type": "text" | "json_object"} as simple:
            return response_grammar(simple)
        case {"type": "json_schema", "name": str(), "schema": dict()} as flat:
            try:
                return response_grammar({"type": "json_schema", "json_schema": flat})
            except InvalidRequestError as error:
                raise InvalidRequestError(str(error), "text.format") from None
        case other:
            raise InvalidRequestError(
                'text.format has to be {"type": "text"}, {"type": "json_object"}, or {"type": "json_schema", '
                f'"name": …, "schema": {{…}}}}; got {reprlib.repr(other)}.',
                "text.format",
            )
