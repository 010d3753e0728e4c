"""A request on its way through the engine, and what it gets back."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from minillm.sampling import SamplingParams, TokenLogprobs
from minillm.structured.tool_calls import ToolCall, ToolEvent

FinishReason = Literal["stop", "length"]


class RequestStatus(Enum):
    """Where a request is. A preempted one waits again."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(eq=False)
class Request:
    """One sequence of tokens that the engine continues.

    There is no prefill phase and no decode phase: in each step the scheduler lets `num_computed_tokens` catch up with
    `num_tokens`, and where it has caught up, one more token is sampled.

    Attributes:
        request_id: unique in the engine.
        prompt_token_ids: what was asked.
        params: how to continue.
        max_num_tokens: of prompt and output together.
        tenant: whose request it is: scopes the prefix cache and the scheduler's fair sharing.
        extra_keys: what else decides the keys and values beside the tokens (an adapter, an image's hash).
        adapter: name of the LoRA adapter that it's computed with; empty for the model alone.
        arrival: ordinal of its arrival; lower is older.
        seed: of its random numbers.
        token_ids: prompt and output so far.
        num_computed_tokens: the tokens whose keys and values are in the cache.
        num_cached_tokens: of the prompt's, those that came from the prefix cache when it was first admitted.
        num_preemptions: how often it had to give up its blocks.
    """

    request_id: str
    prompt_token_ids: list[int]
    params: SamplingParams
    max_num_tokens: int
    tenant: str = ""
    extra_keys: tuple[str, ...] = ()
    adapter: str = ""
    arrival: int = 0
    seed: int = 0
    token_ids: list[int] = field(default_factory=list)
    num_computed_tokens: int = 0
    num_cached_tokens: int | None = None
    num_preemptions: int = 0
    status: RequestStatus = RequestStatus.WAITING

    def __post_init__(self) -> None:
        if not self.token_ids:
            self.token_ids = list(self.prompt_token_ids)

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt_token_ids)

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and output so far."""
        return len(self.token_ids)

    @property
    def output_token_ids(self) -> list[int]:
        """The tokens generated so far."""
        return self.token_ids[len(self.prompt_token_ids) :]


@dataclass(frozen=True)
class RequestMetrics:
    """How long a request took, in seconds of the wall clock.

    Attributes:
        time_to_first_token: from the start of the request to its first token (TTFT), the prompt's prefill included.
        total_time: from the start to the last token.
        num_output_tokens: how many tokens were generated.
        queue_time: from the start to the first step that worked on it.
    """

    time_to_first_token: float
    total_time: float
    num_output_tokens: int
    queue_time: float = 0.0

    @property
    def time_per_output_token(self) -> float:
        """Mean time between tokens after the first (TPOT), in seconds; 0 if there was only one."""
        if self.num_output_tokens < 2:
            return 0.0
        return (self.total_time - self.time_to_first_token) / (self.num_output_tokens - 1)


@dataclass(frozen=True)
class OutputChunk:
    """A piece of a streamed output.

    Attributes:
        text: new text. Empty while half a character or the possible beginning of a stop string is held back.
        token_ids: the tokens that are new since the chunk before.
        finish_reason: None until the last chunk.
        logprobs: of `token_ids`, if they were asked for.
        index: which of a request's n outputs it belongs to.
        tool_events: of `LLM.chat` with tools: calls as they come. `text` is then the text around them.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason | None = None
    logprobs: list[TokenLogprobs] | None = None
    index: int = 0
    tool_events: tuple[ToolEvent, ...] = ()


@dataclass(frozen=True)
class RequestOutput:
    """A finished request.

    Attributes:
        text: the generated text, without special tokens and without the stop string.
        token_ids: every generated token, the end-of-text token included.
        finish_reason: "stop" (end-of-text token, stop string or stop token) or "length" (max_tokens or the model's
            context is full).
        prompt_token_ids: what the model was given.
        metrics: timings.
        logprobs: one entry per token of `token_ids`, if they were asked for.
        cached_tokens: how many of the prompt's tokens came from the prefix cache.
        index: which of the request's n outputs this is.
        others: with n > 1, the other outputs, on the one with index 0.
        tool_calls: of `LLM.chat` with tools: the calls. `text` is then the text around them.
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    prompt_token_ids: list[int] = field(repr=False)
    metrics: RequestMetrics = field(repr=False)
    logprobs: list[TokenLogprobs] | None = field(default=None, repr=False)
    cached_tokens: int = 0
    index: int = 0
    others: tuple[RequestOutput, ...] = field(default=(), repr=False)
    tool_calls: tuple[ToolCall, ...] = ()
