"""Checks of exercises: found by name, and stronger hints for the same failure."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from minillm.lab.check import Checker, UnknownCheckError
from minillm.testing import Case, CheckFailed, Report, ReportFailedError, run_cases


def double_check(function: Callable[[int], int]) -> Report:
    def check(number: int) -> Callable[[], None]:
        def case() -> None:
            if function(number) != 2 * number:
                raise CheckFailed(f"for {number} your code returned {function(number)}")

        return case

    return run_cases(
        "double",
        [
            Case("doubles one", check(1), hint="weak one", strong_hint="strong one"),
            Case("doubles zero", check(0), hint="weak zero", strong_hint="strong zero"),
        ],
    )


@pytest.fixture
def check() -> Checker:
    return Checker("99", {"double": double_check})


def test_a_right_answer_passes(check: Checker) -> None:
    assert check("double", lambda x: 2 * x).raise_if_failed().passed


def test_the_same_failure_twice_shows_the_stronger_hint(check: Checker) -> None:
    first = str(check("double", lambda x: x))
    assert "weak one" in first
    assert "strong one" not in first
    assert "strong one" in str(check("double", lambda x: x * x))


def test_another_failure_starts_with_the_weak_hint(check: Checker) -> None:
    check("double", lambda x: x)
    report = str(check("double", lambda x: x + 1))  # 0 is wrong now, 1 is right
    assert "weak zero" in report
    assert "strong" not in report


def test_a_failure_that_was_mended_is_forgotten(check: Checker) -> None:
    check("double", lambda x: x)
    check("double", lambda x: 2 * x)
    assert "strong" not in str(check("double", lambda x: x))


def test_two_checkers_share_nothing(check: Checker) -> None:
    check("double", lambda x: x)
    assert "strong" not in str(Checker("99", {"double": double_check})("double", lambda x: x))


def test_the_stronger_hint_reaches_a_graded_cell(check: Checker) -> None:
    check("double", lambda x: x)
    with pytest.raises(ReportFailedError, match="strong one"):
        check("double", lambda x: x).raise_if_failed()


def test_an_unknown_check_lists_the_names(check: Checker) -> None:
    with pytest.raises(UnknownCheckError, match="Lesson 99 has no check named 'duble'; there are: double"):
        check("duble", abs)


@pytest.mark.parametrize("lesson", ["98", "1", "../x"])
def test_an_unknown_lesson_is_refused(lesson: str) -> None:
    with pytest.raises(UnknownCheckError, match="has no checks; lessons with checks:"):
        Checker(lesson)


def test_a_lessons_checks_are_found_by_its_number(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from minillm.lab import checks

    folder = tmp_path_factory.mktemp("checks")
    (folder / "lesson_97.py").write_text(
        "from minillm.testing import Case, run_cases\n"
        "CHECKS = {'calls': lambda function: run_cases('calls', [Case('can be called', function)])}\n"
    )
    monkeypatch.setattr(checks, "__path__", [*checks.__path__, str(folder)])
    check = Checker("97")
    assert check.names == ["calls"]
    assert check("calls", lambda: None).passed
