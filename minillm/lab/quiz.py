"""Quizzes: multiple-choice questions in which every option, right or wrong, has its explanation.

    quiz = Quiz.load("01")           # displays itself as the last expression of a cell
    quiz.answer(1, "B").explanations

The questions of a lesson lie in `minillm/lab/quizzes/NN-name.json`:

    {"lesson": "01", "title": "Large language models", "questions": [
        {"text": "What is a token?", "options": [
            {"text": "A piece of text with a number", "correct": true, "explanation": "The tokenizer …"},
            {"text": "Always one word", "correct": false, "explanation": "Words that are rare …"},
            …]}]}

A question has three to five options, at least one right and one wrong. `code` in backticks is set as code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from minillm.errors import MinillmError
from minillm.lab.display import import_ipywidgets, publish, widget_outputs

QUIZ_FOLDER = Path(__file__).with_name("quizzes")
LETTERS = "ABCDE"


class QuizError(MinillmError):
    """A quiz that does not exist, is not well formed, or was asked for a question or option that it lacks."""


@dataclass(frozen=True)
class Option:
    """One possible answer: its text, whether it is right, and why."""

    text: str
    correct: bool
    explanation: str


@dataclass(frozen=True)
class Question:
    """A question and its options, called A, B, C, …"""

    text: str
    options: tuple[Option, ...]

    @property
    def right(self) -> frozenset[str]:
        """The letters of the right options."""
        return frozenset(letter for letter, option in self.lettered() if option.correct)

    @property
    def several(self) -> bool:
        """Whether more than one option is right."""
        return len(self.right) > 1

    def lettered(self) -> list[tuple[str, Option]]:
        """The options with their letters."""
        return list(zip(LETTERS, self.options, strict=False))


@dataclass(frozen=True)
class Feedback:
    """What the reader learns from an answer.

    Attributes:
        correct: whether exactly the right options were chosen.
        verdict: a sentence that says so, and how many right options are missing.
        explanations: for each chosen letter, whether that option is right and why.
    """

    correct: bool
    verdict: str
    explanations: dict[str, tuple[bool, str]]

    def __str__(self) -> str:
        lines = [self.verdict]
        lines += [f"  {letter} is {_word(right)}: {why}" for letter, (right, why) in self.explanations.items()]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        items = "".join(
            f"<li><strong>{letter} is {_word(right)}.</strong> {_inline(why)}</li>"
            for letter, (right, why) in self.explanations.items()
        )
        return f'<div role="status"><strong>{escape(self.verdict)}</strong><ul style="margin:.2em 0">{items}</ul></div>'


@dataclass(frozen=True, repr=False)
class Quiz:
    """The questions of one lesson. It displays itself; all of its logic works without a front end."""

    lesson: str
    title: str
    questions: tuple[Question, ...]

    @classmethod
    def load(cls, lesson: str, folder: Path = QUIZ_FOLDER) -> Quiz:
        """The quiz of a lesson by its number, such as "01".

        Raises:
            QuizError: no lesson of this number has a quiz, or its file is not well formed.
        """
        found = sorted(folder.glob(f"{lesson}-*.json")) if re.fullmatch(r"\d\d", lesson) else []
        if not found:
            there = ", ".join(sorted({path.name[:2] for path in folder.glob("[0-9][0-9]-*.json")})) or "none yet"
            raise QuizError(f"There is no quiz for lesson {lesson!r}; lessons with a quiz: {there}.")
        return cls.from_file(found[0])

    @classmethod
    def from_file(cls, path: Path) -> Quiz:
        """Read and check one quiz file.

        Raises:
            QuizError: naming the file, the question and the option at fault.
        """
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise QuizError(f"{path} could not be read as JSON: {error}.") from error
        return cls.from_data(data, source=path.name)

    @classmethod
    def from_data(cls, data: Any, source: str = "the quiz") -> Quiz:
        """Build a quiz from decoded JSON; `source` names it in errors.

        Raises:
            QuizError: naming the question and the option at fault.
        """
        fields = _fields(data, source, {"lesson": str, "title": str, "questions": list})
        if not fields["questions"]:
            raise QuizError(f"{source} has no questions.")
        questions = tuple(
            _question(item, f"{source}, question {number}") for number, item in enumerate(fields["questions"], start=1)
        )
        return cls(fields["lesson"], fields["title"], questions)

    def answer(self, question: int, option: str | Iterable[str]) -> Feedback:
        """Answer a question.

        Args:
            question: its number, from 1.
            option: the chosen letter, or several ("AC" or ["A", "C"]).

        Raises:
            QuizError: the quiz has no such question or option.
        """
        if not 1 <= question <= len(self.questions):
            raise QuizError(f"There is no question {question}; this quiz has questions 1 to {len(self.questions)}.")
        asked = self.questions[question - 1]
        options = dict(asked.lettered())
        chosen = sorted({letter.upper() for letter in option})
        unknown = [letter for letter in chosen if letter not in options]
        if unknown or not chosen:
            what = f"no option {unknown[0]!r}" if unknown else "no answer given"
            raise QuizError(f"Question {question}: {what}; choose from {', '.join(options)}.")
        explanations = {letter: (options[letter].correct, options[letter].explanation) for letter in chosen}
        return Feedback(frozenset(chosen) == asked.right, _verdict(asked, chosen), explanations)

    def __str__(self) -> str:
        lines = [f"Check yourself: {self.title}"]
        for number, question in enumerate(self.questions, start=1):
            lines.append(f"\n{number}. {question.text}{_several_note(question)}")
            lines += [f"   {letter}. {option.text}" for letter, option in question.lettered()]
        lines.append('\nAnswer with quiz.answer(1, "B").')
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        parts = [f"<h4>Check yourself: {escape(self.title)}</h4>"]
        for number, question in enumerate(self.questions, start=1):
            parts.append(_question_heading(number, question))
            parts += [
                f'<details style="margin:.15em 0 .15em 1.2em"><summary>{letter}. {_inline(option.text)}</summary>'
                f'<p style="margin:.2em 0 .6em 1.2em"><strong>{_word(option.correct).capitalize()}.</strong> '
                f"{_inline(option.explanation)}</p></details>"
                for letter, option in question.lettered()
            ]
        return f'<div style="max-width:52em">{"".join(parts)}</div>'

    def panel(self) -> Any | None:
        """A new ipywidgets panel with all questions, or None where ipywidgets is not installed."""
        widgets = import_ipywidgets()
        if widgets is None:
            return None
        score = widgets.HTML(_score(0, len(self.questions)))
        solved: set[int] = set()

        def answered(number: int, correct: bool) -> None:
            (solved.add if correct else solved.discard)(number)
            score.value = _score(len(solved), len(self.questions))

        rows = [self._question_panel(widgets, number, answered) for number in range(1, len(self.questions) + 1)]
        heading = widgets.HTML(f'<h4 style="margin:.3em 0">Check yourself: {escape(self.title)}</h4>{_WRAPPING}')
        panel = widgets.VBox([heading, *rows, score])
        panel.add_class("minillm-quiz")
        return panel

    def _question_panel(self, widgets: Any, number: int, answered: Callable[[int, bool], None]) -> Any:
        question = self.questions[number - 1]
        labels = {f"{letter}. {option.text}": letter for letter, option in question.lettered()}
        feedback = widgets.HTML()

        def tell(letters: list[str]) -> None:
            result = self.answer(number, letters) if letters else None
            feedback.value = result._repr_html_() if result else ""
            answered(number, bool(result and result.correct))

        full_width = widgets.Layout(width="100%")
        if question.several:
            boxes = [widgets.Checkbox(description=label, indent=False, layout=full_width) for label in labels]

            def on_check(change: Mapping[str, Any]) -> None:
                tell([labels[box.description] for box in boxes if box.value])

            for box in boxes:
                box.observe(on_check, names="value")
            choices = widgets.VBox(boxes)
        else:
            choices = widgets.RadioButtons(options=list(labels), value=None, layout=full_width)
            choices.observe(lambda change: tell([labels[change["new"]]]), names="value")
        return widgets.VBox([widgets.HTML(_question_heading(number, question)), choices, feedback])

    def outputs(self) -> list[dict[str, Any]]:
        """What a cell's output holds: the page without a kernel, then the widget."""
        return widget_outputs(self.panel(), self)

    def _ipython_display_(self) -> None:
        publish(self.outputs())


