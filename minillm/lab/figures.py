"""The figures of the lessons: one palette, one style, a text alternative for each.

Every function returns a `LabFigure` (a matplotlib figure that knows its text alternative and displays itself in a
notebook) or an `Html` object. Colors are from Okabe and Ito, "Color Universal Design" (2008), and never the only
sign: what differs in color differs in shape, fill or label as well.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import lru_cache, wraps
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from minillm.lab.display import Html, figure_html, pieces, show, visible

if TYPE_CHECKING:
    from minillm.engine.trace import Phase, StepTrace, Tracer

__all__ = [
    "PALETTE",
    "LabFigure",
    "Panel",
    "RequestSpan",
    "WaterfallBar",
    "attention_map",
    "block_map",
    "distribution_grid",
    "next_token_bars",
    "request_timeline",
    "show",
    "step_cost",
    "style",
    "token_chips",
    "trace_timeline",
    "waterfall",
]

BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
YELLOW = "#F0E442"
BLUE = "#0072B2"
VERMILION = "#D55E00"
PURPLE = "#CC79A7"
GRAY = "#6E6E6E"

PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE, BLACK)
"""The colors of series, in order; yellow is left out because it does not show on white."""

STYLE: dict[str, Any] = {
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.1,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a figure looks the same everywhere
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.2,
    "lines.markersize": 6,
    "legend.frameon": False,
    "text.parse_math": False,  # a token "$" is not a formula
    "svg.fonttype": "path",
    "svg.hashsalt": "minillm",  # the same figure gives the same bytes
}

_MAX_MARKERS = 12  # markers tell series apart; one for every point would hide a long line
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


def style() -> AbstractContextManager[None]:
    """The lab's matplotlib style as a context: `with style(): figure = matplotlib.figure.Figure()`."""
    return matplotlib.rc_context(STYLE)  # type: ignore[arg-type]


class LabFigure(Figure):
    """A matplotlib figure with a text alternative, outside pyplot's global list of open figures.

    Attributes:
        alt: what the figure says, in words.
    """

    def __init__(self, width: float, height: float, alt: str) -> None:
        super().__init__(figsize=(width, height))
        self.alt = alt

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        """Like matplotlib's, always in the lab's style (labels are made only when a figure is drawn)."""
        with style():
            super().savefig(*args, **kwargs)

    def _repr_html_(self) -> str:
        return figure_html(self, self.alt)

    def __str__(self) -> str:
        return self.alt

    def __repr__(self) -> str:
        return self.alt


P = ParamSpec("P")
R = TypeVar("R")


def _styled(function: Callable[P, R]) -> Callable[P, R]:
    @wraps(function)
    def styled(*args: P.args, **kwargs: P.kwargs) -> R:
        with style():
            return function(*args, **kwargs)

    return styled


# ---------------------------------------------------------------------------------------------------- tokens

_CHIP_COLORS = (BLUE, ORANGE, GREEN, PURPLE, SKY_BLUE, VERMILION)


def token_chips(tokens: Sequence[tuple[int, str | bytes]], *, special: Collection[int] = ()) -> Html:
    """A text, token by token: one colored chip for each, its id below, details on hover.

    Whitespace is made visible, and bytes that are only a part of a character appear as hex. The colors are
    translucent, so the text keeps the page's own color and reads in light and in dark themes.

    Args:
        tokens: pairs of token id and what it stands for; pass `tokenizer.token_bytes(token_id)` to see
            characters that are split over several tokens.
        special: ids of special tokens, drawn with a dashed line.
    """
    chips = "".join(
        _chip(position, token_id, token, token_id in special) for position, (token_id, token) in enumerate(tokens)
    )
    text = f"{_count(len(tokens), 'token')}: " + " ".join(f"{visible(t)}[{i}]" for i, t in tokens)
    legend = _chip_legend([piece for _, token in tokens for piece in pieces(token)])
    return Html(
        f'<div role="list" aria-label="{_count(len(tokens), "token")} with their ids" '
        f'style="display:flex;flex-wrap:wrap;gap:6px 3px;line-height:1.3;max-width:60em">{chips}</div>'
        f'<div style="font-size:85%;opacity:.8;margin-top:.5em">{_count(len(tokens), "token")}{legend}</div>',
        text,
    )


