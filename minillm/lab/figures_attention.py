"""Figures of lesson 03's lower half: attention's memory, its tiles, and the heads of a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from minillm.lab.figures import (
    _DASHES,
    _MARKERS,
    BLUE,
    GRAY,
    PALETTE,
    SKY_BLUE,
    VERMILION,
    LabFigure,
    _array,
    _label,
    _styled,
    attention_map,
)
from minillm.lab.widgets import Interactive, Slider, interactive

_HEAT = LinearSegmentedColormap.from_list("lab", ["#FFFFFF", SKY_BLUE, BLUE, "#00263B"])


def byte_text(count: float) -> str:
    """A number of bytes with its unit, three digits: 1536 is "1.54 kB", as powers of 1,000."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


@_styled
def memory_curve(
    series: Mapping[str, Mapping[int, float]],
    *,
    computed: Mapping[str, Mapping[int, float]] | None = None,
    lines: Mapping[str, float] | None = None,
    title: str = "Memory of attention against the length of the text",
) -> LabFigure:
    """Peak memory against length, both axes by factors of two and ten.

    Args:
        series: for each way of computing, the measured bytes by number of tokens.
        computed: the same from a formula, drawn hollow and thin: nothing of it was run.
        lines: amounts to compare with, such as a budget, in bytes.
        title: of the figure.
    """
    computed, lines = computed or {}, lines or {}
    figure = LabFigure(9, 5.0, _memory_alt(series, computed, lines, title))
    axes = figure.subplots()
    for index, (name, points) in enumerate(series.items()):
        look: dict[str, Any] = {"color": PALETTE[index % len(PALETTE)], "marker": _MARKERS[index % len(_MARKERS)]}
        axes.plot(list(points), list(points.values()), linestyle=_DASHES[index % len(_DASHES)], label=name, **look)
    for name, points in computed.items():
        axes.plot(
            list(points),
            list(points.values()),
            color=GRAY,
            linestyle=":",
            marker="o",
            markerfacecolor="white",
            linewidth=1.4,
            label=f"{name} (computed)",
        )
    lengths = sorted({n for points in (*series.values(), *computed.values()) for n in points})
    for name, amount in lines.items():
        axes.axhline(amount, color=VERMILION, linewidth=1.4, linestyle="-.")
        axes.annotate(
            f"{name}: {byte_text(amount)}", (lengths[0], amount), xytext=(0, 4), textcoords="offset points", fontsize=11
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(lengths))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: byte_text(value)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("length of the text (tokens)")
    axes.set_ylabel("peak memory (bytes)")
    axes.set_title(title)
    if len(series) + len(computed) > 1:
        figure.legend(loc="outside lower center", ncols=min(3, len(series) + len(computed)))
    return figure


def _memory_alt(
    series: Mapping[str, Mapping[int, float]],
    computed: Mapping[str, Mapping[int, float]],
    lines: Mapping[str, float],
    title: str,
) -> str:
    words = []
    for name, points in (*series.items(), *((f"{name} (computed)", points) for name, points in computed.items())):
        values = ", ".join(f"{byte_text(amount)} at {length:,} tokens" for length, amount in points.items())
        words.append(f"{name}: {values}")
    words += [f"a line marks {name}, {byte_text(amount)}" for name, amount in lines.items()]
    return f"{title}. {'; '.join(words)}."


# ----------------------------------------------------------------------------------------------------- tiles


def tile_explorer(scores: Any, tile: int, title: str = "Attention, tile by tile") -> Interactive:
    """A slider over the tiles of a table of scores, and what is kept beside it: each row's maximum and its sum.

    Args:
        scores: [num_queries, num_keys], one head's, before softmax.
        tile: rows and columns of a tile.
        title: of the figure.
    """
    values = _array(scores)
    count = len(_tiles(values, tile))
    draw = _tile_figure
    return interactive(
        {"step": Slider("Tile", 1, count, 1, min(2, count))},
        lambda step: draw(values, tile, [step], title),
        draw(values, tile, _spread(count, 4), title),
    )


