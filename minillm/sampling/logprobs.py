"""Log-probabilities of the tokens that were chosen, and of those that nearly were."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TokenLogprobs:
    """One position of an output.

    Attributes:
        token_id: the token that was chosen.
        logprob: its natural log-probability under the model, before temperature, penalties and filters.
        top: the most likely tokens and their log-probabilities, most likely first.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...]


def token_logprobs(logits: Tensor, token_id: int, num_top: int) -> TokenLogprobs:
    """Reads one row of the model's logits, [vocab_size] float32."""
    logprobs = logits.log_softmax(dim=-1)
    values, ids = logprobs.topk(num_top)
    top = tuple(zip(ids.tolist(), values.tolist(), strict=True))
    return TokenLogprobs(token_id, float(logprobs[token_id]), top)
