"""The workloads: fixed, seeded and named, so that two numbers with one name can be compared."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

from minillm.errors import MinillmError

SEED = 20
BATCH_SIZE = 16
PREFIX_TOKENS = 900

TEXT = Path(__file__).with_name("text.txt")
"""Plain English prose, about 700 words: the source of all prompts, and what quantized weights are tried on."""


@dataclass(frozen=True)
class BenchRequest:
    """What is asked: a prompt, and how many tokens to generate, whatever they are."""

    prompt_token_ids: tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True)
class Part:
    """Requests that are measured together.

    Attributes:
        name: what sets this part apart from the workload's others.
        requests: they all arrive at the start,
        one_at_a_time: or each when the one before is complete.
    """

    name: str
    requests: tuple[BenchRequest, ...]
    one_at_a_time: bool = False

    @property
    def num_prompt_tokens(self) -> int:
        """Of all requests."""
        return sum(len(request.prompt_token_ids) for request in self.requests)

    @property
    def num_output_tokens(self) -> int:
        """Of all requests."""
        return sum(request.max_tokens for request in self.requests)


@dataclass(frozen=True)
class Workload:
    """Parts that run one after the other, in one engine.

    Attributes:
        name: how the command line calls it.
        parts: what is measured.
    """

    name: str
    parts: tuple[Part, ...]

    @cached_property
    def digest(self) -> str:
        """Identifies the requests, token by token."""
        content = [[[each.prompt_token_ids, each.max_tokens] for each in part.requests] for part in self.parts]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def build_workload(name: str, text_token_ids: Sequence[int], batch_size: int | None = None) -> Workload:
    """The workload of this name. The same tokens of the text give the same requests, on every machine.

    Args:
        name: one of `WORKLOADS`.
        text_token_ids: `TEXT` in the model's tokens; prompts are drawn from them.
        batch_size: requests of `batch` and `paging`, in place of their own.

    Raises:
        MinillmError: for another name, or a batch size where there is none.
    """
    if name not in WORKLOADS:
        raise MinillmError(f"There is no workload {name!r}; choose {', '.join(WORKLOADS)}.")
    if batch_size is not None and (name not in SIZED or batch_size < 1):
        raise MinillmError(
            f"batch_size is {batch_size} for the workload {name!r}; it's a number from 1, for {' and '.join(SIZED)}."
        )
    return _BUILDERS[name](_Prompts(text_token_ids), batch_size)


class _Prompts:
    """Draws prompts."""

    def __init__(self, text_token_ids: Sequence[int]) -> None:
        self.text = list(text_token_ids)
        self.random = random.Random(SEED)

    def drawn(self, length: int) -> tuple[int, ...]:
        """Tokens of the text in a random order: no two prompts begin alike, so nothing is found in a prefix cache."""
        return tuple(self.random.choices(self.text, k=length))

    def request(self, prompt_tokens: int, output_tokens: int) -> BenchRequest:
        return BenchRequest(self.drawn(prompt_tokens), output_tokens)


def _single(prompts: _Prompts, _: int | None) -> Workload:
    parts = [Part(f"prompt of {length}", (prompts.request(length, 128),)) for length in (32, 512)]
    return Workload("single", tuple(parts))


def _batch(prompts: _Prompts, batch_size: int | None) -> Workload:
    requests = tuple(prompts.request(128, 128) for _ in range(batch_size or BATCH_SIZE))
    return Workload("batch", (Part(f"{len(requests)} requests", requests),))


def _mixed(prompts: _Prompts, _: int | None) -> Workload:
    sizes = [(prompts.random.randint(16, 256), prompts.random.randint(16, 256)) for _ in range(64)]
    return Workload("mixed", (Part("64 requests", tuple(prompts.request(*size) for size in sizes)),))


def _shared_prefix(prompts: _Prompts, _: int | None) -> Workload:
    prefixes = [prompts.drawn(PREFIX_TOKENS) for _ in range(4)]
    cold, warm = (
        tuple(BenchRequest(prefix + prompts.drawn(1000 - PREFIX_TOKENS), 8) for prefix in prefixes) for _ in range(2)
    )
    parts = (Part("cold", cold, one_at_a_time=True), Part("warm", warm, one_at_a_time=True))
    return Workload("shared-prefix", parts)


def _repetitive(prompts: _Prompts, _: int | None) -> Workload:
    """A passage three times and the beginning of a fourth: a language model goes on with the rest of it."""
    requests = []
    for _i in range(4):
        start = prompts.random.randrange(len(prompts.text) - 160)
        passage = tuple(prompts.text[start : start + 160])
        requests.append(BenchRequest(passage * 3 + passage[:16], 128))
    return Workload("repetitive", (Part("4 requests, one at a time", tuple(requests), one_at_a_time=True),))


def _paging(prompts: _Prompts, batch_size: int | None) -> Workload:
    sizes = (1, BATCH_SIZE) if batch_size is None else (batch_size,)
    parts = [Part(f"batch of {size}", tuple(prompts.request(512, 32) for _ in range(size))) for size in sizes]
    return Workload("paging", tuple(parts))


_BUILDERS: Mapping[str, Callable[[_Prompts, int | None], Workload]] = MappingProxyType(
    {
        "single": _single,
        "batch": _batch,
        "mixed": _mixed,
        "shared-prefix": _shared_prefix,
        "repetitive": _repetitive,
        "paging": _paging,
    }
)
WORKLOADS = tuple(_BUILDERS)
"""Their names."""
SIZED = ("batch", "paging")
"""Those that take a batch size."""
COMPARING = ("shared-prefix", "paging")
"""Those that compare two ways of the engine itself, and have a ratio without a baseline."""
