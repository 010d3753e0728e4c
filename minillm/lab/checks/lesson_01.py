"""Checks of lesson 01's exercises."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from minillm.attention import DenseAttention
from minillm.engine import LLM
from minillm.lab.scoreboard import Serve, Workload, WorkloadRequest
from minillm.sampling import SamplingParams
from minillm.testing import Case, CheckFailed, Report, check_sampler, run_cases

# -- warm-up ----------------------------------------------------------------------------------------------------

# Row i are the logits after token i; the probabilities are round numbers, so that a failure can be checked by hand.
_PROBABILITIES = [[0.5, 0.25, 0.125, 0.125], [0.1, 0.2, 0.3, 0.4], [0.7, 0.1, 0.1, 0.1]]
_TOKENS = [3, 1, 2]
_EXPECTED = math.log(0.25) + math.log(0.3)

SequenceLogprob = Callable[[torch.Tensor, torch.Tensor], Any]


def check_sequence_logprob(function: SequenceLogprob) -> Report:
    """`sequence_logprob(logits, token_ids)`: the log-probability of a text under the model."""

    def call(logits: torch.Tensor, tokens: Sequence[int]) -> float:
        return float(function(logits, torch.tensor(tokens)))

    def example(scale: float = 0.0) -> float:
        return call(torch.tensor(_PROBABILITIES).log() + scale, _TOKENS)

    def returns_a_number() -> None:
        value = function(torch.tensor(_PROBABILITIES).log(), torch.tensor(_TOKENS))
        if not isinstance(value, (int, float)) and getattr(value, "numel", lambda: 0)() != 1:
            raise CheckFailed(f"it returned {value!r}")

    def reads_the_row_before() -> None:
        found = example()
        same_row = sum(math.log(_PROBABILITIES[i][t]) for i, t in enumerate(_TOKENS))
        if math.isclose(found, same_row, abs_tol=1e-5):
            raise CheckFailed(
                f"for the tokens {_TOKENS} it looked token i up in row i and got {found:.3f}; "
                f"the answer is {_EXPECTED:.3f}"
            )
        if math.isclose(found, math.log(0.3), abs_tol=1e-5):
            raise CheckFailed(f"it counted the last token only and got {found:.3f}; the answer is {_EXPECTED:.3f}")

    def adds_logs() -> None:
        found = example()
        known = {
            0.25 * 0.3: "that's the product of the probabilities, not a sum of logarithms",
            0.25 + 0.3: "that's the sum of the probabilities; logarithms are missing",
            -_EXPECTED: "that's the negative log-likelihood; the sign is the other way round",
            _EXPECTED / 2: "that's the mean over the tokens; the sum was asked for",
            _EXPECTED / 3: "that's the mean over the tokens; the sum was asked for",
            _EXPECTED / math.log(2): "that's in bits; natural logarithms were asked for",
        }
        for value, meaning in known.items():
            if math.isclose(found, value, abs_tol=1e-5):
                raise CheckFailed(f"it returned {found:.3f}: {meaning}")
        if not math.isclose(found, _EXPECTED, abs_tol=1e-4):
            raise CheckFailed(
                f"for probabilities 0.25 and 0.3 it returned {found:.4f}; log 0.25 + log 0.3 is {_EXPECTED:.4f}"
            )

    def normalizes() -> None:
        plain, shifted = example(), example(scale=5.0)
        if not math.isclose(plain, shifted, abs_tol=1e-4):
            raise CheckFailed(f"with 5 added to every logit the answer went from {plain:.3f} to {shifted:.3f}")

    def survives_unlikely_tokens() -> None:
        found = call(torch.tensor([[0.0, -200.0], [0.0, 0.0]]), [0, 1])
        if not math.isclose(found, -200.0, abs_tol=1e-2):
            raise CheckFailed(f"for a token 200 below the best its log-probability is -200; it returned {found}")

    def one_token_is_certain() -> None:
        found = call(torch.zeros(1, 4), [2])
        if not math.isclose(found, 0.0, abs_tol=1e-6):
            raise CheckFailed(f"for a text of one token there's nothing to predict, so 0.0; it returned {found:.3f}")

    return run_cases(
        "Warm-up: how surprised is the model by a text?",
        [
            Case(
                "returns one number",
                returns_a_number,
                "Add the tokens' values up.",
                "End with `.sum()` and `float(…)`.",
            ),
            Case(
                "looks each token up in the row before it",
                reads_the_row_before,
                "Row i of the logits is what the model expects after token i.",
                "Token i is predicted by row i - 1: use logits[:-1] for token_ids[1:].",
            ),
            Case(
                "adds the logarithms of the probabilities",
                adds_logs,
                "The text's probability is a product; the logarithm of a product is a sum.",
                "log_softmax(-1), pick each token's entry with gather, then sum. Natural logarithm, no mean, no minus.",
            ),
            Case(
                "doesn't change when every logit grows by the same",
                normalizes,
                "Logits aren't log-probabilities yet.",
                "Apply log_softmax over the vocabulary (dim=-1) first.",
            ),
            Case(
                "gives a finite answer for a very unlikely token",
                survives_unlikely_tokens,
                "A probability of e^-200 is 0 in float32, and log 0 is -inf.",
                "Use log_softmax, which never forms the probability, instead of softmax().log().",
            ),
            Case(
                "is 0 for a text of one token",
                one_token_is_certain,
                "The first token has no row before it.",
                "With logits[:-1] and token_ids[1:] both are empty, and an empty sum is 0.",
            ),
        ],
    )


# -- core -------------------------------------------------------------------------------------------------------


def check_served_sampler(sampler: Any) -> Report:
    """The sampler by itself, and then in the engine, serving requests."""
    by_itself = check_sampler(sampler)
    prompt = "The quick brown fox"

    def text(params: SamplingParams) -> list[int]:
        return LLM("tiny-random", device="cpu", sampler=sampler).generate(prompt, params).token_ids

    def greedy_matches() -> None:
        params = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
        found, expected = text(params), LLM("tiny-random", device="cpu").generate(prompt, params).token_ids
        if found != expected:
            at = next(i for i, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
            raise CheckFailed(
                f"at temperature 0 token {at} is {found[at]}; the engine's own sampler takes {expected[at]}"
            )

    def seeds_repeat() -> None:
        params = SamplingParams(temperature=1.0, seed=5, max_tokens=12, ignore_eos=True)
        once, again = text(params), text(params)
        if once != again:
            raise CheckFailed(f"seed 5 gave {once[:4]}… the first time and {again[:4]}… the second")

    in_engine = run_cases(
        "Core: a sampler that serves requests",
        [
            Case(
                "serves greedy requests in the engine",
                greedy_matches,
                "Temperature 0 stands for the likeliest token.",
                "Where metadata.temperature is 0, return logits.argmax(-1); dividing by 0 gives no numbers.",
            ),
            Case(
                "repeats itself for the same seed",
                seeds_repeat,
                "The engine turns the seed into metadata.uniform.",
                "Draw with metadata.uniform; torch.multinomial and torch.rand know nothing of the seed.",
            ),
        ],
    )
    return Report(in_engine.title, [*by_itself.behaviors, *in_engine.behaviors])


# -- stretch ----------------------------------------------------------------------------------------------------


def check_serve(make_serve: Callable[[LLM], Serve]) -> Report:
    """A system for the scoreboard, on the tiny model: the same tokens as the naive loop."""
    llm = LLM("tiny-random", device="cpu")
    requests = list(Workload.for_tokenizer(llm.tokenizer).requests)[:4]

    def run(served: Sequence[WorkloadRequest]) -> dict[int, list[int]]:
        tokens: dict[int, list[int]] = {request.index: [] for request in served}
        with torch.inference_mode():
            make_serve(llm)(served, lambda index, token: tokens[index].append(int(token)))
        return tokens

    def compare(served: Sequence[WorkloadRequest]) -> None:
        found = run(served)
        for request in served:
            expected = _naive(llm, request)
            if len(found[request.index]) != len(expected):
                raise CheckFailed(
                    f"request {request.index} got {len(found[request.index])} tokens; it asked for {len(expected)}"
                )
            for position, (token, right) in enumerate(zip(found[request.index], expected, strict=True)):
                if token != right:
                    raise CheckFailed(f"request {request.index}, token {position}: {token} instead of {right}")

    return run_cases(
        "Stretch: faster than the naive loop, with the same tokens",
        [
            Case(
                "serves one request",
                lambda: compare(requests[:1]),
                "Compare with the lesson's loop, token by token.",
                "Call record(request.index, token) once per token, max_tokens times, also after an end-of-text token.",
            ),
            Case(
                "serves four requests of different lengths",
                lambda: compare(requests),
                "Does one request see the tokens of another?",
                "Positions begin at 0 in each text, and attention must stay within it: split q, k and v by request.",
                time_limit=60,
            ),
        ],
    )


def _naive(llm: LLM, request: WorkloadRequest) -> list[int]:
    token_ids = list(request.prompt_token_ids)
    with torch.inference_mode():
        for _ in range(request.max_tokens):
            hidden = llm.model(torch.tensor(token_ids), torch.arange(len(token_ids)), DenseAttention())
            token_ids.append(int(llm.model.logits(hidden[-1:]).argmax()))
    return token_ids[len(request.prompt_token_ids) :]


CHECKS: Mapping[str, Callable[..., Report]] = {
    "warm-up": check_sequence_logprob,
    "core": check_served_sampler,
    "stretch": check_serve,
}
