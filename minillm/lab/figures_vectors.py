"""Figures of lesson 03's upper half: a map of meaning, and what compressed vectors still find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter
from numpy.typing import NDArray

from minillm.lab.display import Html
from minillm.lab.figures import (
    _DASHES,
    _MARKERS,
    PALETTE,
    LabFigure,
    _array,
    _check_lengths,
    _plain,
    _styled,
)
from minillm.lab.widgets import Choice, Interactive, interactive

ALL_GROUPS = "all"

_WIDTH, _HEIGHT, _MARGIN = 860, 560, 24  # of the map that one can hover over, in pixels
_MAX_LABEL = 72  # characters, which fit beside any point
_SHAPES = {  # drawn around (0, 0), so that groups differ in shape as well as in color
    "o": '<circle r="5"/>',
    "s": '<rect x="-4.5" y="-4.5" width="9" height="9"/>',
    "^": '<path d="M0-6 6 5H-6Z"/>',
    "D": '<path d="M0-6.5 6.5 0 0 6.5-6.5 0Z"/>',
    "v": '<path d="M0 6 6-5H-6Z"/>',
    "P": '<path d="M-2-6h4v4h4v4h-4v4h-4v-4h-4v-4h4Z"/>',
    "X": '<path d="M-5-3-3-5 0-2 3-5 5-3 2 0 5 3 3 5 0 2-3 5-5 3-2 0Z"/>',
}


def meaning_map(
    points: Any, groups: Sequence[str], labels: Sequence[str], title: str = "A map of meaning"
) -> Interactive:
    """Texts as points in the plane. In a live notebook, pointing at one shows its label, and a list picks a group.

    Args:
        points: [num_texts, 2].
        groups: of each text, up to seven different ones; each has its color and its shape.
        labels: of each text, shown when one points at it.
        title: of the figure.
    """
    where = _array(points)
    _check_lengths("groups", groups, "points", where)
    _check_lengths("labels", labels, "points", where)
    names = list(dict.fromkeys(groups))
    if len(names) > len(PALETTE):
        raise ValueError(f"meaning_map tells up to {len(PALETTE)} groups apart, and there are {len(names)}.")
    return interactive(
        {"group": Choice("Show", [ALL_GROUPS, *names], ALL_GROUPS)},
        lambda group: _hover_map(where, groups, labels, title, group),
        _static_map(where, groups, labels, title),
    )


@_styled
def _static_map(points: NDArray[np.float64], groups: Sequence[str], labels: Sequence[str], title: str) -> LabFigure:
    names = list(dict.fromkeys(groups))
    figure = LabFigure(10, 6.6, _map_alt(points, groups, title))
    axes = figure.subplots()
    for index, name in enumerate(names):
        own = [i for i, group in enumerate(groups) if group == name]
        color = PALETTE[index]
        axes.scatter(
            points[own, 0], points[own, 1], s=34, color=color, marker=_MARKERS[index], alpha=0.75, linewidths=0
        )
        # The text that is farthest out in its group's direction has the room for a label.
        center = points[own].mean(0)
        far = max(own, key=lambda i: float(points[i] @ (center - points.mean(0))))
        axes.annotate(
            _plain(labels[far]).split(":")[0], points[far], xytext=(0, 8), textcoords="offset points",
            ha="center", fontsize=10, bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1},
        )  # fmt: skip
    axes.margins(0.12)
    axes.set_xlabel("first direction")
    axes.set_ylabel("second direction")
    axes.set_title(title)
    keys = [
        Line2D([], [], color=PALETTE[i], marker=_MARKERS[i], linestyle="none", label=_plain(name))
        for i, name in enumerate(names)
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=min(4, len(keys)))
    return figure


def _map_alt(points: NDArray[np.float64], groups: Sequence[str], title: str) -> str:
    words = []
    for name in dict.fromkeys(groups):
        own = points[[i for i, group in enumerate(groups) if group == name]]
        x, y = own.mean(0)
        words.append(f"{name} around ({x:.2f}, {y:.2f}), {len(own)} texts")
    return f"{title}. {len(points)} texts as points: {'; '.join(words)}."


def _hover_map(
    points: NDArray[np.float64], groups: Sequence[str], labels: Sequence[str], title: str, chosen: str
) -> Html:
    """The map as SVG in the page; a label is drawn while the pointer is on its point. Needs no script."""
    names = list(dict.fromkeys(groups))
    low, high = points.min(0), points.max(0)
    scale = (np.array([_WIDTH, _HEIGHT]) - 2 * _MARGIN) / np.maximum(high - low, 1e-9)
    spots = []
    for point, group, label in zip(points, groups, labels, strict=True):
        x, y = (point - low) * scale + _MARGIN
        y = _HEIGHT - y
        faded = chosen not in (ALL_GROUPS, group)
        anchor = "end" if x > _WIDTH * 0.6 else "start"
        offset = -9 if anchor == "end" else 9
        index = names.index(group)
        spots.append(
            f'<g class="spot" transform="translate({x:.0f},{y:.0f})" fill="{PALETTE[index]}" '
            f'fill-opacity="{0.12 if faded else 0.8}">{_SHAPES[_MARKERS[index]]}'
            f'<text x="{offset}" y="-7" text-anchor="{anchor}">{escape(_shortened(label))}</text></g>'
        )
    legend = "".join(
        f'<span style="margin-right:1.2em"><svg width="14" height="14" viewBox="-7 -7 14 14" fill="{PALETTE[i]}">'
        f"{_SHAPES[_MARKERS[i]]}</svg> {escape(name)}</span>"
        for i, name in enumerate(names)
    )
    # Points that come later are painted over a label, so its letters have a wide white edge.
    css = (
        ".spot text{display:none;font:13px sans-serif;fill:#000;fill-opacity:1;paint-order:stroke;stroke:#fff;"
        "stroke-width:5px}.spot:hover text{display:block}.spot:hover{fill-opacity:1;stroke:#000}"
    )
    html = (
        f'<div style="background:white;color:black;max-width:{_WIDTH}px"><strong>{escape(title)}</strong>'
        f'<svg role="img" aria-label="{escape(_map_alt(points, groups, title))}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="100%"><style>{css}</style>{"".join(spots)}</svg><div>{legend}</div></div>'
    )
    return Html(html, _map_alt(points, groups, title))


def _shortened(label: str) -> str:
    return label if len(label) <= _MAX_LABEL else label[: _MAX_LABEL - 1] + "…"


# ---------------------------------------------------------------------------------------------------- recall


@dataclass(frozen=True)
class RecallPoint:
    """One way to keep vectors.

    Attributes:
        family: points of a family are joined by a line.
        label: of the point.
        bytes: of a vector.
        recall: between 0 and 1.
    """

    family: str
    label: str
    bytes: float
    recall: float


@_styled
def recall_curve(
    points: Sequence[RecallPoint],
    title: str = "What is found, against the bytes of a vector",
    recall: str = "recall@10",
) -> LabFigure:
    """Recall against bytes per vector, the bytes by factors of two.

    Args:
        points: in any order.
        title: of the figure.
    """
    words = "; ".join(f"{p.family}, {p.label}: {p.bytes:,.0f} bytes, {p.recall:.0%}" for p in points)
    figure = LabFigure(9, 5.2, f"{title}. recall@10: {words}.")
    axes = figure.subplots()
    for index, family in enumerate(dict.fromkeys(point.family for point in points)):
        own = sorted((point for point in points if point.family == family), key=lambda point: point.bytes)
        axes.plot(
            [point.bytes for point in own],
            [point.recall for point in own],
            color=PALETTE[index % len(PALETTE)],
            linestyle=_DASHES[index % len(_DASHES)],
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=9,
            label=family,
        )
        for point in own:
            axes.annotate(
                point.label,
                (point.bytes, point.recall),
                xytext=(0, -17 if index % 2 else 10),
                textcoords="offset points",
                ha="center",
                fontsize=10,
            )
    sizes = sorted({point.bytes for point in points})
    axes.set_xscale("log", base=2)
    ticks = 2.0 ** np.arange(np.floor(np.log2(sizes[0])), np.ceil(np.log2(sizes[-1])) + 1)
    axes.xaxis.set_major_locator(FixedLocator(ticks.tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=0))
    axes.set_ylim(0, 1.08)
    axes.margins(x=0.08)
    axes.set_xlabel("bytes per vector")
    axes.set_ylabel("recall@10")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=min(4, len({point.family for point in points})))
    return figure