def _tiles(values: NDArray[np.float64], tile: int) -> list[tuple[int, int]]:
    """First row and first column of each tile, in the order in which they are computed."""
    return [(r, c) for r in range(0, values.shape[0], tile) for c in range(0, values.shape[1], tile)]


def _spread(count: int, panels: int) -> list[int]:
    """Some of the steps 1 to count: the first ones, which a reader has to follow, and the last."""
    return list(range(1, count + 1)) if count <= panels else [*range(1, panels), count]


@_styled
def _tile_figure(values: NDArray[np.float64], tile: int, steps: Sequence[int], title: str) -> LabFigure:
    order = _tiles(values, tile)
    figure = LabFigure(10.5, 0.9 + 3.1 * len(steps), _tile_alt(values, tile, steps, title))
    grid = figure.subplots(len(steps), 2, squeeze=False, width_ratios=[1.25, 1])
    for (left, right), step in zip(grid, steps, strict=True):
        row, column = order[step - 1]
        _draw_tiles(left, values, tile, order[:step])
        left.set_title(f"tile {step} of {len(order)}", fontsize=12)
        _draw_running(right, values, row, min(row + tile, len(values)), column + tile)
    grid[-1][0].set_xlabel("key")
    grid[-1][1].set_xlabel("sum of exp(score − maximum)")
    figure.suptitle(title, x=0.02, ha="left", fontsize=14, fontweight="bold")
    return figure


def _draw_tiles(axes: Axes, values: NDArray[np.float64], tile: int, done: Sequence[tuple[int, int]]) -> None:
    shown = np.full(values.shape, np.nan)
    row, column = done[-1]
    shown[row : row + tile, column : column + tile] = values[row : row + tile, column : column + tile]
    axes.imshow(shown, cmap=_HEAT, vmin=values.min(), vmax=values.max(), aspect="auto")
    for r in range(0, values.shape[0], tile):
        for c in range(0, values.shape[1], tile):
            height, width = min(tile, values.shape[0] - r), min(tile, values.shape[1] - c)
            here, gone = (r, c) == done[-1], (r, c) in done[:-1]
            look: dict[str, Any] = {"fill": False, "edgecolor": "#BBBBBB", "linewidth": 0.8}
            if gone:
                look = {"facecolor": "#EEEEEE", "edgecolor": GRAY, "hatch": "//", "linewidth": 0.8}
            if here:
                look = {"fill": False, "edgecolor": VERMILION, "linewidth": 3}
            axes.add_patch(Rectangle((c - 0.5, r - 0.5), width, height, zorder=3 if here else 2, **look))
    axes.set_xlim(-0.5, values.shape[1] - 0.5)
    axes.set_ylim(values.shape[0] - 0.5, -0.5)
    axes.set_xticks(range(0, values.shape[1], tile))
    axes.set_yticks(range(0, values.shape[0], tile))
    axes.grid(False)
    axes.set_ylabel("query")


def _draw_running(axes: Axes, values: NDArray[np.float64], first: int, last: int, end: int) -> None:
    """A bar for each row of the tile: its sum so far, and as a hollow one what it comes to in the end."""
    rows = range(first, last)
    for row in rows:
        sofar, total = _running(values[row, :end]), _running(values[row])
        axes.barh(row, total[1], facecolor="none", edgecolor=GRAY, linestyle="--", height=0.72)
        axes.barh(row, sofar[1], color=BLUE, height=0.72)
        axes.annotate(
            f"max {sofar[0]:.1f}", (max(sofar[1], total[1]), row), xytext=(4, 0), textcoords="offset points",
            va="center", fontsize=10,
        )  # fmt: skip
    largest = max(max(_running(values[row, :stop])[1] for stop in (end, None)) for row in rows)
    axes.set_xlim(0, 1.35 * largest)
    axes.set_ylim(last - 0.4, first - 0.6)
    axes.set_yticks(list(rows), [f"row {row}" for row in rows], fontsize=10)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    axes.set_title("kept for the tile's rows (dashed: in the end)", fontsize=12)