# Long options wrap beside their button instead of running out of the notebook or under it.
_WRAPPING = """<style>
.minillm-quiz .widget-radio, .minillm-quiz .widget-radio-box, .minillm-quiz .widget-checkbox
  {height: auto; max-width: 100%}
.minillm-quiz .widget-radio-box label, .minillm-quiz .widget-checkbox label
  {display: flex; align-items: flex-start; gap: 6px; height: auto; max-width: 52em; padding: 2px 0; line-height: 1.4;
   white-space: normal}
.minillm-quiz .widget-radio-box label {flex-direction: row-reverse; justify-content: flex-end}
.minillm-quiz .widget-radio-box input, .minillm-quiz .widget-checkbox input
  {position: static; flex: none; margin: .2em 0 0}
.minillm-quiz .widget-html-content {line-height: 1.45; max-width: 52em}
.minillm-quiz code {font-family: monospace; padding: 0 .25em; background: rgba(127, 127, 127, .18)}
.minillm-quiz .widget-html-content ul {margin: .2em 0; padding-left: 1.6em}
.minillm-quiz .widget-html-content li {margin: 0}
</style>"""


def _verdict(question: Question, chosen: list[str]) -> str:
    missing = len(question.right.difference(chosen))
    wrong = [letter for letter in chosen if letter not in question.right]
    if not wrong and not missing:
        return "Right."
    if wrong:
        return "Not right." if len(chosen) == 1 else f"Not right: {' and '.join(wrong)} should not be chosen."
    return f"Right so far, but {missing} more {'option is' if missing == 1 else 'options are'} right."


