"""What a request asks of the sampler."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real

from minillm.errors import InvalidRequestError
from minillm.structured.grammar import Grammar

MAX_LOGPROBS = 20
MAX_N = 128
# Far beyond every use; what's larger or smaller would overflow in float32.
MAX_TEMPERATURE = 1000.0
MAX_REPETITION_PENALTY = 1000.0


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen, and when generation ends. Defaults are those of the OpenAI API.

    Attributes:
        temperature: divides the logits; 0 takes the most likely token (greedy), 1 samples from the model's own
            distribution, more flattens it.
        top_k: samples among the k most likely tokens; 0 or -1 among all.
        top_p: samples among the fewest tokens whose probabilities add up to p (arXiv:1904.09751 §3.1).
        min_p: drops tokens less likely than min_p times the most likely one (arXiv:2407.01082).
        repetition_penalty: divides positive logits of tokens seen in prompt or output, multiplies negative ones
            (arXiv:1909.05858 §4.1); 1 is none.
        presence_penalty: is taken off the logits of tokens that are in the output.
        frequency_penalty: is taken off the logits once for each time that a token is in the output.
        logit_bias: is added to the logits, by token id.
        seed: makes the request repeatable; without one, each request draws its own.
        max_tokens: the most tokens to generate.
        stop: strings that end the output; they are not part of it.
        stop_token_ids: tokens that end the output, beside the model's own end-of-text tokens.
        ignore_eos: generate on after the model's end-of-text tokens (for measurements).
        n: how many outputs to generate for the prompt, which is computed once for all.
        logprobs: report the log-probability of each token and of this many of the most likely ones (0 to 20).
        grammar: what the output must match, such as a JSON Schema. It ends where the grammar does, or is cut off by
            max_tokens and the stops. Not together with ignore_eos.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    max_tokens: int = 128
    stop: str | Sequence[str] = ()
    stop_token_ids: Sequence[int] = ()
    ignore_eos: bool = False
    logprobs: int | None = None
    n: int = 1
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        """Checks every field; from here on `stop` and `stop_token_ids` are tuples.

        Raises:
            InvalidRequestError: naming the first field that's of a wrong type or out of its range.
        """
        self._check_number("temperature", 0, MAX_TEMPERATURE)
        self._check_integer("top_k", -1, note="; 0 or -1 turns it off")
        self._check_number("top_p", 0, 1, excluding_low=True)
        self._check_number("min_p", 0, 1)
        self._check_number("repetition_penalty", 1 / MAX_REPETITION_PENALTY, MAX_REPETITION_PENALTY)
        self._check_number("presence_penalty", -2, 2)
        self._check_number("frequency_penalty", -2, 2)
        self._check_logit_bias()
        if self.seed is not None:
            self._check("seed", _is_integer(self.seed), "a whole number or None")
        self._check_integer("max_tokens", 1)
        self._check_stops()
        self._check("ignore_eos", isinstance(self.ignore_eos, bool), "True or False")
        if self.logprobs is not None:
            self._check_integer("logprobs", 0, MAX_LOGPROBS)
        self._check_integer("n", 1, MAX_N)
        self._check("grammar", self.grammar is None or isinstance(self.grammar, Grammar), "a Grammar or None")
        self._check(
            "ignore_eos", not (self.ignore_eos and self.grammar), "False: the grammar says where the output ends"
        )

    def _check_logit_bias(self) -> None:
        bias = self.logit_bias
        ok = isinstance(bias, Mapping) and all(
            _is_integer(token) and _is_number(value) and -100 <= value <= 100 for token, value in bias.items()
        )
        self._check("logit_bias", ok, "a mapping from token ids to numbers between -100 and 100")

    def _check_stops(self) -> None:
        # One stop string may be given as it is.
        stops = (self.stop,) if isinstance(self.stop, str) else self.stop
        ok = _is_sequence(stops) and all(isinstance(stop, str) and stop for stop in stops)
        self._check("stop", ok, "a string or a list of strings, none of them empty")
        object.__setattr__(self, "stop", tuple(stops))
        tokens = self.stop_token_ids
        self._check("stop_token_ids", _is_sequence(tokens) and all(map(_is_integer, tokens)), "a list of token ids")
        object.__setattr__(self, "stop_token_ids", tuple(tokens))

    def _check_number(self, name: str, low: float, high: float, *, excluding_low: bool = False) -> None:
        value = getattr(self, name)
        ok = _is_number(value) and (low < value if excluding_low else low <= value) and value <= high
        expected = f"more than {low:g} and at most {high:g}" if excluding_low else f"between {low:g} and {high:g}"
        self._check(name, ok, f"a number {expected}")

    def _check_integer(self, name: str, low: int, high: int | None = None, *, note: str = "") -> None:
        value = getattr(self, name)
        ok = _is_integer(value) and low <= value and (high is None or value <= high)
        self._check(name, ok, f"a whole number from {low}{'' if high is None else f' to {high}'}{note}")

    def _check(self, name: str, ok: bool, expected: str) -> None:
        if not ok:
            raise InvalidRequestError(
                f"{name} is {reprlib.repr(getattr(self, name))}; expected {expected}.", param=name
            )

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """`stop` as a tuple, however it was given."""
        return tuple(self.stop)

    @property
    def adjusts_logits(self) -> bool:
        """Whether penalties or a bias change the logits."""
        return bool(self.repetition_penalty != 1 or self.presence_penalty or self.frequency_penalty or self.logit_bias)

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is always taken."""
        return self.temperature == 0


def _is_number(value: object) -> bool:
    # True is 1 to Python; where a number is expected, it's a slip. NaN fails every comparison that follows.
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))
