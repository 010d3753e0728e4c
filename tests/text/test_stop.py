"""Stop strings against the definition written out: look at every beginning of the text, one character more
each."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import InvalidRequestError
from minillm.text import StopStrings


def naive(text: str, stops: list[str]) -> tuple[str, str | None]:
    """What is shown in the end, and the stop string found."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            longest = max(found, key=len)
            return text[: end - len(longest)], longest
    return text, None


def chunks_of(text: str, cuts: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in pairwise(edges)] or [""]


few_letters = st.text(alphabet="ab🙂\n", max_size=30)


@given(
    text=few_letters,
    stops=st.lists(st.text(alphabet="ab🙂\n", min_size=1, max_size=5), max_size=5),
    cuts=st.lists(st.integers(0, 30), max_size=8),
)
def test_any_chunking_gives_what_the_definition_gives(text: str, stops: list[str], cuts: list[int]) -> None:
    expected, stop = naive(text, stops)
    watcher = StopStrings(stops)
    shown = ""
    seen = ""
    stopped = False
    for chunk in chunks_of(text, cuts):
        new, stopped = watcher.push(chunk)
        shown += new
        seen += chunk
        assert expected.startswith(shown), "shown text must never have to be taken back"
        if stopped:
            break
        held = seen[len(shown) :]
        # Held back is what could still become a stop string, and nothing more.
        longest = max((n for s in stops for n in range(len(s)) if seen.endswith(s[:n])), default=0)
        assert len(held) == longest
    shown += watcher.flush()
    assert shown == expected
    assert stopped == (stop is not None)
    assert watcher.matched == stop


def test_found_across_chunks_without_leaking() -> None:
    watcher = StopStrings(["</answer>"])
    assert watcher.push("42 </ans") == ("42 ", False)
    assert watcher.push("wer") == ("", False)
    assert watcher.push("> more") == ("", True)
    assert watcher.push("even more") == ("", True)
    assert watcher.flush() == ""


def test_held_text_comes_out_when_it_turns_out_harmless() -> None:
    watcher = StopStrings(["###"])
    assert watcher.push("a##") == ("a", False)
    assert watcher.push("b#") == ("##b", False)
    assert watcher.flush() == "#"


def test_the_stop_string_that_is_complete_first_wins() -> None:
    watcher = StopStrings(["cd", "abcde"])
    assert watcher.push("xabcdef") == ("xab", True)
    assert watcher.matched == "cd"


def test_of_two_that_end_together_the_longer_wins() -> None:
    watcher = StopStrings(["c", "abc"])
    assert watcher.push("xabc") == ("x", True)


def test_no_stop_strings_hold_nothing_back() -> None:
    assert StopStrings([]).push("anything") == ("anything", False)


def test_a_single_string_is_one_stop_string() -> None:
    assert StopStrings("ab").push("a b ab") == ("a b ", True)


@pytest.mark.parametrize("stops", [[""], ["ok", ""], [None], [3]])
def test_empty_or_untextual_stop_strings_are_refused(stops: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="at least one character") as caught:
        StopStrings(stops)
    assert caught.value.param == "stop"


def test_work_grows_with_the_text_only() -> None:
    """Counts steps back to a shorter beginning, the automaton's inner loop: at most one per character."""

    class Counted(list[int]):
        lookups = 0

        def __getitem__(self, index: Any) -> Any:
            self.lookups += 1
            return super().__getitem__(index)

    almost = "a" * 20_000
    for stops, text in [
        ([f"stop {i}!" for i in range(10_000)], "the end is near: stop 12 stop 9999 " * 1000),
        ([almost + "b", "a" * 10_000 + "c"], almost * 3),
        ([almost + "b", "aaac"], (almost + "d") * 3),
    ]:
        watcher = StopStrings(stops)
        watcher._automaton._fallback = counted = Counted(watcher._automaton._fallback)
        shown = "".join(watcher.push(text[i : i + 7])[0] for i in range(0, len(text), 7)) + watcher.flush()
        assert shown == text
        assert counted.lookups <= len(text)


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("text", "shown", "stopped"),
    [
        ("one STOP <call> two", "one ", True),
        ("one <call> STOP two", "one <call> STOP two", False),
        ("one <cal STOP l> two", "one <cal ", True),
        ("<call>STOP", "<call>STOP", False),
        ("<<call>STO", "<<call>STO", False),
        ("a ll> b", "a ", True),
        ("a <call> b", "a <call> b", False),
    ],
)
def test_from_a_text_on_stop_strings_no_longer_count(text: str, shown: str, stopped: bool, size: int) -> None:
    stops = StopStrings(["STOP", "ll>"], until="<call>")
    pieces = [stops.push(text[start : start + size]) for start in range(0, len(text), size)]
    assert "".join(piece for piece, _ in pieces) + stops.flush() == shown
    assert pieces[-1][1] is stopped


def test_stop_strings_may_count_for_nothing_and_before_the_text_that_ends_them() -> None:
    assert StopStrings(["a"], until="").push("banana") == ("banana", False)
    assert StopStrings(["<call>"], until="<call>").push("x<call>") == ("x", True)
    assert StopStrings([], until="<call>").push("x<call") == ("x<call", False)