def _score(right: int, total: int) -> str:
    return f'<p role="status">{right} of {total} questions answered right.</p>'


def _several_note(question: Question) -> str:
    return " (choose all that are right)" if question.several else ""


def _question_heading(number: int, question: Question) -> str:
    text = _inline(question.text) + _several_note(question)
    return f'<p style="margin:.9em 0 .2em"><strong>{number}.</strong> {text}</p>'


def _word(right: bool) -> str:
    return "right" if right else "wrong"


def _inline(text: str) -> str:
    """Escaped text in which `code` in backticks is set as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _question(data: Any, where: str) -> Question:
    fields = _fields(data, where, {"text": str, "options": list})
    if not 3 <= len(fields["options"]) <= len(LETTERS):
        raise QuizError(f"{where} has {len(fields['options'])} options; there must be 3 to {len(LETTERS)}.")
    options = tuple(
        _option(item, f"{where}, option {letter}") for letter, item in zip(LETTERS, fields["options"], strict=False)
    )
    rights = sum(option.correct for option in options)
    if rights == 0 or rights == len(options):
        raise QuizError(f"{where} has {rights} right options of {len(options)}; it needs a right one and a wrong one.")
    if len({option.text for option in options}) < len(options):
        raise QuizError(f"{where} has two options with the same text.")
    return Question(fields["text"], options)


def _option(data: Any, where: str) -> Option:
    return Option(**_fields(data, where, {"text": str, "correct": bool, "explanation": str}))


def _fields(data: Any, where: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    """The fields of a JSON object, all of them there, of the right kind and not empty."""
    if not isinstance(data, dict):
        raise QuizError(f"{where} must be a JSON object, not {type(data).__name__}.")
    for name, kind in kinds.items():
        if name not in data:
            raise QuizError(f"{where} has no {name!r}.")
        if not isinstance(data[name], kind):
            raise QuizError(f"{where}: {name!r} must be {_KINDS[kind]}, not {json.dumps(data[name])[:60]}.")
        if kind is str and not data[name].strip():
            raise QuizError(f"{where}: {name!r} is empty.")
    unknown = sorted(set(data) - set(kinds))
    if unknown:
        raise QuizError(f"{where} has an unknown field {unknown[0]!r}; known: {', '.join(kinds)}.")
    return {name: data[name] for name in kinds}


_KINDS = {str: "a text", list: "a list", bool: "true or false"}
