"""Metrics against values from their papers or worked out by hand, and properties that any such metric has."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minillm.evaluation import (
    EvaluationError,
    Example,
    Source,
    citation_precision,
    citation_recall,
    exact_match,
    groundedness,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
    token_f1,
)
from minillm.evaluation.scoring import NAMES, check_fit, find_metric
from minillm.evaluation.text import content_words, negates, normalize_answer, numbers_in, split_sentences

WORDS = st.lists(st.sampled_from(["sun", "moon", "star", "sea", "land"]), max_size=6)
RANKINGS = st.permutations(list("abcdefgh"))
RELEVANT = st.sets(st.sampled_from("abcdefgh"), min_size=1)
GRADES = st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([1.0, 2.0, 3.0]), min_size=1)
KS = st.integers(1, 10)


def test_exact_match_as_squad_has_it() -> None:
    assert normalize_answer("  The Eiffel-Tower, a   tower!") == "eiffeltower tower"
    assert exact_match("the Denver Broncos.", ["Denver Broncos"]) == 1.0
    assert exact_match("Broncos", ["Denver Broncos", "broncos"]) == 1.0
    assert exact_match("Panthers", ["Denver Broncos"]) == 0.0


@pytest.mark.parametrize(
    ("answer", "references", "expected"),
    [
        ("Denver Broncos won", ["the Denver Broncos"], 0.8),  # precision 2/3, recall 1
        ("star star star", ["star"], 0.5),  # shared once: precision 1/3, recall 1
        ("sun", ["moon", "sun and moon"], 0.5),  # the best: precision 1, recall 1/3
        ("", ["sun"], 0.0),
        ("the", ["a"], 1.0),  # neither has a word left
    ],
)
def test_token_f1_by_hand(answer: str, references: list[str], expected: float) -> None:
    assert token_f1(answer, references) == pytest.approx(expected)


@given(WORDS, WORDS, st.randoms())
def test_token_f1_properties(answer: list[str], reference: list[str], random: object) -> None:
    score = token_f1(" ".join(answer), [" ".join(reference)])
    assert 0.0 <= score <= 1.0
    assert score == pytest.approx(token_f1(" ".join(reference), [" ".join(answer)]))
    assert score == token_f1(" ".join(reversed(answer)), [" ".join(reference)])  # order doesn't count
    assert token_f1(" ".join(answer), [" ".join(answer)]) == 1.0
    assert exact_match(" ".join(answer), [" ".join(reference)]) <= score


def test_references_have_to_be_a_list() -> None:
    for wrong in ([], "Paris"):
        with pytest.raises(EvaluationError, match="at least one text"):
            exact_match("Paris", wrong)


def test_rankings_by_hand() -> None:
    retrieved, relevant = list("abcde"), {"b", "e", "x"}
    assert recall_at_k(retrieved, relevant, 2) == pytest.approx(1 / 3)
    assert recall_at_k(retrieved, relevant, 5) == pytest.approx(2 / 3)
    assert precision_at_k(retrieved, relevant, 2) == 0.5
    assert precision_at_k(["b"], relevant, 5) == pytest.approx(1 / 5)  # empty places aren't relevant
    assert reciprocal_rank(retrieved, relevant) == 0.5
    assert reciprocal_rank(["a"], relevant) == 0.0


def test_ndcg_of_the_usual_example() -> None:
    """Six documents graded 3, 2, 3, 0, 1, 2, and two more, 3 and 2, that weren't found: DCG 6.861, ideal 8.740."""
    grades = {"d1": 3.0, "d2": 2.0, "d3": 3.0, "d4": 0.0, "d5": 1.0, "d6": 2.0, "d7": 3.0, "d8": 2.0}
    score = ndcg_at_k(["d1", "d2", "d3", "d4", "d5", "d6"], grades, 6)
    assert score == pytest.approx(6.861 / 8.740, abs=1e-4)


@given(RANKINGS, RELEVANT, KS)
def test_ranking_properties(retrieved: list[str], relevant: set[str], k: int) -> None:
    naive = [name for name in retrieved[:k] if name in relevant]
    recall, precision = recall_at_k(retrieved, relevant, k), precision_at_k(retrieved, relevant, k)
    assert recall == len(naive) / len(relevant) and precision == len(naive) / k
    assert recall_at_k(retrieved, relevant, k + 1) >= recall
    perfect = sorted(retrieved, key=lambda name: name not in relevant)
    assert reciprocal_rank(perfect, relevant) == 1.0
    assert recall_at_k(perfect, relevant, len(relevant)) == precision_at_k(perfect, relevant, len(relevant)) == 1.0
    first = next(index for index, name in enumerate(retrieved) if name in relevant)
    assert reciprocal_rank(retrieved, relevant) == 1 / (first + 1)


@given(RANKINGS, GRADES, KS, st.floats(0.1, 10))
def test_ndcg_properties(retrieved: list[str], grades: dict[str, float], k: int, scale: float) -> None:
    score = ndcg_at_k(retrieved, grades, k)
    assert 0.0 <= score <= 1.0 + 1e-12
    perfect = sorted(retrieved, key=lambda name: -grades.get(name, 0.0))
    assert ndcg_at_k(perfect, grades, k) == pytest.approx(1.0)
    assert ndcg_at_k(retrieved, {name: grade * scale for name, grade in grades.items()}, k) == pytest.approx(score)
    best = max(
        sum(grades.get(name, 0) / math.log2(rank + 2) for rank, name in enumerate(order[:k]))
        for order in (perfect, retrieved)
    )
    mine = sum(grades.get(name, 0) / math.log2(rank + 2) for rank, name in enumerate(retrieved[:k]))
    assert score == pytest.approx(mine / best)


