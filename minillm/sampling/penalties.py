"""Changes to the logits that depend on what was said so far: penalties against repetition, and logit bias."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from minillm.errors import InvalidRequestError
from minillm.sampling.params import SamplingParams


def adjust_logits(
    logits: Tensor, params: SamplingParams, prompt_token_ids: Sequence[int], output_token_ids: Sequence[int]
) -> Tensor:
    """Applies one request's penalties and bias; returns the row itself where it asked for none.

    Args:
        logits: [vocab_size] float32.
        params: the request's parameters.
        prompt_token_ids, output_token_ids: what's before the token to be sampled.

    Raises:
        InvalidRequestError: if logit_bias names a token that the vocabulary doesn't have.
    """
    if params.repetition_penalty != 1:
        seen = torch.tensor(sorted({*prompt_token_ids, *output_token_ids}), dtype=torch.int64, device=logits.device)
        score = logits[seen]
        penalty = params.repetition_penalty
        logits = logits.index_put((seen,), torch.where(score > 0, score / penalty, score * penalty))
    if output_token_ids and (params.presence_penalty or params.frequency_penalty):
        output = torch.tensor(output_token_ids, dtype=torch.int64, device=logits.device)
        counts = torch.bincount(output, minlength=logits.shape[-1])
        logits = logits - params.frequency_penalty * counts - params.presence_penalty * (counts > 0)
    if params.logit_bias:
        if bad := [token for token in params.logit_bias if not 0 <= token < logits.shape[-1]]:
            raise InvalidRequestError(
                f"logit_bias names token {bad[0]}; the vocabulary has the tokens 0 to {logits.shape[-1] - 1}.",
                param="logit_bias",
            )
        ids = torch.tensor(list(params.logit_bias), dtype=torch.int64, device=logits.device)
        bias = torch.tensor(list(params.logit_bias.values()), dtype=logits.dtype, device=logits.device)
        logits = logits.index_add(0, ids, bias)
    return logits
