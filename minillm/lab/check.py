"""Checks of exercises, with hints that grow when asked again.

    check = Checker("01")
    check("warm-up", my_function)       # a report; the same failure twice shows the stronger hint

A lesson's checks lie in `minillm/lab/checks/lesson_NN.py`, which exposes `CHECKS: dict[str, Callable[..., Report]]`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import replace

from minillm.errors import MinillmError
from minillm.lab import checks as checks_package
from minillm.testing.report import Report


class UnknownCheckError(MinillmError):
    """No lesson of this number has checks, or the lesson has no check of this name."""


class Checker:
    """The checks of one lesson. It remembers what failed last time, so that the second hint can be stronger.

    Args:
        lesson: the lesson's number, such as "01".
        checks: the checks by name; by default those that come with the course.

    Raises:
        UnknownCheckError: no lesson of this number has checks.
    """

    def __init__(self, lesson: str, checks: Mapping[str, Callable[..., Report]] | None = None) -> None:
        self.lesson = lesson
        self._checks = dict(_lesson_checks(lesson) if checks is None else checks)
        self._failed_before: dict[str, frozenset[str]] = {}

    @property
    def names(self) -> list[str]:
        """The names of the checks."""
        return list(self._checks)

    def __call__(self, name: str, *student_code: object) -> Report:
        """Check what the student wrote.

        A behavior that failed the last time as well shows its stronger hint. In a graded cell, use
        `check("warm-up", my_function).raise_if_failed()`.

        Args:
            name: of the check.
            student_code: what it looks at, most often one function or class.

        Raises:
            UnknownCheckError: the lesson has no check of this name.
        """
        if name not in self._checks:
            raise UnknownCheckError(
                f"Lesson {self.lesson} has no check named {name!r}; there are: {', '.join(self._checks)}."
            )
        report = self._checks[name](*student_code)
        failed = frozenset(behavior.name for behavior in report.failed)
        again = failed & self._failed_before.get(name, frozenset())
        self._failed_before[name] = failed
        return replace(report, strong=report.strong | again)

    def __repr__(self) -> str:
        return f"Checker({self.lesson!r}): {', '.join(self._checks)}"


def _lesson_checks(lesson: str) -> Mapping[str, Callable[..., Report]]:
    names = sorted(module.name for module in pkgutil.iter_modules(checks_package.__path__))
    lessons = [name.removeprefix("lesson_") for name in names if name.startswith("lesson_")]
    if lesson not in lessons:
        raise UnknownCheckError(
            f"Lesson {lesson!r} has no checks; lessons with checks: {', '.join(lessons) or 'none yet'}."
        )
    module = importlib.import_module(f"{checks_package.__name__}.lesson_{lesson}")
    found: Mapping[str, Callable[..., Report]] = module.CHECKS
    return found