def _chip(position: int, token_id: int, token: str | bytes, special: bool) -> str:
    color = _CHIP_COLORS[position % len(_CHIP_COLORS)]
    inner = "".join(_chip_piece(piece.kind, piece.text) for piece in pieces(token)) or "<i>empty</i>"
    raw = token if isinstance(token, bytes) else token.encode("utf-8", errors="replace")
    hover = f"token {position}: id {token_id}, {_count(len(raw), 'byte')} ({raw[:24].hex(' ').upper()})"
    if special:
        hover += ", special"
    border = f"2px dashed {color}" if special else f"2px solid {color}"
    line_break = '<span aria-hidden="true" style="flex-basis:100%"></span>' if b"\n" in raw else ""
    return (
        f'<span role="listitem" title="{escape(hover)}" style="display:inline-block;text-align:center">'
        f'<bdi style="display:block;font-family:monospace;font-size:115%;white-space:pre;padding:0 4px;'
        f"min-height:1.6em;line-height:1.6em;border-radius:4px 4px 0 0;border-bottom:{border};"
        f'background:{color}40">{inner}</bdi>'
        f'<span style="display:block;font-size:70%;opacity:.75">{token_id}</span></span>{line_break}'
    )


def _chip_piece(kind: str, text: str) -> str:
    if kind == "text":
        return escape(text)
    if kind == "space":
        return f'<span style="opacity:.6">{escape(text)}</span>'
    return (
        '<span style="font-size:75%;vertical-align:middle;border:1px solid currentColor;border-radius:3px;'
        f'padding:0 2px">{text}</span>'
    )


def _chip_legend(shown: Sequence[Any]) -> str:
    notes = []
    spaces = "".join(piece.text for piece in shown if piece.kind == "space")
    notes += [
        f"{mark} is {name}"
        for mark, name in (("␣", "a space"), ("⏎", "a new line"), ("⇥", "a tab"), ("␍", "a carriage return"))
        if mark in spaces
    ]
    if any(piece.kind == "bytes" for piece in shown):
        notes.append("framed hex numbers are bytes of a character that is split over tokens")
    if any(piece.kind == "code" for piece in shown):
        notes.append("U+… is a character without a shape of its own")
    return "".join(f" &nbsp;|&nbsp; {escape(note)}" for note in notes)


# --------------------------------------------------------------------------------------------- distributions


@_styled
def next_token_bars(tokens: Sequence[str | bytes], probs: Sequence[float], title: str = "Next token") -> LabFigure:
    """Horizontal bars of the most probable next tokens, in the order given.

    Args:
        tokens: text of each token.
        probs: its probability, between 0 and 1; what is missing to 1 is named under the bars.
        title: of the figure.
    """
    values = _array(probs)
    _check_lengths("tokens", tokens, "probs", values)
    labels = [_label(token) for token in tokens]
    rest = max(0.0, 1.0 - float(values.sum()))
    shares = ", ".join(f"{label} {_percent(p)}" for label, p in zip(labels, values, strict=True))
    figure = LabFigure(9, 1.6 + 0.36 * len(labels), f"{title}. Bars: {shares}. All other tokens: {_percent(rest)}.")
    axes = figure.subplots()
    rows = range(len(labels))
    axes.barh(rows, values, color=BLUE, height=0.72)
    _probability_axis(axes, labels, max(values, default=1.0))
    for row, value in zip(rows, values, strict=True):
        _value_label(axes, value, row, _percent(value))
    axes.set_title(title)
    note = f"probability (all other tokens together: {_percent(rest)})" if rest > 5e-4 else "probability"
    axes.set_xlabel(note)
    return figure


@dataclass(frozen=True)
class Panel:
    """One distribution of `distribution_grid`.

    Attributes:
        title: the settings that made it.
        probs: [num_tokens], the probability of each token; 0 for a token that was cut.
        before: [num_tokens], the probability before anything was cut, drawn hollow for the cut tokens.
    """

    title: str
    probs: Sequence[float]
    before: Sequence[float] | None = None


