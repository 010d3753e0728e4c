"""Figures of lesson 05: batches over time, pauses between tokens, latency against load, and results with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from minillm.lab.figures import (
    _DASHES,
    _MARKERS,
    BLACK,
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PALETTE,
    SKY_BLUE,
    VERMILION,
    LabFigure,
    _count,
    _plain,
    _styled,
)
from minillm.lab.scoreboard import percentile

__all__ = [
    "BatchSpan",
    "IntervalRow",
    "LoadPoint",
    "Tile",
    "batch_timelines",
    "dashboard",
    "intervals",
    "load_curve",
    "serving_curve",
    "token_gaps",
]

# ------------------------------------------------------------------------------------------------ one curve


@_styled
def serving_curve(
    tokens_per_second: Mapping[int, float], title: str = "Users at once, and how fast each is served"
) -> LabFigure:
    """Two panels over the number of users: tokens per second of all together, and of each of them.

    Args:
        tokens_per_second: of all users together, by their number; the smallest number is what others are compared
            with.
        title: of the figure.
    """
    users = sorted(tokens_per_second)
    total = [tokens_per_second[number] for number in users]
    each = [rate / number for rate, number in zip(total, users, strict=True)]
    words = "; ".join(f"{n}: {t:.3g} in all, {e:.3g} each" for n, t, e in zip(users, total, each, strict=True))
    figure = LabFigure(11, 4.6, f"{title}. Tokens per second by the number of users. {words}.")
    left, right = figure.subplots(1, 2)
    shared = [total[0] / number for number in users]
    linear = [each[0] * number for number in users]
    for axes, values, free, name in ((left, total, linear, "all together"), (right, each, shared, "each user")):
        axes.plot(users, values, color=BLUE, marker="o", label="measured")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(FixedLocator(users))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("users at once")
        axes.set_ylabel("tokens per second")
        axes.set_title(name)
        if axes is left:
            axes.plot(users, free, color=GREEN, linestyle="--", label="if more users cost nothing")
        else:
            axes.plot(users, free, color=VERMILION, linestyle=":", label="if all took turns")
        axes.set_ylim(0, 1.15 * max(values))
        axes.legend(loc="lower right" if axes is left else "upper right", fontsize=11)
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    return figure


# ------------------------------------------------------------------------------------------------ timelines

SpanKind = Literal["waiting", "prefill", "decode", "held"]

_SPANS: dict[str, tuple[str, float, dict[str, Any]]] = {  # in words, height, style
    "waiting": ("waiting", 0.3, {"facecolor": "white", "edgecolor": ORANGE, "hatch": "////"}),
    "prefill": ("reading the prompt", 0.76, {"facecolor": BLUE, "edgecolor": "white"}),
    "decode": ("a token per step", 0.42, {"facecolor": SKY_BLUE, "edgecolor": SKY_BLUE}),
    "held": ("done; its place is kept", 0.3, {"facecolor": "white", "edgecolor": GRAY, "hatch": "...."}),
}


@dataclass(frozen=True)
class BatchSpan:
    """A stretch of a request's time, for `batch_timelines`.

    Attributes:
        label: the request's.
        kind: "waiting", "prefill", "decode", or "held": the request is done and nobody gets its place.
        start, end: in seconds on the panel's clock.
    """

    label: str
    kind: SpanKind
    start: float
    end: float


@_styled
def batch_timelines(
    panels: Mapping[str, Sequence[BatchSpan]], title: str = "The same requests, served in several ways"
) -> LabFigure:
    """A panel per way of serving and in it a lane per request, on one time axis.

    Args:
        panels: the spans by the name of the panel; lanes are in the order in which their labels appear.
        title: of the figure.
    """
    lanes = {name: list(dict.fromkeys(span.label for span in spans)) for name, spans in panels.items()}
    rows = [len(labels) for labels in lanes.values()]
    figure = LabFigure(11, 1.7 + 0.22 * sum(rows) + 0.75 * len(rows), _timelines_alt(panels, title))
    grid = figure.subplots(len(rows), 1, squeeze=False, sharex=True, height_ratios=rows)
    end = max(span.end for spans in panels.values() for span in spans)
    for axes, (name, spans) in zip(grid.flat, panels.items(), strict=True):
        for kind, start, length, lane in _joined(spans, lanes[name]):
            _, height, look = _SPANS[kind]
            axes.barh(lane, length, left=start, height=height, linewidth=0.6, **look)
        last = max(span.end for span in spans if span.kind != "held")
        axes.axvline(last, color=BLACK, linewidth=1.6)
        axes.set_yticks(range(len(lanes[name])), [_plain(label) for label in lanes[name]], fontsize=9)
        axes.set_ylim(len(lanes[name]) - 0.4, -0.6)
        axes.set_xlim(0, end * 1.02)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_title(f"{name}: {last:.3g} s", fontsize=12)
    grid.flat[-1].set_xlabel("time (s)")
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    kinds = {span.kind for spans in panels.values() for span in spans}
    keys: list[Any] = [Patch(label=words, **look) for kind, (words, _, look) in _SPANS.items() if kind in kinds]
    keys.append(Line2D([], [], color=BLACK, linewidth=1.6, label="all done"))
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), columnspacing=1.2, handletextpad=0.5)
    return figure


def _joined(spans: Sequence[BatchSpan], labels: Sequence[str]) -> list[tuple[str, float, float, int]]:
    """(kind, start, length, lane); spans of one kind that follow each other in a lane are one bar, prefills aside."""
    joined: list[tuple[str, float, float, int]] = []
    for lane, label in enumerate(labels):
        begin = len(joined)
        for span in sorted((each for each in spans if each.label == label), key=lambda each: each.start):
            if len(joined) > begin and span.kind != "prefill":
                kind, start, length, _ = joined[-1]
                if kind == span.kind and abs(start + length - span.start) < 1e-6:
                    joined[-1] = (kind, start, span.end - start, lane)
                    continue
            joined.append((span.kind, span.start, span.end - span.start, lane))
    return joined


def _timelines_alt(panels: Mapping[str, Sequence[BatchSpan]], title: str) -> str:
    words = []
    for name, spans in panels.items():
        seconds = dict.fromkeys(_SPANS, 0.0)
        for span in spans:
            seconds[span.kind] += span.end - span.start
        number = len({span.label for span in spans})
        done = max(span.end for span in spans if span.kind != "held")
        text = f"{name}: {_count(number, 'request')} done after {done:.3g} s"
        text += f", together {seconds['waiting']:.3g} s of waiting"
        words.append(text + (f" and {seconds['held']:.3g} s of kept places" if seconds["held"] else ""))
    return f"{title}. {'; '.join(words)}."


# -------------------------------------------------------------------------------------------- between tokens


@_styled
def token_gaps(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    reading: Mapping[str, tuple[float, float]] | None = None,
    objective: float | None = None,
    title: str = "The time from each token to the next",
) -> LabFigure:
    """A dot for every token of every stream: when it came, and how long after the one before it (log axis).

    Args:
        panels: for each panel, the times of each stream's tokens in seconds.
        reading: for each panel, when a long prompt was being read; shaded.
        objective: seconds that a gap may take; a dashed line.
        title: of the figure.
    """
    gaps = {name: [b - a for times in streams.values() for a, b in pairwise(times)] for name, streams in panels.items()}
    words = [
        f"{name}: {_count(len(values), 'gap')}, p50 {_number(percentile(values, 50) * 1000)} ms, "
        f"largest {_number(max(values) * 1000)} ms"
        for name, values in gaps.items()
    ]
    figure = LabFigure(11, 1.4 + 2.7 * len(panels), f"{title}. {'; '.join(words)}.")
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True, sharey=True)
    for axes, (name, streams) in zip(grid.flat, panels.items(), strict=True):
        if reading and name in reading:
            axes.axvspan(*reading[name], color=ORANGE, alpha=0.2, linewidth=0)
        for index, times in enumerate(streams.values()):
            waits = [1000 * (b - a) for a, b in pairwise(times)]
            axes.plot(
                times[1:], waits, linestyle="none", marker=_MARKERS[index % len(_MARKERS)], markersize=5, alpha=0.75,
                color=PALETTE[index % len(PALETTE)], markeredgewidth=0,
            )  # fmt: skip
        if objective is not None:
            axes.axhline(1000 * objective, color=BLACK, linestyle="--", linewidth=1.4)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_ylabel("since the last (ms)", fontsize=11)
        axes.set_title(f"{name}: longest pause {max(gaps[name]):.2g} s", fontsize=12)
    grid.flat[0].set_xlim(left=0)
    grid.flat[-1].set_xlabel("time (s)")
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    keys: list[Any] = [
        Line2D([], [], color=BLUE, marker="o", linestyle="none", label="a token (a mark for each stream)")
    ]
    if reading:
        keys.append(Patch(facecolor=ORANGE, alpha=0.2, label="the long prompt is being read"))
    if objective is not None:
        keys.append(Line2D([], [], color=BLACK, linestyle="--", label="objective"))
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys))
    return figure


# ------------------------------------------------------------------------------------------------------ load


@dataclass(frozen=True)
class LoadPoint:
    """What a server did under one load.

    Attributes:
        load: requests that arrive per second.
        latencies: seconds that each finished request took, from its arrival to its last token.
        goodput: requests per second that kept all objectives.
    """

    load: float
    latencies: Sequence[float]
    goodput: float


@_styled
def load_curve(
    series: Mapping[str, Sequence[LoadPoint]],
    *,
    objective: float | None = None,
    title: str = "Latency and goodput against load",
) -> LabFigure:
    """Above: p50, p95 and p99 of the first series (log axis). Below: the goodput of every series.

    Args:
        series: the points by name, in the order of their loads.
        objective: seconds that a request may take; a dashed line.
        title: of the figure.
    """
    first = next(iter(series))
    words = []
    for name, points in series.items():
        for p in points:
            p50, p99 = percentile(p.latencies, 50), percentile(p.latencies, 99)
            words.append(f"{name} at {p.load:.3g}/s: p50 {p50:.3g} s, p99 {p99:.3g} s, goodput {p.goodput:.3g}/s")
    figure = LabFigure(10, 7.6, f"{title}. {'; '.join(words)}.")
    above, below = figure.subplots(2, 1, sharex=True)
    loads = [point.load for point in series[first]]
    for index, percent in enumerate((50, 95, 99)):
        above.plot(
            loads, [percentile(point.latencies, percent) for point in series[first]],
            color=PALETTE[index], linestyle=_DASHES[index], marker=_MARKERS[index], label=f"p{percent}",
        )  # fmt: skip
    if objective is not None:
        above.axhline(objective, color=BLACK, linestyle=":", linewidth=1.6, label="objective")
    above.set_yscale("log")
    above.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    above.yaxis.set_minor_formatter(NullFormatter())
    above.set_ylabel("time of a request (s)")
    above.set_title(f"how long requests take ({first})", fontsize=12)
    above.legend(loc="upper left", fontsize=11)
    below.plot(loads, loads, color=GRAY, linewidth=1.2, label="all that arrive")
    for index, (name, points) in enumerate(series.items()):
        below.plot(
            [point.load for point in points], [point.goodput for point in points], color=PALETTE[index],
            linestyle=_DASHES[index], marker=_MARKERS[index], label=name,
        )  # fmt: skip
    below.set_ylim(0, 1.3 * max(point.goodput for points in series.values() for point in points))
    below.set_xlim(left=0)
    below.set_xlabel("load (requests that arrive per second)")
    below.set_ylabel("goodput (requests/s)")
    below.set_title("how many of them keep the objective", fontsize=12)
    below.legend(loc="upper left", fontsize=11)
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    return figure


# ------------------------------------------------------------------------------------------------- dashboard


@dataclass(frozen=True)
class Tile:
    """A number on a dashboard, and the most that it may be.

    Attributes:
        name: of what is measured.
        value, limit: in `unit`.
        unit: of both.
    """

    name: str
    value: float
    limit: float
    unit: str = "ms"

    @property
    def is_kept(self) -> bool:
        """Whether the value is within its limit."""
        return self.value <= self.limit


@_styled
def dashboard(rows: Mapping[str, Sequence[Tile]], title: str = "A dashboard") -> LabFigure:
    """Rows of tiles: green with OK where a limit is kept, red and hatched with OVER where it isn't.

    Args:
        rows: the tiles by the name of the row.
        title: of the figure.
    """
    words = [
        f"{name}, {tile.name}: {_number(tile.value)} {tile.unit} of {_number(tile.limit)} "
        f"({'kept' if tile.is_kept else 'over'})"
        for name, tiles in rows.items()
        for tile in tiles
    ]
    columns = max(len(tiles) for tiles in rows.values())
    figure = LabFigure(2.0 + 2.9 * columns, 0.9 + 1.45 * len(rows), f"{title}. {'; '.join(words)}.")
    axes = figure.subplots()
    for row, tiles in enumerate(rows.values()):
        for column, tile in enumerate(tiles):
            _draw_tile(axes, column, row, tile)
    axes.set_xlim(-0.02, columns)
    axes.set_ylim(len(rows), -0.02)
    axes.set_xticks([])
    axes.set_yticks([row + 0.46 for row in range(len(rows))], [_plain(name) for name in rows], fontsize=13)
    axes.tick_params(axis="y", length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    return figure


def _number(value: float) -> str:
    """Three digits, and never an exponent."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _draw_tile(axes: Axes, x: float, y: float, tile: Tile) -> None:
    look: dict[str, Any] = {"facecolor": "#D5EFE6", "edgecolor": GREEN}
    if not tile.is_kept:
        look = {"facecolor": "#FBE3D6", "edgecolor": VERMILION, "linewidth": 3}
    axes.add_patch(Rectangle((x + 0.02, y + 0.04), 0.94, 0.86, **look))
    axes.text(x + 0.06, y + 0.2, _plain(tile.name), fontsize=11, va="center")
    axes.text(x + 0.06, y + 0.5, f"{_number(tile.value)} {tile.unit}", fontsize=17, fontweight="bold", va="center")
    mark = "OK" if tile.is_kept else "OVER"
    axes.text(x + 0.06, y + 0.77, f"{mark}: limit {_number(tile.limit)} {tile.unit}", fontsize=10.5, va="center")


