"""Reports of checks: a line per behavior, what the code did on the smallest example, and hints in two strengths.

A suite is a list of cases:

    def sums_to_one() -> None:
        total = sum(student_softmax([1.0, 2.0]))
        if abs(total - 1.0) > 1e-6:
            raise CheckFailed(f"for [1.0, 2.0] your probabilities add up to {total:.3f}, not 1")

    report = run_cases("softmax", [Case("sums to one", sums_to_one, hint="…", strong_hint="…")])
    report.passed, report.hint(), report.raise_if_failed()
"""

from __future__ import annotations

import os
import signal
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from types import FrameType, TracebackType

from minillm.errors import MinillmError

DEFAULT_TIME_LIMIT = 10.0
"""Seconds that one case may take, unless the case says otherwise."""

_MAX_DETAIL = 800  # characters; a tensor in an exception's message must not fill the screen
_LIBRARIES = tuple(
    str(Path(path).resolve()) + os.sep
    for path in (
        str(Path(__file__).parents[1]),  # minillm itself
        *(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    )
)


class CheckFailed(Exception):
    """Raised by a case: its text says what the code did on the smallest example that shows the fault.

    `hint` and `strong_hint` replace the case's own hints, for a case that recognizes which mistake was made.
    """

    def __init__(self, detail: str, *, hint: str | None = None, strong_hint: str | None = None) -> None:
        super().__init__(detail)
        self.hint = hint
        self.strong_hint = strong_hint


class ReportFailedError(MinillmError, AssertionError):
    """At least one behavior of a report failed; the message is the whole report."""


@dataclass(frozen=True)
class Behavior:
    """One line of a report.

    Attributes:
        name: what the code should do, as a short statement ("gives every block back").
        passed: whether it does.
        detail: for a failure, what the code did on the smallest example that shows it.
        hint: shown at once under a failure.
        strong_hint: shown when asked again; names the cause.
    """

    name: str
    passed: bool
    detail: str = ""
    hint: str = ""
    strong_hint: str = ""


@dataclass(frozen=True)
class Case:
    """One behavior and the function that looks at it.

    Attributes:
        name: what the code should do, as a short statement.
        function: returns if the behavior holds; raises `CheckFailed`, or anything else, if it does not.
        hint: where to look.
        strong_hint: what the cause is, for the second asking.
        time_limit: seconds after which the case counts as failed.
    """

    name: str
    function: Callable[[], object]
    hint: str = ""
    strong_hint: str = ""
    time_limit: float = DEFAULT_TIME_LIMIT


@dataclass
class Report:
    """The outcome of a check. It displays itself in a notebook and prints as plain text.

    Attributes:
        title: what was checked.
        behaviors: one entry per behavior, in the order in which they were run.
        strong: names of the behaviors whose stronger hint is shown.
    """

    title: str
    behaviors: list[Behavior]
    strong: frozenset[str] = field(default_factory=frozenset)

    @property
    def passed(self) -> bool:
        """True if every behavior holds, and there is at least one."""
        return bool(self.behaviors) and not self.failed

    @property
    def failed(self) -> list[Behavior]:
        """The behaviors that do not hold."""
        return [behavior for behavior in self.behaviors if not behavior.passed]

    def hint(self) -> Report:
        """The same report with the stronger hint under every failure."""
        return replace(self, strong=frozenset(behavior.name for behavior in self.failed))

    def raise_if_failed(self) -> Report:
        """Return the report itself if everything passed.

        Raises:
            ReportFailedError: with the report as its message.
        """
        if not self.passed:
            raise ReportFailedError(str(self))
        return self

    def summary(self) -> str:
        """One line: the title and how many behaviors hold."""
        if not self.behaviors:
            return f"{self.title}: nothing was checked"
        total = len(self.behaviors)
        if self.passed:
            return f"{self.title}: passed, {total} of {total} behaviors"
        return f"{self.title}: not yet, {total - len(self.failed)} of {total} behaviors"

    def shown_hint(self, behavior: Behavior) -> str:
        """The hint that belongs under `behavior` now; empty for one that passed or has none."""
        if behavior.passed:
            return ""
        if behavior.name in self.strong and behavior.strong_hint:
            return behavior.strong_hint
        return behavior.hint

    def __str__(self) -> str:
        lines = [self.summary()]
        for behavior in self.behaviors:
            lines.append(f"  [{'pass' if behavior.passed else 'FAIL'}] {behavior.name}")
            if not behavior.passed:
                lines += _indented("", behavior.detail)
                lines += _indented("Hint: ", self.shown_hint(behavior))
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = "".join(self._html_row(behavior) for behavior in self.behaviors)
        return (
            f'<div style="max-width:52em;line-height:1.45"><p style="margin:.3em 0"><strong>'
            f'{escape(self.summary())}</strong></p><ul style="list-style:none;margin:0;padding:0">{rows}</ul></div>'
        )

    def _html_row(self, behavior: Behavior) -> str:
        color, border, mark = ("#009E73", "solid", "✓ passed") if behavior.passed else ("#D55E00", "double", "✗ failed")
        body = ""
        if not behavior.passed:
            body += _html_block("", behavior.detail)
            body += _html_block("Hint: ", self.shown_hint(behavior))
        return (
            f'<li style="margin:.35em 0;padding:.15em .8em;border-left:6px {border} {color}">'
            f'<span style="font-family:monospace;font-weight:bold">{mark}</span>&ensp;{escape(behavior.name)}'
            f"{body}</li>"
        )


def run_cases(title: str, cases: Iterable[Case]) -> Report:
    """Run every case, also after a failure, and report each as one behavior.

    An exception of any kind is a failure whose detail holds its type, its message and the line of the student's
    own code that it came from. A case that takes longer than its limit fails as well (only where the operating
    system has timers and in the main thread, where notebook cells and tests run; elsewhere there is no limit).
    """
    return Report(title, [_run_case(case) for case in cases])


def _run_case(case: Case) -> Behavior:
    failed = Behavior(case.name, passed=False, hint=case.hint, strong_hint=case.strong_hint)
    try:
        with _time_limit(case.time_limit):
            case.function()
    except CheckFailed as error:
        return replace(
            failed,
            detail=_shortened(str(error)),
            hint=case.hint if error.hint is None else error.hint,
            strong_hint=case.strong_hint if error.strong_hint is None else error.strong_hint,
        )
    except _OutOfTime as error:
        place = _place(error.__traceback__)
        detail = f"still running after {case.time_limit:g} seconds, so it was stopped"
        return replace(failed, detail=f"{detail} {place}".strip())
    except NotImplementedError as error:
        place = _place(error.__traceback__)
        return replace(failed, detail=f"not written yet: the code raises NotImplementedError {place}".strip())
    except (Exception, SystemExit) as error:
        return replace(failed, detail=_exception_detail(error))
    return replace(failed, passed=True)


def _exception_detail(error: BaseException) -> str:
    text = _shortened(f"{type(error).__name__}: {error}".removesuffix(": "))
    place = _place(error.__traceback__)
    if place:
        return f"your code raised {text} {place}"
    return f"the check could not work with what your code gave it: {text}"


def _place(trace: TracebackType | None) -> str:
    """Where in the student's own code an exception came from, or "" if no frame is theirs."""
    for frame in reversed(traceback.extract_tb(trace)):
        if frame.filename.startswith("<frozen") or str(Path(frame.filename).resolve()).startswith(_LIBRARIES):
            continue
        where = f"line {frame.lineno}" if frame.name == "<module>" else f"line {frame.lineno}, in {frame.name}"
        return f"({where}: {frame.line})" if frame.line else f"({where})"
    return ""


class _OutOfTime(BaseException):
    """Not an Exception, so that a student's `except Exception` around a loop does not swallow it."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise `_OutOfTime` inside the block after `seconds`, where signals allow it."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return
    active = True

    def stop(signum: int, frame: FrameType | None) -> None:
        if active:
            raise _OutOfTime

    started = time.monotonic()
    previous_handler = signal.signal(signal.SIGALRM, stop)
    # Again every second: a bare `except:` in a student's loop may swallow the first one.
    remaining, interval = signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        active = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous_handler)
        if remaining:  # somebody else's timer, a test runner's say, was ticking: let it go on
            left = remaining - (time.monotonic() - started)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001), interval)


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_DETAIL else text[:_MAX_DETAIL] + " …"


def _indented(label: str, text: str) -> list[str]:
    if not text:
        return []
    return [" " * 9 + line for line in (label + text).splitlines()]


def _html_block(label: str, text: str) -> str:
    if not text:
        return ""
    start = f"<em>{escape(label)}</em>" if label else ""
    return f'<div style="margin:.2em 0 .2em 1.2em;white-space:pre-wrap">{start}{escape(text)}</div>'
