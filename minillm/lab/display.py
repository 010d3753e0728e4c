"""How things reach the reader: in a notebook as HTML that says the same without a front end, in a terminal as text."""

from __future__ import annotations

import base64
import importlib
import io
import sys
import time
import unicodedata
import uuid
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol, runtime_checkable

from minillm.errors import MinillmError

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class DisplayError(MinillmError):
    """Something that cannot be displayed, or that lacks its text alternative."""


@runtime_checkable
class Displayable(Protocol):
    """Displays itself: HTML for a notebook, `str()` for a terminal. Figures, reports and `Html` all do."""

    def _repr_html_(self) -> str: ...


@dataclass(frozen=True)
class Html:
    """A piece of HTML and the text that says the same.

    Attributes:
        html: the markup; everything that came from outside is already escaped.
        text: what a terminal prints.
    """

    html: str
    text: str

    def _repr_html_(self) -> str:
        return self.html

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


def in_notebook() -> bool:
    """Whether the output goes to a Jupyter kernel's front end (a notebook) and not to a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def show(thing: Any, alt: str | None = None) -> None:
    """Display a figure (with its text alternative) or anything that displays itself, and close the figure.

    A notebook gets `<img alt=…>`, a plain terminal the alternative text.

    Args:
        thing: a matplotlib figure, or an object with `_repr_html_` (a chips row, a report, a widget).
        alt: what the figure says, in words; needed for a figure that does not bring its own.

    Raises:
        DisplayError: a figure without a text alternative, or something that cannot be displayed.
    """
    if hasattr(thing, "savefig"):
        thing = _figure_as_html(thing, alt)
    elif not isinstance(thing, Displayable):
        raise DisplayError(
            f"show() displays figures and objects with HTML, not {type(thing).__name__}; use print() for this."
        )
    if in_notebook():
        _ipython_display(thing)
    else:
        print(thing)


def figure_html(figure: Any, alt: str) -> str:
    """A matplotlib figure as `<img>` with its text alternative: SVG, so sharp at every zoom of a projector."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}" '
        'style="max-width:100%;height:auto;background:white">'
    )


def _figure_as_html(figure: Any, alt: str | None) -> Html:
    text = alt if alt is not None else getattr(figure, "alt", "")
    if not text:
        raise DisplayError("This figure has no text alternative; say in words what it shows: show(fig, alt='…').")
    html = figure_html(figure, text)
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close(figure)
    return Html(html, text)


def _ipython_display(thing: object, **options: Any) -> Any:
    return importlib.import_module("IPython.display").display(thing, **options)


def import_ipywidgets() -> Any | None:
    """The ipywidgets package, or None where it is not installed (the static fallback is shown then)."""
    try:
        return importlib.import_module("ipywidgets")
    except ImportError:
        return None


def widget_outputs(panel: Any | None, fallback: Displayable) -> list[dict[str, Any]]:
    """The outputs of something interactive: its static form, then the widget if there is one.

    The static form is an output of its own, because `nbconvert` drops whatever shares an output with a widget whose
    state was saved, and the widget needs a script from the network there. A live front end hides the static form as
    soon as the widget is on the page; an exported page (its body has the class `jp-Notebook`) never does.
    """
    html, text = fallback._repr_html_(), str(fallback)
    if panel is None:
        return [{"text/html": html, "text/plain": text}]
    name = f"minillm-{uuid.uuid4().hex[:12]}"
    panel.add_class(name)
    hide = f"<style>body:not(.jp-Notebook):has(.{name}) #{name} {{display: none}}</style>"
    view = panel._repr_mimebundle_()[WIDGET_VIEW]
    return [
        {"text/html": f'{hide}<div id="{name}">{html}</div>', "text/plain": text},
        {"text/html": "<!-- -->", "text/plain": "", WIDGET_VIEW: view},  # nothing where the widget is not known
    ]


def publish(outputs: list[dict[str, Any]]) -> None:
    """Display the outputs of `widget_outputs` in a notebook; print the static text in a terminal."""
    if not in_notebook():
        print(outputs[0]["text/plain"])
        return
    for output in outputs:
        importlib.import_module("IPython.display").publish_display_data(output)


class ProgressLine:
    """One line that is rewritten while something long runs: in a notebook, in a terminal, silent in a pipe.

    Args:
        every: seconds between two updates; calls in between cost nothing.
    """

    def __init__(self, every: float = 0.5) -> None:
        self._every = every
        self._last = float("-inf")
        self._width = 0
        self._handle: Any = None
        self._notebook = in_notebook()

    def update(self, text: str) -> None:
        """Show `text` in place of the line before, at most once per interval."""
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            self._write(text)

    def done(self, text: str) -> None:
        """Show the final text and leave it standing."""
        self._write(text)
        if not self._notebook and sys.stderr.isatty():
            print(file=sys.stderr)

    def _write(self, text: str) -> None:
        if self._notebook:
            line = Html(f"<div>{escape(text)}</div>", text)
            if self._handle is None:
                self._handle = _ipython_display(line, display_id=True)
            else:
                self._handle.update(line)
        elif sys.stderr.isatty():
            with suppress(OSError):  # a closed terminal must not end a measurement
                print(f"\r{text.ljust(self._width)}", end="", file=sys.stderr, flush=True)
            self._width = len(text)


@dataclass(frozen=True)
class Piece:
    """A stretch of a token's text.

    Attributes:
        kind: "text", "space" (whitespace made visible), "bytes" (hex of a split character) or "code"
            (the code point of a character that has no shape of its own).
        text: what to show.
    """

    kind: str
    text: str


_WHITESPACE = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}


def pieces(token: str | bytes) -> list[Piece]:
    """Split a token's text into what can be shown as it is and what has to be made visible.

    Bytes that are only a part of a character become hex; a `str` is taken as complete text.
    """
    text = token.decode("utf-8", errors="surrogateescape") if isinstance(token, bytes) else token
    found: list[Piece] = []
    for character in text:
        kind, shown = _visible_character(character, first=not found)
        joiner = {"text": "", "space": "", "bytes": " "}.get(kind)
        if found and found[-1].kind == kind and joiner is not None:
            found[-1] = Piece(kind, found[-1].text + joiner + shown)
        else:
            found.append(Piece(kind, shown))
    return found


def visible(token: str | bytes) -> str:
    """A token's text on one line with whitespace, partial characters and invisible characters made visible.

    >>> visible(" Paris"), visible(b"\\xf0\\x9f"), visible("a\\n")
    ('␣Paris', '<F0 9F>', 'a⏎')
    """
    return "".join(f"<{p.text}>" if p.kind in ("bytes", "code") else p.text for p in pieces(token))


def _visible_character(character: str, *, first: bool) -> tuple[str, str]:
    if character in _WHITESPACE:
        return "space", _WHITESPACE[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: one byte that is not a character
        return "bytes", f"{code - 0xDC00:02X}"
    category = unicodedata.category(character)
    if category in ("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp", "Zs") or 0xFE00 <= code <= 0xFE0F:
        return "code", f"U+{code:04X}"
    if first and category in ("Mn", "Me"):  # a combining mark needs something to stand on
        return "text", "◌" + character
    return "text", character