@_styled
def distribution_grid(
    tokens: Sequence[str | bytes],
    panels: Sequence[Panel],
    *,
    x_max: float | None = None,
    columns: int = 3,
) -> LabFigure:
    """The same tokens under several settings: kept ones as solid bars, cut ones hollow.

    Args:
        tokens: text of each token, most probable first.
        panels: one per setting.
        x_max: end of the probability axis; by default the largest probability shown.
        columns: panels in a row.
    """
    labels = [_label(token) for token in tokens]
    for panel in panels:
        _check_lengths("tokens", tokens, f"probs of {panel.title!r}", panel.probs)
        if panel.before is not None:
            _check_lengths("tokens", tokens, f"before of {panel.title!r}", panel.before)
    columns = max(1, min(columns, len(panels)))
    rows = math.ceil(len(panels) / columns)
    width = 9.0 if columns == 1 else 2.2 + 3.2 * columns
    figure = LabFigure(width, 0.5 + rows * (1.1 + 0.34 * len(labels)), _grid_alt(labels, panels))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    shown = [value for panel in panels for value in (panel.probs, panel.before) if value is not None]
    largest = max((float(_array(values).max(initial=0.0)) for values in shown), default=1.0)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, labels, panel, largest if x_max is None else x_max)
        if axes.get_subplotspec().is_last_row() or rows == 1:
            axes.set_xlabel("probability")
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    if any(panel.before is not None for panel in panels):
        keys = [
            Patch(facecolor=BLUE, edgecolor=BLUE, label="kept"),
            Patch(
                facecolor="none",
                edgecolor=VERMILION,
                linestyle="--",
                label="cut (probability before the cut)",
            ),
        ]
        figure.legend(handles=keys, loc="outside lower left", ncols=2)
    return figure


def _draw_panel(axes: Axes, labels: Sequence[str], panel: Panel, x_max: float) -> None:
    kept = _array(panel.probs)
    before = kept if panel.before is None else _array(panel.before)
    for row, (value, old) in enumerate(zip(kept, before, strict=True)):
        if value > 0 or panel.before is None:
            axes.barh(row, value, color=BLUE, edgecolor=BLUE, height=0.7)
            _value_label(axes, value, row, _percent(value), size=10)
        else:
            axes.barh(row, old, facecolor="none", edgecolor=VERMILION, linestyle="--", linewidth=1.4, height=0.7)
            _value_label(axes, old, row, "cut", size=10)
    _probability_axis(axes, labels, x_max)
    axes.set_title(panel.title, fontsize=12)
    rest = 1.0 - float(kept.sum())
    if rest > 5e-4:
        axes.text(0.98, 0.02, f"tokens not shown: {_percent(rest)}", transform=axes.transAxes, ha="right", fontsize=10)


def _grid_alt(labels: Sequence[str], panels: Sequence[Panel]) -> str:
    parts = []
    for panel in panels:
        kept = [(label, float(p)) for label, p in zip(labels, _array(panel.probs), strict=True) if p > 0]
        shares = ", ".join(f"{label} {_percent(p)}" for label, p in kept[:4])
        more = ", …" if len(kept) > 4 else ""
        rest = 1.0 - sum(p for _, p in kept)
        more += f"; tokens not shown {_percent(rest)}" if rest > 5e-4 else ""
        parts.append(f"{panel.title}: {len(kept)} of the {len(labels)} tokens kept ({shares}{more})")
    return "The same next-token distribution under several settings. " + "; ".join(parts) + "."


