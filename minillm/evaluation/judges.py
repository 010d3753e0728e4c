"""How far a judge can be trusted: whether it agrees with people, and what else than quality moves it.

Following Zheng et al., Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena, arXiv:2306.05685 §3.3 and §4.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minillm.evaluation.asking import Progress, Prompt, ask_all
from minillm.evaluation.connection import Connection
from minillm.evaluation.errors import EvaluationError
from minillm.evaluation.journal import Journal
from minillm.evaluation.judging import (
    CORRECT,
    FIRST,
    INCORRECT,
    SECOND,
    TIE,
    JudgeCase,
    choosing_messages,
    grading_messages,
    read_verdict,
    verdict_format,
)
from minillm.evaluation.statistics import (
    Estimate,
    bootstrap,
    cohens_kappa,
    estimate_mean,
    estimate_proportion,
    rank_correlation,
)

PADDING = (
    "This is an important question that deserves a careful answer, and there are several things to keep in mind when "
    "one thinks about it. {answer} To sum up, this is what there is to say about it, and it is worth remembering that "
    "every question can be looked at from more than one side."
)
"""Makes an answer longer and no better."""

Choices = Sequence[tuple[str, str]]
"""For each pair of answers, the verdict in their order and the verdict in the other order."""


@dataclass(frozen=True)
class JudgeReport:
    """What is known about a judge. A number that its verdicts give no value for is None.

    Attributes:
        model: the judge.
        num_cases: how many cases it was asked about.
        num_unreadable: how many of its verdicts never came or were none; their cases are left out where they belong.
        accuracy: the share of single answers that it graded as people did.
        kappa: the same beyond chance (Cohen).
        confusion: how often people's label and the judge's went together, by "label judged as verdict".
        preference: the share of pairs, asked in both orders, where it preferred the better answer; a tie counts half.
        consistency: the share of pairs where both orders gave one verdict about the answers.
        follows_position: the share of pairs where it chose the same place, whatever stood there.
        first_place: of the verdicts that chose a place, the share that chose the first; 0.5 is fair.
        padded_preference: the share of pairs of an answer and the same with empty words where it preferred the longer
            one; a tie counts half, so 0.5 is fair.
        length_correlation: Spearman's ρ of the preference between better and worse with the difference in length.
    """

    model: str
    num_cases: int
    num_unreadable: int
    accuracy: Estimate | None
    kappa: Estimate | None
    confusion: Mapping[str, int]
    preference: Estimate | None
    consistency: Estimate | None
    follows_position: Estimate | None
    first_place: Estimate | None
    padded_preference: Estimate | None
    length_correlation: Estimate | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: each.as_dict() if isinstance(each, Estimate) else each for name, each in fields.items()}


async def try_judge(
    connection: Connection,
    cases: Sequence[JudgeCase],
    *,
    with_reference: bool = False,
    max_tokens: int = 256,
    journal: Journal | None = None,
    progress: Progress | None = None,
    maximum: int = 64,
    seed: int = 0,
) -> JudgeReport:
    """Asks a judge six times about each case, and compares what it says with what is known.

    Args:
        connection: the server, and the model that judges.
        cases: what it judges.
        with_reference: whether it's told the reference.
        max_tokens: the longest verdict.
        journal, progress, maximum: see `ask_all`.
        seed: of the intervals' bootstrap.

    Raises:
        ServerError: as `ask_all`.
    """
    prompts: list[Prompt] = []
    for case in cases:
        prompts += _prompts(case, case.reference if with_reference else None, max_tokens)
    replies = await ask_all(connection, prompts, journal=journal, progress=progress, maximum=maximum)
    found = {reply.id: reply for reply in replies}

    def verdict(case: JudgeCase, kind: str) -> str | None:
        allowed = (CORRECT, INCORRECT) if kind.startswith("grade") else (FIRST, SECOND, TIE)
        try:
            return read_verdict(found[f"{case.id}/{kind}"].text, allowed).verdict
        except EvaluationError:
            return None

    verdicts = {(case.id, kind): verdict(case, kind) for case in cases for kind in _KINDS}
    return report(connection.model, cases, verdicts, seed=seed)


_KINDS = ("grade better", "grade worse", "choose", "choose swapped", "pad", "pad swapped")


def _prompts(case: JudgeCase, reference: str | None, max_tokens: int) -> list[Prompt]:
    padded = PADDING.format(answer=case.better)
    conversations = (
        grading_messages(case.question, case.better, reference),
        grading_messages(case.question, case.worse, reference),
        choosing_messages(case.question, case.better, case.worse, reference),
        choosing_messages(case.question, case.worse, case.better, reference),
        choosing_messages(case.question, padded, case.better, reference),
        choosing_messages(case.question, case.better, padded, reference),
    )
    formats = [verdict_format((CORRECT, INCORRECT))] * 2 + [verdict_format((FIRST, SECOND, TIE))] * 4
    return [
        Prompt(f"{case.id}/{kind}", each, {"temperature": 0.0, "max_tokens": max_tokens, "response_format": form})
        for kind, each, form in zip(_KINDS, conversations, formats, strict=True)
    ]


def report(
    model: str, cases: Sequence[JudgeCase], verdicts: Mapping[tuple[str, str], str | None], *, seed: int = 0
) -> JudgeReport:
    """Makes a report of verdicts.

    Args:
        model: the judge.
        cases: what it judged.
        verdicts: by the case's id and "grade better", "grade worse", "choose", "choose swapped", "pad" (the padded
            answer first), "pad swapped"; None where there's none.
        seed: of the intervals' bootstrap.
    """
    graded = [
        (label, verdict)
        for case in cases
        for label, kind in ((CORRECT, "grade better"), (INCORRECT, "grade worse"))
        if (verdict := verdicts[case.id, kind]) is not None
    ]
    chosen, paired = _choices(cases, verdicts, "choose")
    padded, _ = _choices(cases, verdicts, "pad")
    lengths = [math.log(len(case.better) / len(case.worse)) for case in paired]
    return JudgeReport(
        model,
        len(cases),
        sum(verdict is None for verdict in verdicts.values()),
        estimate_proportion(sum(label == said for label, said in graded), len(graded)) if graded else None,
        estimate_kappa([label for label, _ in graded], [said for _, said in graded], seed=seed),
        {f"{label} judged as {said}": count for (label, said), count in sorted(Counter(graded).items())},
        estimate_preference(chosen, seed=seed),
        _share(chosen, is_consistent),
        _share(chosen, follows_position),
        estimate_first_place(chosen, seed=seed),
        estimate_preference(padded, seed=seed),
        estimate_length_correlation([preference(*pair) for pair in chosen], lengths, seed=seed),
    )


def _choices(
    cases: Sequence[JudgeCase], verdicts: Mapping[tuple[str, str], str | None], kind: str
) -> tuple[Choices, list[JudgeCase]]:
    """The verdicts of the pairs that have both, and their cases."""
    found, paired = [], []
    for case in cases:
        straight, swapped = verdicts[case.id, kind], verdicts[case.id, f"{kind} swapped"]
        if straight is not None and swapped is not None:
            found.append((straight, swapped))
            paired.append(case)
    return found, paired


def preference(straight: str, swapped: str) -> float:
    """How far a pair's first answer is preferred over both orders: 1 always, 0.5 as often as not, 0 never."""
    score = {FIRST: 1.0, SECOND: 0.0, TIE: 0.5}
    return (score[straight] + 1 - score[swapped]) / 2


