"""Looks at a sampler through what it draws; the ground that `check_sampler` stands on.

A batch of equal rows gets evenly spread random numbers, (i + 0.5) / N. A sampler that inverts a cumulative
distribution, in whatever order of tokens, then gives each token N times its probability, to within a rounding. That
is exact where a statistical test would need thousands of draws and still be wrong now and then. And it tells mistakes
apart: each typical one leads to a distribution of its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from minillm.sampling import Sampler, SamplingMetadata, SamplingParams
from minillm.testing.report import CheckFailed

NUM_DRAWS = 200
TOLERANCE = 2.0  # draws; the ends of an interval of length p cut off less than one draw each
UNIFORMS = [(i + 0.5) / NUM_DRAWS for i in range(NUM_DRAWS)]

Hints = tuple[str, str]  # the first and the stronger one

RANDOM: Hints = (
    "The random choice doesn't come from metadata.uniform.",
    "torch.multinomial, torch.rand and their kind draw numbers of their own, so a seeded request would answer "
    "differently each time. Use the row's number in metadata.uniform instead: add up the probabilities (cumsum) and "
    "take the first token whose running sum exceeds it.",
)
PER_ROW: Hints = (
    "A row's token depends on the other rows of its batch.",
    "Something is computed over the whole batch where it should be per row: softmax, cumsum, sort, max and sum all "
    "need dim=-1.",
)
RANKS: Hints = (
    "The tokens returned are ranks in the sorted list, not token ids.",
    "After logits.sort(descending=True) position 0 is the most likely token, whichever id that is. Map back with the "
    "indices that sort returned: ids.gather(-1, rank), or scatter the filtered logits back before drawing.",
)
UNNORMALIZED: Hints = (
    "After a filter the probabilities that are left no longer add up to 1.",
    "Uniform runs up to 1, but the running sum ends earlier, so high uniforms find no token and land on a wrong one. "
    "Divide what's left by its sum, or set what's dropped to -inf in the logits before the softmax, which "
    "renormalizes by itself.",
)
ROUNDING: Hints = (
    "A uniform just below 1 finds no token: it's rounded up, or the running sum ends below it.",
    "metadata.uniform is float64; in float32 the largest ones round up to exactly 1, and a float32 running sum may end "
    "a little below 1. Compute the running sum in float64 and compare with uniform times its last entry.",
)


@dataclass(frozen=True)
class Mistake:
    """A known way to get a behavior wrong, by the distribution that it leads to."""

    distribution: Sequence[float]
    hint: str
    strong_hint: str


class SamplerProbe:
    """Calls a sampler. Every call gets fresh tensors, so that one that's overwritten spoils only its own case."""

    def __init__(self, sampler: Sampler | type) -> None:
        self._given = sampler

    def sampler(self) -> Sampler:
        """The object itself, or a new one of its class.

        Raises:
            CheckFailed: if it has no method `sample`.
        """
        sampler = self._given() if isinstance(self._given, type) else self._given
        if not callable(getattr(sampler, "sample", None)):
            raise CheckFailed(f"an object of the class {type(sampler).__name__} has no method called sample")
        return sampler

    def call(self, logits: Tensor, params: Sequence[SamplingParams], uniforms: Sequence[float]) -> object:
        """What the sampler returns, whatever it is."""
        return self.sampler().sample(logits.clone(), SamplingMetadata.build(params, uniforms))

    def tokens(self, logits: Tensor, params: Sequence[SamplingParams], uniforms: Sequence[float]) -> list[int]:
        """One token id per row. A wrong shape or type is forgiven here; they have a behavior of their own.

        Raises:
            CheckFailed: if these aren't as many as the rows, or not ids of the vocabulary.
        """
        num_seqs, vocab_size = logits.shape
        result = torch.as_tensor(self.call(logits, params, uniforms))
        if result.numel() != num_seqs:
            raise CheckFailed(f"for {num_seqs} rows of logits it returned a tensor of shape {list(result.shape)}")
        values: list[float] = result.reshape(-1).tolist()
        for value, uniform, row in zip(values, uniforms, params, strict=True):
            if not 0 <= value < vocab_size:
                raise _out_of_range(value, uniform, row, vocab_size)
        return [int(value) for value in values]

    def draws(self, probabilities: Sequence[float], params: Mapping[str, float]) -> list[int]:
        """Tokens drawn with evenly spread uniforms from one distribution."""
        rows = logits_of(probabilities).repeat(NUM_DRAWS, 1)
        return self.tokens(rows, [sampling_params(params)] * NUM_DRAWS, UNIFORMS)

    def drawn_shares(self, probabilities: Sequence[float], params: Mapping[str, float]) -> list[float]:
        """How often each token is drawn, in parts of 1."""
        return shares(self.draws(probabilities, params), len(probabilities))

    def expect(
        self,
        probabilities: Sequence[float],
        params: Mapping[str, float],
        expected: Sequence[float],
        mistakes: Sequence[Mistake] = (),
        *,
        unnormalized: Sequence[float] | None = None,
    ) -> None:
        """Compares what's drawn with what should be; recognizes the mistake by what is drawn instead.

        Args:
            probabilities: the model's, before temperature and filters.
            params: of `SamplingParams`.
            expected: the distribution that the sampler should draw from.
            mistakes: those that this behavior invites.
            unnormalized: what the filter leaves before it's divided by its sum, if it drops two tokens or more.

        Raises:
            CheckFailed: with hints of its own if the mistake is recognized.
        """
        tokens = self.draws(probabilities, params)
        drawn = shares(tokens, len(probabilities))
        if fits(drawn, expected):
            return
        detail = f"{example(probabilities, params)} it drew {words(drawn)}; expected {words(expected)}"
        if self._is_random(probabilities, params):
            raise failed(detail, RANDOM)
        if self._depends_on_neighbors(tokens, probabilities, params):
            raise failed(detail, PER_ROW)
        for mistake in mistakes:
            if fits(drawn, mistake.distribution):
                raise failed(detail, (mistake.hint, mistake.strong_hint))
        if fits(drawn, sorted(expected, reverse=True)):
            raise failed(detail, RANKS)
        if unnormalized is not None and surplus_on_one(drawn, unnormalized):
            raise failed(detail, UNNORMALIZED)
        raise CheckFailed(detail)

    def _is_random(self, probabilities: Sequence[float], params: Mapping[str, float]) -> bool:
        """Whether rows that are equal in everything get different tokens."""
        num = 60
        rows, row_params = logits_of(probabilities).repeat(num, 1), [sampling_params(params)] * num
        calls = [self.tokens(rows, row_params, [0.6] * num) for _ in range(2)]
        return len({token for tokens in calls for token in tokens}) > 1

    def _depends_on_neighbors(
        self, tokens: Sequence[int], probabilities: Sequence[float], params: Mapping[str, float]
    ) -> bool:
        """Whether some rows get another token when they are alone."""
        row, row_params = logits_of(probabilities)[None], [sampling_params(params)]
        some = range(0, NUM_DRAWS, 10)
        return [self.tokens(row, row_params, [UNIFORMS[i]])[0] for i in some] != [tokens[i] for i in some]


