"""What rounding the weights does to a model: perplexity and greedy agreement with float32, on a text that we ship."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from minillm.attention import DenseAttention
from minillm.engine.engine import Engine
from minillm.engine.loading import load_model_and_tokenizer
from minillm.models.decoder import Decoder


@dataclass(frozen=True)
class Quality:
    """Of an engine's weights against the same checkpoint's in float32.

    Attributes:
        num_tokens: of the text.
        perplexity: exp of the mean negative log-likelihood of each token after those before it; lower is better.
        float32_perplexity: the same of the float32 weights.
        greedy_agreement: at how many of the text's positions both find the same token the likeliest, 0 to 1.
    """

    num_tokens: int
    perplexity: float
    float32_perplexity: float
    greedy_agreement: float


def measure_quality(engine: Engine, text_token_ids: list[int]) -> Quality:
    """Reads the text with the engine's model, and with the same model anew in float32.

    Raises:
        MinillmError: if the model can't be loaded once more.
    """
    token_ids = torch.tensor(text_token_ids[: engine.max_model_len], device=engine.model.device)
    ours = _read(engine.model, token_ids)
    reference, _ = load_model_and_tokenizer(engine.model_name, torch.float32, engine.model.device)
    theirs = _read(reference, token_ids)
    return Quality(
        num_tokens=len(token_ids),
        perplexity=ours[0],
        float32_perplexity=theirs[0],
        greedy_agreement=(ours[1] == theirs[1]).float().mean().item(),
    )


@torch.inference_mode()
def _read(model: Decoder, token_ids: Tensor) -> tuple[float, Tensor]:
    """The text's perplexity, and the likeliest token after each of its beginnings, [num_tokens - 1]."""
    positions = torch.arange(len(token_ids), device=token_ids.device)
    logits = model.logits(model(token_ids, positions, DenseAttention())[:-1])
    return F.cross_entropy(logits, token_ids[1:]).exp().item(), logits.argmax(-1)