def _running(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Maximum, and the sum of exp(score - maximum)."""
    best = float(scores.max())
    return best, float(np.exp(scores - best).sum())


def _tile_alt(values: NDArray[np.float64], tile: int, steps: Sequence[int], title: str) -> str:
    order = _tiles(values, tile)
    words = []
    for step in steps:
        row, column = order[step - 1]
        best, total = _running(values[row, : column + tile])
        words.append(
            f"step {step} of {len(order)} computes queries from {row} against keys from {column}, "
            f"after which row {row} keeps maximum {best:.1f} and sum {total:.2f}"
        )
    shape = f"{values.shape[0]} by {values.shape[1]} scores in tiles of {tile} by {tile}"
    return f"{title}. {shape}: {'; '.join(words)}. Earlier tiles are gone."


# ----------------------------------------------------------------------------------------------------- heads


@_styled
def head_grid(
    weights: Sequence[Any], tokens: Sequence[str | bytes], names: Sequence[str], title: str = "What heads look at"
) -> LabFigure:
    """Small heat maps side by side: the same text seen by several heads.

    Args:
        weights: one [num_tokens, num_tokens] for each head, row = the token that looks.
        tokens: text of each token.
        names: of the heads, as titles.
        title: of the figure.
    """
    labels = [_label(token, 12) for token in tokens]
    columns = min(3, len(weights))
    rows = math.ceil(len(weights) / columns)
    side = min(4.6, 2.2 + 0.16 * len(labels))
    maps = [_array(one) for one in weights]
    figure = LabFigure(1.2 + side * columns, 1.9 + (side + 0.5) * rows, _heads_alt(maps, labels, names, title))
    figure.set_layout_engine("compressed")  # squares leave room that the usual engine would keep
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, values, name in zip(grid.flat, maps, names, strict=False):
        axes.imshow(values, cmap=_HEAT, vmin=0, vmax=values.max(), aspect="equal")
        axes.set_xticks(range(len(labels)), labels, rotation=90, fontsize=max(7, min(11, 150 / len(labels))))
        axes.set_yticks(range(len(labels)), labels, fontsize=max(7, min(11, 150 / len(labels))))
        axes.grid(False)
        axes.set_title(name, fontsize=12)
    for axes in list(grid.flat)[len(maps) :]:
        axes.set_visible(False)
    figure.suptitle(title, x=0.02, ha="left", fontsize=14, fontweight="bold")
    return figure


def _heads_alt(maps: Sequence[NDArray[np.float64]], labels: Sequence[str], names: Sequence[str], title: str) -> str:
    words = []
    for values, name in zip(maps, names, strict=True):
        before, after = np.diagonal(values, -1).mean(), np.diagonal(values, 1).mean()
        favorite = int(values.mean(0).argmax())
        words.append(
            f"{' '.join(name.split())}: on average {before:.0%} of the attention goes to the token before, {after:.0%} "
            f"to the token after; {labels[favorite]} gets the most, {values[:, favorite].mean():.0%}"
        )
    return f"{title}. Heat maps of {len(labels)} by {len(labels)} attention weights. {'; '.join(words)}."


def head_explorer(
    weights: Any,
    tokens: Sequence[str | bytes],
    shown: Sequence[tuple[int, int, str]],
    title: str = "What heads look at",
) -> Interactive:
    """Sliders for layer and head above a head's map; in print, the heads of `shown` side by side.

    Args:
        weights: [num_layers, num_heads, num_tokens, num_tokens].
        tokens: text of each token.
        shown: layer, head and a few words on it, for the static form; the first is where the sliders start.
        title: of the static form.
    """
    layers, heads = len(weights), len(weights[0])
    layer, head, _ = shown[0]
    return interactive(
        {"layer": Slider("Layer", 0, layers - 1, 1, layer), "head": Slider("Head", 0, heads - 1, 1, head)},
        lambda layer, head: attention_map(weights[layer][head], tokens, f"Layer {layer}, head {head}"),
        head_grid(
            [weights[layer][head] for layer, head, _ in shown],
            tokens,
            [f"layer {layer}, head {head}:\n{words}" for layer, head, words in shown],
            title,
        ),
    )
