"""Reports: what a student reads after a check."""

from __future__ import annotations

import html.parser
import signal
import threading
import time

import pytest

from minillm.errors import MinillmError
from minillm.testing import Case, CheckFailed, ReportFailedError, run_cases


def student_takes_the_eleventh(items: list[int]) -> int:
    return items[10]


def always_holds() -> None:
    pass


def fails_with(error: BaseException) -> Case:
    def function() -> None:
        raise error

    return Case("behaves", function, hint="look at the end", strong_hint="the last element is items[-1]")


def test_every_case_runs_also_after_a_failure() -> None:
    report = run_cases("sum", [Case("a", always_holds), fails_with(CheckFailed("got 3")), Case("c", always_holds)])
    assert [b.passed for b in report.behaviors] == [True, False, True]
    assert not report.passed
    assert report.summary() == "sum: not yet, 2 of 3 behaviors"


def test_a_failure_shows_the_detail_and_first_the_weak_then_the_strong_hint() -> None:
    report = run_cases("sum", [fails_with(CheckFailed("for [1, 2] your code returned 4"))])
    first, second = str(report), str(report.hint())
    assert "for [1, 2] your code returned 4" in first
    assert "look at the end" in first
    assert "items[-1]" not in first
    assert "items[-1]" in second
    assert "items[-1]" in report.hint()._repr_html_()


def test_a_case_that_knows_the_mistake_brings_its_own_hints() -> None:
    error = CheckFailed("got 3", hint="count again", strong_hint="start at zero")
    behavior = run_cases("sum", [fails_with(error)]).behaviors[0]
    assert (behavior.hint, behavior.strong_hint) == ("count again", "start at zero")


def test_without_a_strong_hint_the_weak_one_stays() -> None:
    def fails() -> None:
        raise CheckFailed("got 3")

    assert "look here" in str(run_cases("sum", [Case("x", fails, hint="look here")]).hint())


def test_an_exception_names_its_type_and_the_students_own_line() -> None:
    report = run_cases("pick", [Case("picks", lambda: student_takes_the_eleventh([1]))])
    detail = report.behaviors[0].detail
    assert "IndexError: list index out of range" in detail
    assert "in student_takes_the_eleventh: return items[10]" in detail


def test_an_exception_inside_a_library_is_blamed_on_the_line_that_called_it() -> None:
    def parses() -> None:
        import json

        json.loads("{")

    detail = run_cases("json", [Case("parses", parses)]).behaviors[0].detail
    assert 'in parses: json.loads("{")' in detail


def test_an_unwritten_stub_is_called_that() -> None:
    detail = run_cases("stub", [fails_with(NotImplementedError())]).behaviors[0].detail
    assert detail.startswith("not written yet")


@pytest.mark.parametrize("error", [SystemExit(0), RecursionError("too deep"), AssertionError()])
def test_nothing_that_student_code_raises_escapes(error: BaseException) -> None:
    report = run_cases("x", [fails_with(error)])
    assert type(error).__name__ in report.behaviors[0].detail


def test_an_interrupt_of_the_reader_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt):
        run_cases("x", [fails_with(KeyboardInterrupt())])


def test_long_messages_are_shortened() -> None:
    report = run_cases("x", [fails_with(ValueError("y" * 100_000))])
    assert len(str(report)) < 2000


def test_raise_if_failed_gives_the_report_or_raises_it() -> None:
    passed = run_cases("good", [Case("holds", always_holds)])
    assert passed.raise_if_failed() is passed
    with pytest.raises(ReportFailedError, match="got 3") as caught:
        run_cases("bad", [fails_with(CheckFailed("got 3"))]).raise_if_failed()
    assert isinstance(caught.value, MinillmError)
    assert isinstance(caught.value, AssertionError)  # nbgrader and pytest count it as a failed test


def test_a_report_without_behaviors_has_not_passed() -> None:
    report = run_cases("empty", [])
    assert not report.passed
    with pytest.raises(ReportFailedError, match="nothing was checked"):
        report.raise_if_failed()


class _Text(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_escapes_everything_and_marks_in_words() -> None:
    bad = "<script>alert(1)</script>"

    def fails() -> None:
        raise CheckFailed(bad)

    report = run_cases(bad, [Case(bad, fails, hint=bad, strong_hint=bad), Case("holds", always_holds)])
    for shown in (report, report.hint()):
        parsed = _Text()
        parsed.feed(shown._repr_html_())
        assert "script" not in parsed.tags
        assert parsed.text.count(bad) == 4
        assert "failed" in parsed.text
        assert "passed" in parsed.text


# ------------------------------------------------------------------------------------------------ time limit


def loops_forever() -> None:
    while True:
        time.sleep(0.001)


def loops_and_catches_exceptions() -> None:
    while True:
        try:
            time.sleep(0.001)
        except Exception:
            continue


@pytest.mark.parametrize("function", [loops_forever, loops_and_catches_exceptions])
def test_an_endless_loop_is_stopped_and_its_line_named(function: object) -> None:
    case = Case("ends", function, time_limit=0.1)  # type: ignore[arg-type]
    detail = run_cases("loop", [case]).behaviors[0].detail
    assert "still running after 0.1 seconds" in detail
    assert function.__name__ in detail  # type: ignore[attr-defined]


def test_even_a_bare_except_does_not_keep_a_loop_alive() -> None:
    def swallows_once() -> None:
        try:
            while True:
                time.sleep(0.001)
        except:  # noqa: E722 - what a student may write
            while True:
                time.sleep(0.001)

    started = time.monotonic()
    assert not run_cases("loop", [Case("ends", swallows_once, time_limit=0.1)]).passed
    assert time.monotonic() - started < 5


def test_the_limit_leaves_no_timer_and_no_handler_behind() -> None:
    before = signal.getsignal(signal.SIGALRM)
    run_cases("x", [Case("ends", always_holds), Case("loops", loops_forever, time_limit=0.05)])
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_outer_timer_goes_on_ticking() -> None:
    rung: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: rung.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.15)
        run_cases("x", [Case("ends", always_holds, time_limit=30)])
        time.sleep(0.3)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rung == [signal.SIGALRM]


def test_cases_also_run_in_another_thread() -> None:
    reports = []
    thread = threading.Thread(target=lambda: reports.append(run_cases("x", [Case("holds", always_holds)])))
    thread.start()
    thread.join()
    assert reports[0].passed
