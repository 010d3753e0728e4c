"""From logits to tokens: parameters, penalties, filters, randomness, log-probabilities."""

from minillm.sampling.logprobs import TokenLogprobs, token_logprobs
from minillm.sampling.params import SamplingParams
from minillm.sampling.penalties import adjust_logits
from minillm.sampling.random import uniform
from minillm.sampling.sampler import FilteringSampler, Sampler, SamplingMetadata

__all__ = [
    "FilteringSampler",
    "Sampler",
    "SamplingMetadata",
    "SamplingParams",
    "TokenLogprobs",
    "adjust_logits",
    "token_logprobs",
    "uniform",
]
