"""What a request gets back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from minillm.sampling import TokenLogprobs

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class RequestMetrics:
    """How long a request took, in seconds of the wall clock.

    Attributes:
        time_to_first_token: from the start of the request to its first token (TTFT), the prompt's prefill included.
        total_time: from the start to the last token.
        num_output_tokens: how many tokens were generated.
    """

    time_to_first_token: float
    total_time: float
    num_output_tokens: int

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
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason | None = None
    logprobs: list[TokenLogprobs] | None = None


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
    """

    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    prompt_token_ids: list[int] = field(repr=False)
    metrics: RequestMetrics = field(repr=False)
    logprobs: list[TokenLogprobs] | None = field(default=None, repr=False)