# ------------------------------------------------------------------------------------------------- intervals


@dataclass(frozen=True)
class IntervalRow:
    """A number with its interval of confidence.

    Attributes:
        group: rows of a group share a color and a marker.
        label: what it is.
        value, low, high: the number, and its interval.
    """

    group: str
    label: str
    value: float
    low: float
    high: float


@_styled
def intervals(
    rows: Sequence[IntervalRow], *, reference: float | None = None, reference_label: str = "", xlabel: str, title: str
) -> LabFigure:
    """A dot and a whisker for each number; those with the same label stand together.

    Args:
        rows: from top to bottom.
        reference: where a vertical line is drawn, such as 0 for no difference.
        reference_label: what it says in the legend.
        xlabel: of the axis, with the unit.
        title: of the figure.
    """
    words = "; ".join(f"{r.label} ({r.group}): {r.value:.2f} from {r.low:.2f} to {r.high:.2f}" for r in rows)
    labels, groups = (list(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("label", "group"))
    height = 1.8 + len(labels) * (0.35 + 0.2 * len(groups))
    figure = LabFigure(10, height, f"{title}. With 95 % intervals: {words}.")
    axes = figure.subplots()
    for index, group in enumerate(groups):
        own = [row for row in rows if row.group == group]
        at = [labels.index(row.label) + 0.26 * (index - (len(groups) - 1) / 2) for row in own]
        values = [row.value for row in own]
        # An interval of a ratio needn't contain the value to the last bit.
        errors = [[max(0.0, r.value - r.low) for r in own], [max(0.0, r.high - r.value) for r in own]]
        axes.errorbar(
            values, at, xerr=errors, color=PALETTE[index % len(PALETTE)], marker=_MARKERS[index % len(_MARKERS)],
            markersize=9, linestyle="none", capsize=5, linewidth=2, label=_plain(group),
        )  # fmt: skip
    if reference is not None:
        axes.axvline(reference, color=BLACK, linestyle="--", linewidth=1.4, label=reference_label or None)
    axes.set_yticks(range(len(labels)), [_plain(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(xlabel)
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=4)
    return figure