@given(RANKINGS, GRADES, st.integers(0, 6))
def test_a_better_one_further_up_never_lowers_ndcg(retrieved: list[str], grades: dict[str, float], place: int) -> None:
    upper, lower = retrieved[place : place + 2]
    assume(grades.get(lower, 0) > grades.get(upper, 0))
    swapped = [*retrieved[:place], lower, upper, *retrieved[place + 2 :]]
    assert ndcg_at_k(swapped, grades, 8) > ndcg_at_k(retrieved, grades, 8)


def test_what_no_ranking_has() -> None:
    with pytest.raises(EvaluationError, match="Nothing is relevant"):
        recall_at_k(["a"], [], 1)
    with pytest.raises(EvaluationError, match="Nothing is relevant"):
        ndcg_at_k(["a"], {"a": 0.0}, 1)
    with pytest.raises(EvaluationError, match="k is 0"):
        precision_at_k(["a"], ["a"], 0)
    with pytest.raises(EvaluationError, match="twice"):
        recall_at_k(["a", "a"], ["a"], 2)


@given(st.sets(st.integers(1, 6)), st.sets(st.integers(1, 6)))
def test_citation_properties(cited: set[str], relevant: set[str]) -> None:
    precision, recall = citation_precision(cited, relevant), citation_recall(cited, relevant)
    assert (precision == recall == 1.0) == (cited == relevant)
    assert citation_recall(relevant, cited) == (precision if cited and relevant else recall)
    if not cited and relevant:
        assert precision == recall == 0.0


def test_sentences_and_their_labels() -> None:
    text = 'It is 3.5 m high [1]. Dr. Lind said "so." [2] [3]\nA list:\n- e.g. this one [1, 4]\nNo end'
    assert split_sentences(text) == [
        ("It is 3.5 m high.", (1,)),
        ('Dr. Lind said "so."', (2, 3)),
        ("A list:", ()),
        ("- e.g. this one", (1, 4)),
        ("No end", ()),
    ]


def test_words_numbers_and_negations() -> None:
    assert content_words("The keepers' cities weren’t painted in 1901.") == {"keeper", "city", "paint"}
    assert numbers_in("1,000 and 1000, 24.0 m, 4,5, 1.5.26") == {"1000", "24", "4.5", "1.5.26"}
    assert negates("It isn’t open.") and negates("Never") and not negates("Note that")


SOURCES = ["The lighthouse was built in 1832. It is 24 m high.", "The ferry doesn't run on Sundays."]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The lighthouse is 24 m high [1].", 1.0),
        ("The lighthouse is 24 m high.", 0.0),  # cites nothing
        ("The lighthouse is 24 m high [2].", 0.0),  # cites another
        ("The lighthouse is 24 m high [3].", 0.0),  # cites what isn't there
        ("The lighthouse is 25 m high [1].", 0.0),  # a number of its own
        ("The lighthouse was built in 1832 [1]. The ferry runs on Sundays [1].", 0.5),
        ("The lighthouse is not high [1].", 0.0),  # turned round
        ("The ferry doesn't run on Sundays [2].", 1.0),
        ("The lighthouse is 24 m high and the ferry doesn't run on Sundays [1, 2].", 1.0),
        ("", 0.0),
        ("[1]", 0.0),
    ],
)
def test_groundedness_by_hand(answer: str, expected: float) -> None:
    assert groundedness(answer, SOURCES) == expected


@given(st.lists(st.sampled_from(["The sun is hot.", "It has 8 planets.", "Nobody lives there."]), min_size=1))
def test_a_source_that_is_quoted_grounds_itself(sentences: list[str]) -> None:
    source = " ".join(sentences)
    quoted = " ".join(f"{sentence[:-1]} [1]." for sentence in sentences)
    assert groundedness(quoted, [source]) == groundedness(quoted.upper(), [source]) == 1.0
    assert groundedness(source, [source]) == 0.0


def test_metrics_by_name() -> None:
    sources = (Source("x", SOURCES[0]), Source("y", SOURCES[1]))
    example = Example("a", "How high?", ("24 m",), sources, {"x": 1.0, "y": 0.0}, ("y", "x"))
    answer = "The lighthouse is 24 m high [1][9]."
    scores = {name: find_metric(name).score(example, answer) for name in NAMES}
    assert scores == {
        "exact_match": 0.0,
        "f1": pytest.approx(4 / 8),  # lighthouse is 24 m high19: six words, two shared
        "citation_precision": 0.5,  # [9] is no source
        "citation_recall": 1.0,
        "groundedness": 1.0,
        "mrr": 0.5,
        "recall@5": 1.0,
        "precision@5": pytest.approx(1 / 5),
        "ndcg@5": pytest.approx(1 / math.log2(3)),
    }
    assert find_metric("recall@1").score(example, "") == 0.0
    for wrong in ("recall", "recall@0", "f2"):
        with pytest.raises(EvaluationError, match=f"no metric '{wrong}'; choose among exact_match"):
            find_metric(wrong)


def test_an_example_that_lacks_what_a_metric_needs_is_named() -> None:
    with pytest.raises(EvaluationError, match="f1 needs answers, which example 'a' doesn't have"):
        check_fit([find_metric("f1")], [Example("a", "Why?")])
    with pytest.raises(EvaluationError, match="mrr needs retrieved"):
        check_fit([find_metric("mrr")], [Example("a", "Why?", relevant={"x": 1.0})])
