"""How well a model foresees good answers of plain chat, which fine-tuning for something else may make worse.

The engine has no log-probabilities of prompts, so it generates the text: a sampler that takes the given tokens,
whatever the model would have liked, and the log-probabilities that the engine reports for the tokens chosen. That way
everything that the engine does to a model counts, such as quantization and adapters.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from minillm.engine import LLM
from minillm.errors import MinillmError
from minillm.sampling import SamplingMetadata, SamplingParams
from minillm.training.example import Example, Message
from minillm.training.train import tokenize


@dataclass(frozen=True)
class Perplexity:
    """Attributes:
    value: exp of the mean negative log-likelihood of the assistant's tokens; lower is better.
    num_tokens: how many they are, with the ends of the turns.
    """

    value: float
    num_tokens: int


class ForcingSampler:
    """Takes the tokens of given texts one after the other. A row's top_k is the number of its text, from 1."""

    def __init__(self, texts: Sequence[Sequence[int]]) -> None:
        self._rest = [iter(text) for text in texts]

    def sample(self, logits: Tensor, metadata: SamplingMetadata) -> Tensor:
        """See `minillm.sampling.Sampler`."""
        tokens = [next(self._rest[number - 1]) for number in metadata.top_k.tolist()]
        return torch.tensor(tokens, dtype=torch.int64, device=logits.device)


def chat_conversations() -> list[list[Message]]:
    """Plain chat, written for this: greetings, explanations, advice, small talk."""
    content = (Path(__file__).parent / "heldout" / "chat.json").read_text(encoding="utf-8")
    conversations: list[list[Message]] = json.loads(content)
    return conversations


def chat_perplexity(llm: LLM, conversations: Sequence[Sequence[Message]] | None = None) -> Perplexity:
    """The perplexity of the assistant's tokens, each turn given all before it.

    Args:
        llm: the model; nothing else may run on it meanwhile.
        conversations: those of `chat_conversations` if not given.

    Raises:
        MinillmError: for a model without a chat template, or whose context is too short for the conversations.
    """
    turns = [turn for conversation in conversations or chat_conversations() for turn in _turns(llm, conversation)]
    sampler, llm.sampler = llm.sampler, ForcingSampler([tokens for _, tokens in turns])
    try:
        outputs = llm.generate(
            [prompt for prompt, _ in turns],
            [
                SamplingParams(top_k=number, max_tokens=len(tokens), ignore_eos=True, logprobs=0)
                for number, (_, tokens) in enumerate(turns, 1)
            ],
        )
    finally:
        llm.sampler = sampler
    logprobs: list[float] = []
    for output, (_, tokens) in zip(outputs, turns, strict=True):
        if output.token_ids != tokens or output.logprobs is None:
            raise MinillmError(
                f"{llm.model_name} takes {llm.max_model_len} tokens, which is too few for the chat that its "
                "perplexity is measured on. Load it with a larger max_model_len."
            )
        logprobs += [each.logprob for each in output.logprobs]
    return Perplexity(math.exp(-sum(logprobs) / len(logprobs)), len(logprobs))


def _turns(llm: LLM, conversation: Sequence[Message]) -> list[tuple[list[int], list[int]]]:
    """Of each turn of the assistant's, the tokens before it and its own."""
    tokenized = tokenize(Example("chat", conversation), llm.tokenizer)
    turns: list[tuple[list[int], list[int]]] = []
    for place in tokenized.targets:
        if not turns or place != len(turns[-1][0]) + len(turns[-1][1]):
            turns.append((tokenized.token_ids[:place], []))
        turns[-1][1].append(tokenized.token_ids[place])
    return turns