def failed(detail: str, hints: Hints) -> CheckFailed:
    """A failure whose cause is known."""
    return CheckFailed(detail, hint=hints[0], strong_hint=hints[1])


def _out_of_range(value: float, uniform: float, params: SamplingParams, vocab_size: int) -> CheckFailed:
    settings = "temperature 0 and " if params.temperature == 0 else ""
    detail = (
        f"with {settings}uniform {uniform!r} it returned {value:g}; the vocabulary has the tokens 0 to {vocab_size - 1}"
    )
    if params.temperature > 0 and (params.top_k or params.top_p < 1 or params.min_p):
        return failed(detail, UNNORMALIZED)
    if params.temperature > 0 and uniform > 1 - 1e-5:
        return failed(detail, ROUNDING)
    return CheckFailed(detail)


# -- distributions ----------------------------------------------------------------------------------------------


def sampling_params(params: Mapping[str, float]) -> SamplingParams:
    """`SamplingParams` from a mapping."""
    return SamplingParams(**params)  # type: ignore[arg-type]


def logits_of(probabilities: Sequence[float]) -> Tensor:
    """[vocab_size]; their softmax is `probabilities`."""
    return torch.tensor(probabilities, dtype=torch.float64).log().float()


def normalized(values: Sequence[float]) -> list[float]:
    """The values over their sum."""
    return [value / sum(values) for value in values]


def at_temperature(probabilities: Sequence[float], temperature: float) -> list[float]:
    """softmax(log(p) / temperature), which is p ** (1 / temperature), normalized."""
    return normalized([p ** (1 / temperature) for p in probabilities])


def masked(probabilities: Sequence[float], keep: Collection[int]) -> list[float]:
    """The probabilities with 0 for all tokens but those of `keep`."""
    return [p if token in keep else 0.0 for token, p in enumerate(probabilities)]


def kept(probabilities: Sequence[float], keep: Collection[int]) -> list[float]:
    """What's left of a distribution if only the tokens of `keep` may be drawn."""
    return normalized(masked(probabilities, keep))


def shares(tokens: Sequence[int], vocab_size: int) -> list[float]:
    """How often each token occurs, in parts of 1."""
    return [tokens.count(token) / len(tokens) for token in range(vocab_size)]


def fits(drawn: Sequence[float], distribution: Sequence[float]) -> bool:
    """Whether evenly spread draws from the distribution come out like this. What's impossible must not occur."""
    pairs = zip(drawn, distribution, strict=True)
    return all(math.isclose(a, b, abs_tol=TOLERANCE / NUM_DRAWS) if b > 0 else a == 0 for a, b in pairs)


def surplus_on_one(drawn: Sequence[float], unnormalized: Sequence[float]) -> bool:
    """Whether every token but one is drawn as often as before the filter, and one gets the rest as well."""
    surplus = [a - b for a, b in zip(drawn, unnormalized, strict=True)]
    return sum(abs(extra) > TOLERANCE / NUM_DRAWS for extra in surplus) == 1


def example(probabilities: Sequence[float], params: Mapping[str, float]) -> str:
    """The beginning of a detail: what the sampler was given."""
    settings = "".join(f", {name} {value:g}" for name, value in params.items())
    return f"for the probabilities {list(probabilities)}{settings}"


def words(distribution: Sequence[float]) -> str:
    """A distribution as text, rounded."""
    return "[" + ", ".join(f"{p:.2f}".rstrip("0").rstrip(".") for p in distribution) + "]"