def _probability_axis(axes: Axes, labels: Sequence[str], largest: float) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)  # first token at the top
    axes.set_xlim(0, max(1e-6, largest * 1.18))  # room for the label at a bar's end
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0 if largest > 0.04 else 1))
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def _value_label(axes: Axes, x: float, y: float, text: str, size: float = 11) -> None:
    axes.annotate(text, (x, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=size)


# ------------------------------------------------------------------------------------------------------ time


@_styled
def step_cost(series: Mapping[str, Sequence[float]], title: str = "Cost of each generated token") -> LabFigure:
    """Lines of milliseconds per generated token.

    Args:
        series: for each system, the milliseconds of its 1st, 2nd, … generated token.
        title: of the figure.
    """
    ends = []
    for name, values in series.items():
        if len(values):
            ends.append(f"{name}: {values[0]:.3g} ms for the first token, {values[-1]:.3g} ms for token {len(values)}")
    figure = LabFigure(9, 4.6, f"{title}. {'; '.join(ends)}.")
    axes = figure.subplots()
    for index, (name, values) in enumerate(series.items()):
        axes.plot(
            range(1, len(values) + 1),
            _array(values),
            color=PALETTE[index % len(PALETTE)],
            linestyle=_DASHES[index % len(_DASHES)],
            marker=_MARKERS[index % len(_MARKERS)],
            markevery=1 if len(values) <= 2 * _MAX_MARKERS else math.ceil(len(values) / _MAX_MARKERS),
            label=name,
        )
    axes.set_ylim(bottom=0)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("generated token")
    axes.set_ylabel("time for this token (ms)")
    axes.set_title(title)
    if len(series) > 1:
        figure.legend(loc="outside lower center", ncols=min(3, len(series)))
    return figure


@dataclass(frozen=True)
class RequestSpan:
    """One request of `request_timeline`; times in seconds on one clock.

    Attributes:
        label: how the request is called.
        start: when it arrived.
        first_token: when its first token was there.
        end: when its last token was there.
    """

    label: str
    start: float
    first_token: float
    end: float


@_styled
def request_timeline(spans: Sequence[RequestSpan], title: str = "Requests over time") -> LabFigure:
    """A bar per request: hatched until its first token, solid while it generates.

    Args:
        spans: the requests, drawn from top to bottom; time is counted from the earliest start.
        title: of the figure.
    """
    origin = min((span.start for span in spans), default=0.0)
    words = "; ".join(
        f"{s.label} first token after {s.first_token - s.start:.3g} s, done after {s.end - s.start:.3g} s"
        for s in spans
    )
    figure = LabFigure(9, 1.9 + 0.42 * len(spans), f"{title}. {words}.")
    axes = figure.subplots()
    for row, span in enumerate(spans):
        waiting, running = span.first_token - span.start, span.end - span.first_token
        axes.barh(
            row,
            waiting,
            left=span.start - origin,
            height=0.6,
            facecolor="white",
            edgecolor=ORANGE,
            hatch="///",
        )
        axes.barh(row, running, left=span.first_token - origin, height=0.6, color=BLUE, edgecolor=BLUE)
        axes.plot(span.first_token - origin, row, marker="D", color=BLACK, markersize=7)
        _value_label(axes, span.end - origin, row, f"{span.end - span.start:.3g} s")
    axes.set_yticks(range(len(spans)), [_plain(span.label) for span in spans])
    axes.set_ylim(len(spans) - 0.4, -0.6)
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("time since the first request arrived (s)")
    axes.set_title(title)
    keys = [
        Patch(facecolor="white", edgecolor=ORANGE, hatch="///", label="waiting for the first token"),
        Line2D([], [], color=BLACK, marker="D", linestyle="none", label="first token"),
        Patch(facecolor=BLUE, edgecolor=BLUE, label="generating"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=3)
    return figure


@dataclass(frozen=True)
class WaterfallBar:
    """One bar of `waterfall`: a label and its tokens per second."""

    label: str
    tokens_per_second: float


@_styled
def waterfall(bars: Sequence[WaterfallBar], title: str, note: str = "") -> LabFigure:
    """From bar to bar: the value so far in gray, the gain solid (or the loss hatched), and the ratio.

    Args:
        bars: in the order of the course.
        title: of the figure.
        note: a line under the axis, such as what machine this is.
    """
    figure = LabFigure(9, 2.0 + 0.62 * len(bars), _waterfall_alt(bars, title))
    axes = figure.subplots()
    before: float | None = None
    for row, bar in enumerate(bars):
        value = bar.tokens_per_second
        text = f"{value:.3g} tokens/s"
        if before is None:
            axes.barh(row, value, color=BLUE, edgecolor=BLUE, height=0.6)
        else:
            axes.plot([before, before], [row - 0.7, row + 0.3], color=GRAY, linewidth=1.2)
            axes.barh(row, min(before, value), color="#CCCCCC", edgecolor="#CCCCCC", height=0.6)
            if value >= before:
                axes.barh(row, value - before, left=before, color=GREEN, edgecolor=GREEN, height=0.6)
            else:
                axes.barh(
                    row,
                    before - value,
                    left=value,
                    facecolor="white",
                    edgecolor=VERMILION,
                    hatch="///",
                    height=0.6,
                )
            text += f"  ({_ratio(value, before)})"
        _value_label(axes, max(value, before or 0.0), row, text, size=12)
        before = value
    axes.set_yticks(range(len(bars)), [_plain(bar.label) for bar in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.set_xlim(0, 1.35 * max((bar.tokens_per_second for bar in bars), default=1.0))
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("generated tokens per second" + (f"\n{note}" if note else ""))
    axes.set_title(title)
    if len(bars) > 1:
        keys = [
            Patch(facecolor="#CCCCCC", label="row before"),
            Patch(facecolor=GREEN, label="gain"),
            Patch(facecolor="white", edgecolor=VERMILION, hatch="///", label="loss"),
        ]
        figure.legend(handles=keys, loc="outside lower center", ncols=3)
    return figure


def _waterfall_alt(bars: Sequence[WaterfallBar], title: str) -> str:
    words = [f"{bar.label}: {bar.tokens_per_second:.3g} tokens/s" for bar in bars]
    for index in range(1, len(bars)):
        ratio = _ratio(bars[index].tokens_per_second, bars[index - 1].tokens_per_second)
        words[index] += f" ({ratio} the row before)"
    return f"{title}. {'; '.join(words)}."


def _ratio(value: float, before: float) -> str:
    if before <= 0:
        return "×?"
    return f"×{value / before:.0f}" if value >= 10 * before else f"×{value / before:.2g}"


# --------------------------------------------------------------------------------------------------- engine

_MAX_LANES = 60
_MAX_BLOCKS = 1024
_PHASES: dict[str, tuple[str, float, dict[str, Any]]] = {  # in words, height, style
    "waiting": ("waiting", 0.3, {"facecolor": "white", "edgecolor": ORANGE, "hatch": "////"}),
    "prefill": ("prefill, a chunk per step", 0.76, {"facecolor": BLUE, "edgecolor": "white"}),
    "decode": ("decode, a token per step", 0.42, {"facecolor": SKY_BLUE, "edgecolor": SKY_BLUE}),
    "preempted": ("preempted", 0.3, {"facecolor": "white", "edgecolor": VERMILION, "hatch": "xxxx"}),
}


@_styled
def trace_timeline(
    trace: Tracer | Sequence[StepTrace],
    title: str = "What the engine did for each request",
    *,
    unit: Literal["steps", "seconds"] = "steps",
) -> LabFigure:
    """A lane per request: waiting, chunks of its prompt, its output's tokens, preempted; the end as a black line.

    Args:
        trace: of the engine; at most the first 60 requests are drawn.
        title: of the figure.
        unit: of the time axis.
    """
    from minillm.engine.trace import request_phases  # not at the top: it loads PyTorch

    if unit not in ("steps", "seconds"):
        raise ValueError(f"unit is {unit!r}; expected 'steps' or 'seconds'.")
    steps = _steps(trace)
    everybody = request_phases(steps)
    lanes = dict(list(everybody.items())[:_MAX_LANES])
    hidden = len(everybody) - len(lanes)
    title += f" (the first {_MAX_LANES} of {len(everybody)})" if hidden else ""
    figure = LabFigure(11, 1.9 + 0.34 * len(lanes), _timeline_alt(lanes, steps, title))
    axes = figure.subplots()
    origin = min((phase.start for lane in everybody.values() for phase in lane), default=0.0)
    finished = {name: step for step in steps for name in step.finished}
    for row, (name, lane) in enumerate(lanes.items()):
        for phase in _joined(lane):
            left, right = (phase.first_step, phase.end_step) if unit == "steps" else (phase.start, phase.end)
            _, height, look = _PHASES[phase.kind]
            start = left - (0.0 if unit == "steps" else origin)
            axes.barh(row, right - left, left=start, height=height, linewidth=0.8, **look)
        if name in finished:
            end = finished[name].step + 1.0 if unit == "steps" else finished[name].end - origin
            axes.plot([end, end], [row - 0.4, row + 0.4], color=BLACK, linewidth=2)
    axes.set_yticks(range(len(lanes)), [_plain(name) for name in lanes], fontsize=11)
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.set_xlim(left=steps[0].step if unit == "steps" else 0.0)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=unit == "steps"))
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("step of the engine" if unit == "steps" else "time since the first request (s)")
    axes.set_title(title)
    kinds = {
        phase.kind
        for lane in lanes.values()
        for phase in lane
        if unit == "seconds" or phase.end_step > phase.first_step
    }
    keys: list[Any] = [Patch(label=words, **look) for kind, (words, _, look) in _PHASES.items() if kind in kinds]
    keys.append(
        Line2D([], [], color=BLACK, marker="|", markersize=14, markeredgewidth=2, linestyle="none", label="end")
    )
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), columnspacing=1.2, handletextpad=0.5)
    return figure


