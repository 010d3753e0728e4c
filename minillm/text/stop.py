"""Stop strings: generation ends where one of them appears, and no part of it is ever shown.

The search is an Aho-Corasick automaton (Aho and Corasick, "Efficient string matching: an aid to bibliographic
search", 1975): one step per character however many stop strings there are. Its state answers the question
that streaming asks, namely how many of the last characters could still turn into a stop string.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from minillm.errors import InvalidRequestError


class StopStrings:
    """Watches one stream of text for stop strings.

    The stream stops at the first character that completes a stop string; where several end at that
    character, the longest one counts. The result doesn't depend on how the text is cut into chunks.
    """

    def __init__(self, stops: Sequence[str], *, until: str | None = None) -> None:
        """Builds the automaton, in time and memory proportional to the total length of the stop strings.

        Args:
            stops: the stop strings; a single str is one stop string. May be empty: then nothing is held back.
            until: from this text on, stop strings no longer count; "" for from the beginning.

        Raises:
            InvalidRequestError: for a stop string that is empty or isn't text.
        """
        stops = [stops] if isinstance(stops, str) else list(stops)
        stops = [] if until == "" else stops
        self._until = until if until not in stops else None
        # It's searched for like the others, but ends the search instead of the stream.
        self._automaton = _Automaton([*stops, self._until] if stops and self._until else stops)
        self._state = 0
        self._held = ""
        self._matched: str | None = None

    @property
    def matched(self) -> str | None:
        """The stop string that ended the stream, None as long as none did."""
        return self._matched

    def push(self, text: str) -> tuple[str, bool]:
        """Takes the next piece of the stream.

        Returns:
            The text that may be shown now (perhaps ""), and whether a stop string ended the stream. Text
            that could be the beginning of a stop string is held back until it's clear. Once stopped,
            further text is ignored.
        """
        if self._matched is not None:
            return "", True
        automaton, state = self._automaton, self._state
        text = self._held + text
        for end in range(len(self._held), len(text)):
            state = automaton.step(state, text[end])
            length = automaton.match_length[state]
            if length:
                begin = end + 1 - length
                if text[begin : end + 1] == self._until:
                    self._automaton, self._state, self._held = _Automaton([]), 0, ""
                    return text, False
                self._matched, self._held = text[begin : end + 1], ""
                return text[:begin], True
        self._state = state
        # The state's depth is the length of the longest end of the text that begins a stop string.
        shown = len(text) - automaton.depth[state]
        self._held = text[shown:]
        return text[:shown], False

    def flush(self) -> str:
        """Ends the stream: returns the text still held back, since no stop string can complete any more."""
        held, self._held, self._state = self._held, "", 0
        return held


class _Automaton:
    """A trie of the stop strings in which every state knows where to go when the next character doesn't fit.

    A state stands for the longest end of the text so far that is the beginning of a stop string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._fallback = [0]  # the state of the longest proper end of this state's text
        self.depth = [0]  # length of the state's text
        self.match_length = [0]  # length of the longest stop string that ends here; 0 for none
        for stop in stops:
            self._insert(stop)
        self._link()

    def step(self, state: int, char: str) -> int:
        """The state after one more character; constant time on average over a text."""
        while state and char not in self._next[state]:
            state = self._fallback[state]
        return self._next[state].get(char, 0)

    def _insert(self, stop: str) -> None:
        if not isinstance(stop, str) or not stop:
            raise InvalidRequestError(f"A stop string must be text of at least one character, not {stop!r}.", "stop")
        state = 0
        for char in stop:
            if char not in self._next[state]:
                self._next[state][char] = len(self._next)
                self._next.append({})
                self._fallback.append(0)
                self.depth.append(self.depth[state] + 1)
                self.match_length.append(0)
            state = self._next[state][char]
        self.match_length[state] = len(stop)

    def _link(self) -> None:
        """Sets the fallbacks, short texts before long ones, since each builds on a shorter one."""
        queue = deque(self._next[0].values())
        while queue:
            state = queue.popleft()
            for char, child in self._next[state].items():
                self._fallback[child] = self.step(self._fallback[state], char)
                self.match_length[child] = self.match_length[child] or self.match_length[self._fallback[child]]
                queue.append(child)
