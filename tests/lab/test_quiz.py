"""Quizzes: the schema of every quiz that ships, the answers, and the page without a kernel."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from minillm.lab.display import WIDGET_VIEW
from minillm.lab.quiz import QUIZ_FOLDER, Quiz, QuizError

DATA: dict[str, Any] = {
    "lesson": "99",
    "title": "Tokens & <b>",
    "questions": [
        {
            "text": "What does `encode` return?",
            "options": [
                {"text": "Text", "correct": False, "explanation": "That is `decode`."},
                {"text": "Token ids", "correct": True, "explanation": "A list of numbers."},
                {"text": "<script>", "correct": False, "explanation": "Nobody wants <script>."},
            ],
        },
        {
            "text": "Which are whitespace?",
            "options": [
                {"text": "space", "correct": True, "explanation": "U+0020."},
                {"text": "tab", "correct": True, "explanation": "U+0009."},
                {"text": "x", "correct": False, "explanation": "A letter."},
            ],
        },
    ],
}


@pytest.fixture
def quiz() -> Quiz:
    return Quiz.from_data(DATA)


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    data = copy.deepcopy(DATA)
    target = data
    for step in path[:-1]:
        target = target[step]
    if value is KeyError:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return data


def test_every_lesson_has_a_quiz_of_six_questions() -> None:
    for lesson in sorted((Path(__file__).parents[2] / "lessons").glob("[0-9][0-9]-*.ipynb")):
        quiz = Quiz.load(lesson.name[:2])
        assert len(quiz.questions) == 6, lesson.name


def test_every_quiz_that_ships_is_well_formed() -> None:
    for path in sorted(QUIZ_FOLDER.glob("*")):
        shipped = Quiz.from_file(path)
        assert path.name.startswith(f"{shipped.lesson}-"), path
        assert Quiz.load(shipped.lesson) == shipped
        for question in shipped.questions:
            assert len({option.explanation for option in question.options}) == len(question.options), question.text
        assert len({min(question.right) for question in shipped.questions}) > 1, "the right option is always the same"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["questions"], [], "has no questions"),
        (["title"], KeyError, "has no 'title'"),
        (["lesson"], 1, "'lesson' must be a text, not 1"),
        (["questions", 0], "what?", "question 1 must be a JSON object"),
        (["questions", 0, "options"], DATA["questions"][0]["options"][:2], "question 1 has 2 options"),
        (["questions", 0, "options", 1, "correct"], False, "question 1 has 0 right options of 3"),
        (["questions", 1, "options", 2, "correct"], True, "question 2 has 3 right options of 3"),
        (["questions", 1, "options", 2, "explanation"], KeyError, "question 2, option C has no 'explanation'"),
        (["questions", 1, "options", 2, "explanation"], " ", "question 2, option C: 'explanation' is empty"),
        (["questions", 0, "options", 0, "correct"], "yes", "option A: 'correct' must be true or false"),
        (["questions", 0, "options", 0, "right"], True, "option A has an unknown field 'right'"),
        (["questions", 0, "options", 0, "text"], "Token ids", "two options with the same text"),
    ],
)
def test_a_malformed_quiz_is_refused_where_it_is_wrong(path: list[Any], value: Any, message: str) -> None:
    with pytest.raises(QuizError, match=r"quiz\.json") as caught:
        Quiz.from_data(changed(path, value), source="quiz.json")
    assert message in str(caught.value)


def test_broken_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "99-x.json").write_text("{")
    with pytest.raises(QuizError, match=r"99-x\.json could not be read as JSON"):
        Quiz.load("99", tmp_path)


@pytest.mark.parametrize("lesson", ["77", "1", "*"])
def test_an_unknown_lesson_lists_those_there_are(lesson: str, tmp_path: Path) -> None:
    (tmp_path / "99-x.json").write_text(json.dumps(DATA))
    with pytest.raises(QuizError, match="lessons with a quiz: 99"):
        Quiz.load(lesson, tmp_path)


def test_right_and_wrong_answers_come_with_their_reason(quiz: Quiz) -> None:
    right = quiz.answer(1, "B")
    assert right.correct
    assert right.explanations == {"B": (True, "A list of numbers.")}
    wrong = quiz.answer(1, "a")
    assert not wrong.correct
    assert str(wrong) == "Not right.\n  A is wrong: That is `decode`."


@pytest.mark.parametrize(
    ("chosen", "correct", "verdict"),
    [
        ("AB", True, "Right."),
        (["B", "A"], True, "Right."),
        ("A", False, "Right so far, but 1 more option is right."),
        ("AC", False, "Not right: C should not be chosen."),
        ("ABC", False, "Not right: C should not be chosen."),
    ],
)
def test_several_right_options(quiz: Quiz, chosen: Any, correct: bool, verdict: str) -> None:
    feedback = quiz.answer(2, chosen)
    assert (feedback.correct, feedback.verdict) == (correct, verdict)


@pytest.mark.parametrize(
    ("question", "option", "message"),
    [
        (3, "A", "questions 1 to 2"),
        (0, "A", "no question 0"),
        (1, "D", "no option 'D'; choose from A, B, C"),
        (1, "", "no answer"),
    ],
)
def test_impossible_answers_are_refused(quiz: Quiz, question: int, option: str, message: str) -> None:
    with pytest.raises(QuizError, match=message):
        quiz.answer(question, option)


def test_the_page_without_a_kernel_has_every_explanation(quiz: Quiz) -> None:
    markup = quiz._repr_html_()
    assert markup.count("<details") == 6
    assert "<code>decode</code>" in markup
    assert "Tokens &amp; &lt;b&gt;" in markup
    assert "Nobody wants &lt;script&gt;." in markup
    assert "<script" not in markup
    assert "(choose all that are right)" in markup


def test_the_output_carries_both_forms(quiz: Quiz, monkeypatch: pytest.MonkeyPatch) -> None:
    static, widget = quiz.outputs()
    assert "Nobody wants &lt;script&gt;." in static["text/html"]
    assert widget[WIDGET_VIEW]["model_id"]
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert quiz.outputs() == [{"text/html": quiz._repr_html_(), "text/plain": str(quiz)}]


def test_choosing_in_the_panel_shows_that_options_explanation(quiz: Quiz) -> None:
    _, first, second, score = quiz.panel().children  # type: ignore[union-attr]
    radio, feedback = first.children[1:]
    assert radio.value is None  # nothing is chosen for the reader
    radio.value = radio.options[0]
    assert "<code>decode</code>" in feedback.value
    assert "0 of 2" in score.value
    radio.value = radio.options[1]
    assert "A list of numbers." in feedback.value
    assert "decode" not in feedback.value
    assert "1 of 2" in score.value
    boxes, feedback = second.children[1:]
    for box in boxes.children[:2]:
        box.value = True
    assert "U+0009" in feedback.value
    assert "2 of 2" in score.value
    for box in boxes.children[:2]:
        box.value = False
    assert feedback.value == ""
    assert "1 of 2" in score.value