def _joined(lane: Sequence[Phase]) -> list[Phase]:
    """Decode steps that follow each other as one bar; the other phases as they are."""
    joined: list[Phase] = []
    for phase in lane:
        if joined and phase.kind == "decode" == joined[-1].kind and joined[-1].end_step == phase.first_step:
            joined[-1] = replace(joined[-1], end=phase.end, end_step=phase.end_step)
        else:
            joined.append(phase)
    return joined


def _timeline_alt(lanes: Mapping[str, Sequence[Phase]], steps: Sequence[StepTrace], title: str) -> str:
    words = []
    for name, lane in lanes.items():
        waited = sum(phase.end_step - phase.first_step for phase in lane if phase.kind == "waiting")
        kinds = [phase.kind for phase in lane]
        text = f"{name} waited {_count(waited, 'step')}, {_count(kinds.count('prefill'), 'prefill chunk')}, "
        text += f"{_count(kinds.count('decode'), 'decode step')}"
        times = kinds.count("preempted")
        words.append(text + (f", preempted {_count(times, 'time')}" if times else ""))
    return f"{title}. Steps {steps[0].step} to {steps[-1].step}. {'; '.join(words)}."


@_styled
def block_map(
    trace: Tracer | Sequence[StepTrace] | StepTrace, title: str = "The KV cache's blocks", *, step: int | None = None
) -> LabFigure:
    """A cell per block of the KV cache: who holds it after scheduling, what is only cached, what is free.

    Which blocks are cached is known if the tracer noted them: `engine.tracer = Tracer(cached_blocks=True)`.

    Args:
        trace: of the engine, or one step of it.
        title: of the figure; the step is added.
        step: which step of the trace; by default its last one.
    """
    chosen = _pick_step(trace, step)
    total = chosen.kv.total + 1
    if total > _MAX_BLOCKS:
        raise ValueError(f"block_map draws up to {_MAX_BLOCKS} blocks, and this pool has {total}; use a smaller pool.")
    title = f"{title}, step {chosen.step}"
    owners = {item.request_id: item.block_ids for item in chosen.scheduled} | chosen.idle
    holders: dict[int, list[int]] = {}
    for number, blocks in enumerate(owners.values(), start=1):
        for block in blocks:
            holders.setdefault(block, []).append(number)
    columns = 16 if total <= 256 else 32
    rows = math.ceil(total / columns)
    keys = _block_keys(chosen, owners, holders)
    height = 1.3 + 0.5 * rows + 0.24 * math.ceil(len(keys) / 3)
    figure = LabFigure(1.5 + 0.5 * columns, height, _block_alt(chosen, owners, holders, title))
    axes = figure.subplots()
    cached = set(chosen.cached_block_ids or ())
    for block in range(total):
        _draw_block(axes, block % columns, block // columns, block, holders.get(block, []), block in cached)
    axes.set_xlim(-0.1, columns + 0.1)
    axes.set_ylim(rows + 0.1, -0.1)
    axes.set_aspect("equal", anchor="NW")
    axes.set_xticks([])
    axes.set_yticks([row + 0.5 for row in range(rows)], [f"block {row * columns}" for row in range(rows)], fontsize=11)
    axes.tick_params(axis="y", length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_title(title)
    figure.legend(handles=keys, loc="outside lower left", ncols=3, fontsize=11, handleheight=1.1)
    return figure


def _draw_block(axes: Axes, x: float, y: float, block: int, holders: Sequence[int], cached: bool) -> None:
    look: dict[str, Any] = {"facecolor": "white", "edgecolor": "#BBBBBB", "linewidth": 0.8}
    label = ""
    if holders:
        look = {"facecolor": _owner_color(holders[0]), "edgecolor": "white"}
        label = str(holders[0]) if len(holders) == 1 else f"{holders[0]}+{len(holders) - 1}"
    elif block == 0:
        look, label = _RESERVED, "×"
    elif cached:
        look = _CACHED
    axes.add_patch(Rectangle((x + 0.05, y + 0.05), 0.9, 0.9, **look))
    if len(holders) > 1:
        axes.add_patch(Rectangle((x + 0.14, y + 0.14), 0.72, 0.72, fill=False, edgecolor=_ink(look), linewidth=1.2))
    axes.text(
        x + 0.5, y + 0.52, label, ha="center", va="center", fontsize=11 if len(label) < 4 else 8, color=_ink(look)
    )


_CACHED: dict[str, Any] = {"facecolor": "white", "edgecolor": GRAY, "hatch": "....", "linewidth": 0.8}
_RESERVED: dict[str, Any] = {"facecolor": "#DDDDDD", "edgecolor": "white"}


def _owner_color(number: int) -> str:
    return PALETTE[(number - 1) % len(PALETTE)]


def _ink(look: Mapping[str, Any]) -> str:
    """Black or white, whichever reads better on this cell."""
    red, green, blue = to_rgb(look["facecolor"])
    return BLACK if 0.3 * red + 0.59 * green + 0.11 * blue > 0.45 else "white"


def _block_keys(
    step: StepTrace, owners: Mapping[str, Sequence[int]], holders: Mapping[int, Sequence[int]]
) -> list[Patch]:
    """The legend: at most 24 requests, then the other kinds of blocks with their numbers."""
    keys = []
    for number, (name, blocks) in enumerate(list(owners.items())[:24], start=1):
        idle = ", idle" if name in step.idle else ""
        label = f"{number}: {_label(name)} ({_count(len(blocks), 'block')}{idle})"
        keys.append(Patch(facecolor=_owner_color(number), label=label))
    if len(owners) > 24:
        keys.append(Patch(facecolor="white", label=f"… and {len(owners) - 24} more requests"))
    shared = sum(len(numbers) > 1 for numbers in holders.values())
    if shared:
        keys.append(Patch(facecolor="white", edgecolor=BLACK, label=f"1+2: shared with two more ({shared})"))
    free: dict[str, Any] = {"facecolor": "white", "edgecolor": "#BBBBBB"}
    if step.cached_block_ids is None and step.kv.cached:
        keys.append(Patch(label=f"cached ({step.kv.cached}) or free ({step.kv.free})", **free))
    else:
        if step.kv.cached:
            keys.append(Patch(label=f"only cached ({step.kv.cached})", **_CACHED))
        keys.append(Patch(label=f"free ({step.kv.free})", **free))
    keys.append(Patch(label="×: block 0, padding", **_RESERVED))
    return keys


def _block_alt(
    step: StepTrace, owners: Mapping[str, Sequence[int]], holders: Mapping[int, Sequence[int]], title: str
) -> str:
    words = [f"{name} holds {_count(len(blocks), 'block')} ({_ranges(blocks)})" for name, blocks in owners.items()]
    shared = [block for block, numbers in holders.items() if len(numbers) > 1]
    words += [f"shared by several: {_ranges(shared)}"] if shared else []
    cached = f" ({_ranges(step.cached_block_ids)})" if step.cached_block_ids else ""
    words.append(f"{step.kv.cached} only cached{cached}, {step.kv.free} free, of {step.kv.total}")
    return f"{title}. {'; '.join(words)}."


def _ranges(blocks: Sequence[int]) -> str:
    """1, 2, 3, 7 as "1–3, 7"."""
    ordered = sorted(blocks)
    runs = groupby(enumerate(ordered), key=lambda pair: pair[1] - pair[0])
    ends = [(run[0][1], run[-1][1]) for run in (list(run) for _, run in runs)]
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in ends)


def _steps(trace: Tracer | Sequence[StepTrace]) -> Sequence[StepTrace]:
    steps = trace if isinstance(trace, Sequence) else trace.steps
    if not steps:
        raise ValueError("The trace has no steps yet; let the engine run first.")
    return steps


def _pick_step(trace: Tracer | Sequence[StepTrace] | StepTrace, step: int | None) -> StepTrace:
    from minillm.engine.trace import StepTrace

    steps = [trace] if isinstance(trace, StepTrace) else _steps(trace)
    if step is None:
        return steps[-1]
    for each in steps:
        if each.step == step:
            return each
    raise ValueError(f"The trace has the steps {steps[0].step} to {steps[-1].step}, but not step {step}.")


# ------------------------------------------------------------------------------------------------- attention


@_styled
def attention_map(weights: Any, tokens: Sequence[str | bytes], title: str = "Which token looks at which") -> LabFigure:
    """A heat map of one head's attention weights; later tokens, which a decoder cannot see, are crossed out.

    Args:
        weights: [num_tokens, num_tokens], row = the token that looks, column = the token it looks at; a
            tensor, an array or lists.
        tokens: text of each token.
        title: of the figure.
    """
    values = _array(weights)
    if values.shape != (len(tokens), len(tokens)):
        raise ValueError(
            f"attention_map needs weights of shape [{len(tokens)}, {len(tokens)}], one row and one column for "
            f"each of the {len(tokens)} tokens, but got {list(values.shape)}; pick one layer and one head first."
        )
    count = len(tokens)
    labels = [_label(token) for token in tokens]
    side = min(10.0, max(4.8, 2.6 + 0.34 * count))
    figure = LabFigure(side + 1.2, side, _attention_alt(values, labels, title))
    axes = figure.subplots()
    hidden = np.triu(np.ones_like(values, dtype=bool), k=1) & (values == 0)
    colors = LinearSegmentedColormap.from_list("lab", ["#FFFFFF", SKY_BLUE, BLUE, "#00263B"])
    image = axes.imshow(np.ma.masked_array(values, hidden), cmap=colors, vmin=0, vmax=max(1e-9, values.max()))
    axes.set_facecolor("#F2F2F2")
    if hidden.any():
        rows, columns = np.nonzero(hidden)
        axes.plot(columns, rows, linestyle="none", marker="x", markersize=max(2, 60 / count), color="#BBBBBB")
    size = max(7, min(13, 300 / count))
    axes.set_xticks(range(count), labels, rotation=90, fontsize=size)
    axes.set_yticks(range(count), labels, fontsize=size)
    axes.grid(False)
    axes.set_xlabel("token that is looked at (key)")
    axes.set_ylabel("token that looks (query)")
    axes.set_title(title)
    figure.colorbar(image, ax=axes, label="attention weight", shrink=0.8)
    return figure


def _attention_alt(values: NDArray[np.float64], labels: Sequence[str], title: str) -> str:
    strongest = [
        f"{labels[row]} looks most at {labels[int(values[row].argmax())]} ({values[row].max():.2f})"
        for row in range(min(len(labels), 12))
    ]
    more = " …" if len(labels) > 12 else ""
    return f"{title}. Heat map of {len(labels)} by {len(labels)} attention weights. {'; '.join(strongest)}{more}."


# --------------------------------------------------------------------------------------------------- helpers


def _array(values: Any) -> NDArray[np.float64]:
    """Numbers from lists, arrays or tensors (also bfloat16, on a GPU, or with a gradient) as float64."""
    if hasattr(values, "detach"):
        values = values.detach().float().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def _check_lengths(first_name: str, first: Sequence[Any], second_name: str, second: Any) -> None:
    if len(first) != len(second):
        raise ValueError(
            f"{first_name} and {second_name} must have the same length, but have {len(first)} and {len(second)}."
        )


def _percent(share: float) -> str:
    if share >= 0.0995 or share == 0:
        return f"{share:.0%}"
    if share >= 0.001:
        return f"{share:.1%}"
    return "<0.1%"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _label(token: str | bytes, width: int = 18) -> str:
    text = _plain(visible(token)) or "(empty)"
    return text if len(text) <= width else text[: width - 1] + "…"


def _plain(text: str) -> str:
    """The text with characters that the figures' font cannot draw as code points instead of empty boxes."""
    runs = groupby(text, key=_has_glyph)
    return "".join(
        "".join(run) if drawable else "<" + " ".join(f"U+{ord(c):04X}" for c in run) + ">" for drawable, run in runs
    )


@lru_cache(maxsize=4096)
def _has_glyph(character: str) -> bool:
    if unicodedata.category(character).startswith("Z"):
        return True
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return bool(font.get_char_index(ord(character)))