def is_consistent(straight: str, swapped: str) -> bool:
    """Whether both orders gave one verdict about the answers: the same answer, or two ties."""
    return {straight: swapped} in ({FIRST: SECOND}, {SECOND: FIRST}, {TIE: TIE})


def follows_position(straight: str, swapped: str) -> bool:
    """Whether both orders gave one verdict about the places: the first both times, or the second."""
    return straight == swapped and straight != TIE


def _share(choices: Choices, condition: Callable[[str, str], bool]) -> Estimate | None:
    return estimate_proportion(sum(condition(*pair) for pair in choices), len(choices)) if choices else None


def estimate_preference(choices: Choices, *, seed: int = 0) -> Estimate | None:
    """The mean `preference`. What is drawn for the interval are pairs: the two orders of one aren't independent."""
    return estimate_mean([preference(*pair) for pair in choices], seed=seed) if choices else None


def estimate_first_place(choices: Choices, *, seed: int = 0) -> Estimate | None:
    """Of the verdicts that chose a place, the share that chose the first; None if none did."""
    first = np.array([pair.count(FIRST) for pair in choices])
    placed = np.array([2 - pair.count(TIE) for pair in choices])

    def share(drawn: NDArray[np.intp]) -> float | None:
        return float(first[drawn].sum() / placed[drawn].sum()) if placed[drawn].sum() else None

    shares = set((first[placed > 0] / placed[placed > 0]).tolist())
    if len(shares) == 1:  # the bootstrap's interval would have no width
        return estimate_mean(list(shares) * int((placed > 0).sum()))
    return bootstrap(share, len(choices), seed=seed) if shares else None


def estimate_kappa(labels: Sequence[str], verdicts: Sequence[str], *, seed: int = 0) -> Estimate | None:
    """Cohen's κ with its interval; None where it has no value."""
    if not labels or cohens_kappa(labels, verdicts) is None:
        return None
    return bootstrap(
        lambda drawn: cohens_kappa([labels[index] for index in drawn], [verdicts[index] for index in drawn]),
        len(labels),
        seed=seed,
    )


def estimate_length_correlation(
    preferences: Sequence[float], lengths: Sequence[float], *, seed: int = 0
) -> Estimate | None:
    """Spearman's ρ of preference and length with its interval; None where it has no value.

    It's only the judge's bias as far as longer answers aren't better ones in the set; the padded pairs, where nothing
    but the length differs, have no such doubt.
    """
    x, y = np.array(preferences), np.array(lengths)
    if not len(x) or rank_correlation(x, y) is None:
        return None
    return bootstrap(lambda drawn: rank_correlation(x[drawn], y[drawn]), len(x), seed=seed)
