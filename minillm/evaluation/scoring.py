"""Metrics by name, and what each needs to know of an example."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minillm.evaluation import metrics
from minillm.evaluation.dataset import Example
from minillm.evaluation.errors import EvaluationError
from minillm.evaluation.text import cited_numbers

DEFAULT_K = 5


@dataclass(frozen=True)
class Metric:
    """A number from 0 to 1 for an example and an answer.

    Attributes:
        name: "exact_match", "recall@5", …
        score: takes an example and the model's answer.
        needs: the fields of `Example` that may not be empty.
        needs_answer: whether the model has to be asked.
    """

    name: str
    score: Callable[[Example, str], float]
    needs: tuple[str, ...]
    needs_answer: bool = True


def _of_ranking(function: Callable[..., float]) -> Callable[[int], Callable[[Example, str], float]]:
    return lambda k: lambda example, _: function(example.retrieved, _relevant(example), k)


def _relevant(example: Example) -> set[str]:
    return {name for name, grade in example.relevant.items() if grade > 0}


def _cited(example: Example, answer: str) -> set[str]:
    """The ids of the cited sources. A number that no source has stays a citation, and a wrong one."""
    by_number = {number: source.id for number, source in enumerate(example.sources, 1)}
    return {by_number.get(number, f"no source {number}") for number in cited_numbers(answer)}


_OF_ANSWERS = (
    Metric("exact_match", lambda example, answer: metrics.exact_match(answer, example.answers), ("answers",)),
    Metric("f1", lambda example, answer: metrics.token_f1(answer, example.answers), ("answers",)),
    Metric(
        "citation_precision",
        lambda example, answer: metrics.citation_precision(_cited(example, answer), _relevant(example)),
        ("sources",),
    ),
    Metric(
        "citation_recall",
        lambda example, answer: metrics.citation_recall(_cited(example, answer), _relevant(example)),
        ("sources",),
    ),
    Metric(
        "groundedness",
        lambda example, answer: metrics.groundedness(answer, [source.text for source in example.sources]),
        ("sources",),
    ),
)
_OF_RANKINGS = {
    "recall": _of_ranking(metrics.recall_at_k),
    "precision": _of_ranking(metrics.precision_at_k),
    "ndcg": lambda k: lambda example, _: metrics.ndcg_at_k(example.retrieved, example.relevant, k),
}
NAMES = (*(metric.name for metric in _OF_ANSWERS), "mrr", *(f"{name}@{DEFAULT_K}" for name in _OF_RANKINGS))
"""The metrics; another number may follow the @."""


def find_metric(name: str) -> Metric:
    """A metric by its name; for those of a ranking, @ and how many ranks count.

    Raises:
        EvaluationError: if there's none of this name.
    """
    for metric in _OF_ANSWERS:
        if metric.name == name:
            return metric
    if name == "mrr":
        return Metric(
            "mrr",
            lambda example, _: metrics.reciprocal_rank(example.retrieved, _relevant(example)),
            ("relevant",),
            needs_answer=False,
        )
    match = re.fullmatch(rf"({'|'.join(_OF_RANKINGS)})@([1-9]\d{{0,5}})", name)
    if not match:
        raise EvaluationError(f"There's no metric {name!r}; choose among {', '.join(NAMES)}.")
    return Metric(name, _OF_RANKINGS[match[1]](int(match[2])), ("relevant",), needs_answer=False)


def check_fit(metrics_: Sequence[Metric], examples: Sequence[Example]) -> None:
    """Finds out whether the examples have what the metrics need, before anything is asked.

    Raises:
        EvaluationError: naming the metric, the example and the field.
    """
    for metric in metrics_:
        for example in examples:
            for name in metric.needs:
                if not getattr(example, name):
                    raise EvaluationError(f"{metric.name} needs {name}, which example {example.id!r} doesn't have.")
        if not metric.needs_answer and not any(example.retrieved for example in examples):
            raise EvaluationError(f"{metric.name} needs retrieved, which no example has: what a search found, by id.")
