"""A sampler for tests of what happens to tokens once they are chosen."""

from __future__ import annotations

import torch
from torch import Tensor

from minillm.sampling import SamplingMetadata


class ScriptedSampler:
    """Says these tokens, one after the other, whatever the model thinks."""

    def __init__(self, token_ids: list[int]) -> None:
        self.token_ids = iter(token_ids)

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        return torch.tensor([next(self.token_ids)])
