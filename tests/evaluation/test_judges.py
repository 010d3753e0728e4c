"""Judges: verdicts in a fixed form from a real server, and reports of judges whose faults are known."""

from __future__ import annotations

import asyncio
import json

import pytest

from minillm.evaluation import (
    DATA,
    Connection,
    EvaluationError,
    Prompt,
    ask_all_and_wait,
    cohens_kappa,
    read_judge_cases,
    read_verdict,
    try_judge,
    verdict_format,
)
from minillm.evaluation.judges import (
    JudgeReport,
    estimate_first_place,
    estimate_preference,
    follows_position,
    is_consistent,
    preference,
    report,
)
from minillm.evaluation.judging import CORRECT, FIRST, INCORRECT, SECOND, TIE, JudgeCase, choosing_messages

CASES = read_judge_cases(DATA / "judge.jsonl")


def report_of(case_verdicts: dict[str, str | None]) -> JudgeReport:
    """Of a judge that says the same about every case."""
    return report("m", CASES, {(case.id, kind): said for case in CASES for kind, said in case_verdicts.items()})


FAIR = {
    "grade better": CORRECT,
    "grade worse": INCORRECT,
    "choose": FIRST,
    "choose swapped": SECOND,
    "pad": TIE,
    "pad swapped": TIE,
}


def value(each: object) -> float:
    return each.value  # type: ignore[attr-defined]


def test_a_perfect_judge() -> None:
    fair = report_of(FAIR)
    assert value(fair.accuracy) == value(fair.kappa) == value(fair.preference) == value(fair.consistency) == 1.0
    assert value(fair.follows_position) == 0.0 and value(fair.first_place) == value(fair.padded_preference) == 0.5
    assert fair.length_correlation is None  # it always prefers the same one, so nothing varies
    assert fair.confusion == {"correct judged as correct": 16, "incorrect judged as incorrect": 16}
    assert fair.num_unreadable == 0
    assert json.loads(json.dumps(fair.as_dict()))["kappa"]["value"] == 1.0


def test_a_judge_that_always_takes_the_first_place() -> None:
    first = report_of(FAIR | {"choose": FIRST, "choose swapped": FIRST, "pad": FIRST, "pad swapped": FIRST})
    assert value(first.follows_position) == value(first.first_place) == 1.0
    assert value(first.consistency) == 0.0
    assert value(first.preference) == value(first.padded_preference) == 0.5  # both orders cancel out
    assert first.first_place is not None and first.first_place.low < 0.9  # sixteen are no proof


def test_a_judge_that_finds_everything_correct_agrees_no_more_than_chance() -> None:
    generous = report_of(FAIR | {"grade worse": CORRECT})
    assert value(generous.accuracy) == 0.5 and value(generous.kappa) == 0.0


def test_a_judge_that_takes_the_longer_one() -> None:
    verdicts: dict[tuple[str, str], str | None] = {}
    for case in CASES:
        longer = len(case.better) > len(case.worse)
        said = FAIR | {"choose": FIRST if longer else SECOND, "choose swapped": SECOND if longer else FIRST}
        said |= {"pad": FIRST, "pad swapped": SECOND}
        verdicts |= {(case.id, kind): verdict for kind, verdict in said.items()}
    long_winded = report("m", CASES, verdicts)
    assert value(long_winded.padded_preference) == 1.0 and value(long_winded.preference) == 0.5
    assert value(long_winded.consistency) == 1.0
    assert long_winded.length_correlation is not None
    assert long_winded.length_correlation.low > 0.6


def test_what_couldnt_be_read_is_left_out_and_counted() -> None:
    broken = report_of(FAIR | {"choose swapped": None, "grade worse": None})
    assert broken.num_unreadable == 2 * len(CASES)
    assert broken.preference is broken.first_place is broken.consistency is None
    assert value(broken.accuracy) == 1.0
    assert broken.kappa is None  # one label, one verdict: chance agrees as well
    assert value(broken.padded_preference) == 0.5


@pytest.mark.parametrize(
    ("straight", "swapped", "preferred", "consistent", "follows"),
    [
        (FIRST, SECOND, 1.0, True, False),
        (SECOND, FIRST, 0.0, True, False),
        (FIRST, FIRST, 0.5, False, True),
        (SECOND, SECOND, 0.5, False, True),
        (TIE, TIE, 0.5, True, False),
        (FIRST, TIE, 0.75, False, False),
        (TIE, FIRST, 0.25, False, False),
    ],
)
def test_pairs_of_verdicts(straight: str, swapped: str, preferred: float, consistent: bool, follows: bool) -> None:
    assert preference(straight, swapped) == preferred
    assert is_consistent(straight, swapped) is consistent
    assert follows_position(straight, swapped) is follows


def test_shares_of_mixed_verdicts() -> None:
    choices = [(FIRST, FIRST), (FIRST, SECOND), (TIE, SECOND), (TIE, TIE)]
    assert value(estimate_first_place(choices)) == pytest.approx(3 / 5)
    assert value(estimate_preference(choices)) == pytest.approx((0.5 + 1 + 0.75 + 0.5) / 4)
    assert estimate_first_place([(TIE, TIE)]) is None and estimate_preference([]) is None
    assert cohens_kappa("ab", "ab") == 1.0


def test_verdicts_that_arent() -> None:
    assert read_verdict('{"reason": "So.", "verdict": "A"}', (FIRST, SECOND)).reason == "So."
    for wrong in ("A", "[]", '{"verdict": "C"}', '{"reason": "cut o', '{"verdict": ["A"]}'):
        with pytest.raises(EvaluationError, match="expected JSON with a reason and one of"):
            read_verdict(wrong, (FIRST, SECOND))


def test_a_grammar_holds_even_random_weights_to_a_verdict(connection: Connection) -> None:
    options = {"max_tokens": 200, "response_format": verdict_format((FIRST, SECOND, TIE), max_reason=20)}
    messages = choosing_messages("What is 1 + 1?", "2", "3")
    prompts = [Prompt(f"s{seed}", messages, options | {"temperature": 1.0, "seed": seed}) for seed in range(4)]
    for reply in ask_all_and_wait(connection, prompts):
        verdict = read_verdict(reply.text, (FIRST, SECOND, TIE))
        assert list(json.loads(reply.text)) == ["reason", "verdict"]  # in this order
        assert 1 <= len(verdict.reason) <= 20


def test_a_judge_over_the_server(connection: Connection) -> None:
    cases = [
        JudgeCase("sum", "What is 1 + 1?", "2", "3", "2"),
        JudgeCase("sky", "Which colour is it?", "Blue.", "Red."),
    ]
    told: list[int] = []
    tried = asyncio.run(
        try_judge(connection, cases, with_reference=True, max_tokens=400, progress=lambda done, *_: told.append(done))
    )
    assert told[-1] == 12 and tried.num_cases == 2 and tried.num_unreadable == 0
    assert sum(tried.confusion.values()) == 4
