"""Lesson 01's exercises: the stub fails, the solution passes, and typical wrong answers are told what's wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from notebooks import run_cells

from minillm.attention import DenseAttention
from minillm.lab import Checker
from minillm.testing import Report

STEM = "01-large-language-models"
IMPORTS = "import torch\nfrom minillm.attention import DenseAttention\n"
EXERCISES = {"warm-up": "sequence_logprob", "core": "MySampler", "stretch": "make_serve"}


def answer(folder: str, exercise: str) -> Any:
    cells = run_cells(folder, STEM, exercise)
    cells.update(torch=torch, DenseAttention=DenseAttention)
    return cells[EXERCISES[exercise]]


def failures(report: Report) -> dict[str, str]:
    """The failed behaviors, each with all that the student is told in the end."""
    return {b.name: f"{b.detail} {b.hint} {b.strong_hint}" for b in report.failed}


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_stub_fails(exercise: str) -> None:
    report = Checker("01")(exercise, answer("exercises", exercise))
    assert not report.passed
    assert "NotImplementedError" in str(report)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_solution_passes(exercise: str) -> None:
    Checker("01")(exercise, answer("solutions", exercise)).raise_if_failed()


def test_a_second_failure_shows_the_stronger_hint() -> None:
    check = Checker("01")
    first, second = (str(check("warm-up", lambda logits, ids: 0.0)) for _ in range(2))
    assert "The text's probability is a product" in first
    assert "pick each token's entry with gather" in second


def _chosen(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """The right log-probabilities, for wrong answers to spoil."""
    return logits[:-1].log_softmax(-1).gather(-1, ids[1:, None])


# Wrong answer → (the behavior that catches it, words that name the cause).
WRONG_LOGPROBS = {
    "same row": (
        lambda logits, ids: float(logits.log_softmax(-1).gather(-1, ids[:, None]).sum()),
        ("looks each token up in the row before it", "row i"),
    ),
    "last token only": (
        lambda logits, ids: float(_chosen(logits, ids)[-1:].sum()),
        ("looks each token up in the row before it", "last token only"),
    ),
    "mean": (
        lambda logits, ids: float(_chosen(logits, ids).sum() / max(len(ids) - 1, 1)),
        ("adds the logarithms of the probabilities", "mean"),
    ),
    "product of probabilities": (
        lambda logits, ids: float(_chosen(logits, ids).exp().prod()),
        ("adds the logarithms of the probabilities", "product"),
    ),
    "sum of probabilities": (
        lambda logits, ids: float(_chosen(logits, ids).exp().sum()),
        ("adds the logarithms of the probabilities", "logarithms are missing"),
    ),
    "negative log-likelihood": (
        lambda logits, ids: float(-_chosen(logits, ids).sum()),
        ("adds the logarithms of the probabilities", "sign"),
    ),
    "bits": (
        lambda logits, ids: float(_chosen(logits, ids).sum() / math.log(2)),
        ("adds the logarithms of the probabilities", "bits"),
    ),
    "raw logits": (
        lambda logits, ids: float(logits[:-1].gather(-1, ids[1:, None]).sum()),
        ("doesn't change when every logit grows by the same", "log_softmax"),
    ),
    "softmax, then log": (
        lambda logits, ids: float(logits[:-1].softmax(-1).log().gather(-1, ids[1:, None]).sum()),
        ("gives a finite answer for a very unlikely token", "log_softmax"),
    ),
    "softmax over the wrong dimension": (
        lambda logits, ids: float(logits[:-1].log_softmax(0).gather(-1, ids[1:, None]).sum()),
        ("adds the logarithms of the probabilities", "log 0.25 + log 0.3"),
    ),
    "one value per token": (
        lambda logits, ids: _chosen(logits, ids),
        ("returns one number", "sum()"),
    ),
}


@pytest.mark.parametrize("mistake", WRONG_LOGPROBS)
def test_a_wrong_log_probability_is_explained(mistake: str) -> None:
    function, (behavior, words) = WRONG_LOGPROBS[mistake]
    failed = failures(Checker("01")("warm-up", function))
    assert behavior in failed
    assert words in failed[behavior]


class IgnoresTheDart:
    def sample(self, logits: torch.Tensor, metadata: Any) -> torch.Tensor:
        greedy = logits.argmax(-1)
        hot = metadata.temperature > 0
        drawn = torch.multinomial((logits / metadata.temperature.clamp(min=0.1)[:, None]).softmax(-1), 1)[:, 0]
        return torch.where(hot, drawn, greedy)


class ForgetsTemperatureZero:
    def sample(self, logits: torch.Tensor, metadata: Any) -> torch.Tensor:
        cumulative = (logits / (metadata.temperature[:, None] + 1.0)).softmax(-1).double().cumsum(-1)
        return torch.searchsorted(cumulative, metadata.uniform[:, None]).squeeze(-1).clamp(max=logits.shape[-1] - 1)


@pytest.mark.parametrize(
    ("sampler", "behavior", "words"),
    [
        (IgnoresTheDart, "repeats itself for the same seed", "torch.multinomial"),
        (ForgetsTemperatureZero, "serves greedy requests in the engine", "argmax"),
    ],
)
def test_a_wrong_sampler_is_explained_where_it_serves(sampler: type, behavior: str, words: str) -> None:
    failed = failures(Checker("01")("core", sampler))
    assert words in failed[behavior]


def packed_serve(llm: Any, *, restart_positions: bool = True, separate: bool = True, extra: int = 0) -> Any:
    """All requests in one row; the options leave something out."""

    class Packed:
        def __init__(self, lengths: list[int]) -> None:
            self.lengths = lengths

        def __call__(self, layer: int, *tensors: torch.Tensor) -> torch.Tensor:
            if not separate:
                return DenseAttention()(layer, *tensors)
            parts = zip(*(tensor.split(self.lengths) for tensor in tensors), strict=True)
            return torch.cat([DenseAttention()(layer, *part) for part in parts])

    def serve(requests: Any, record: Any) -> None:
        texts = [list(request.prompt_token_ids) for request in requests]
        for _ in range(requests[0].max_tokens + extra):
            lengths = [len(text) for text in texts]
            row = torch.tensor([token for text in texts for token in text])
            positions = torch.cat([torch.arange(n) for n in lengths]) if restart_positions else torch.arange(len(row))
            hidden = llm.model(row, positions, Packed(lengths))
            tokens = llm.model.logits(hidden[torch.tensor(lengths).cumsum(0) - 1]).argmax(-1).tolist()
            for request, text, token in zip(requests, texts, tokens, strict=True):
                text.append(token)
                record(request.index, token)

    return serve


@pytest.mark.parametrize(
    ("options", "behavior", "words"),
    [
        # RoPE sees distances only, so positions that run on change nothing as long as the texts are kept apart.
        ({"separate": False}, "serves four requests of different lengths", "attention must stay within it"),
        (
            {"separate": False, "restart_positions": False},
            "serves four requests of different lengths",
            "tokens of another",
        ),
        ({"extra": 1}, "serves one request", "it asked for"),
        ({"extra": -1}, "serves one request", "max_tokens times"),
    ],
)
def test_a_wrong_system_is_explained(options: dict[str, Any], behavior: str, words: str) -> None:
    failed = failures(Checker("01")("stretch", lambda llm: packed_serve(llm, **options)))
    assert words in failed[behavior]
