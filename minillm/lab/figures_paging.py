"""Figures of lesson 04: who holds which memory, whose blocks are shared, what a search finds, and what a hit saves."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.patches import Patch, Polygon, Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter

from minillm.lab.figures import (
    _CACHED,
    _RESERVED,
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PALETTE,
    PURPLE,
    SKY_BLUE,
    VERMILION,
    LabFigure,
    _block_alt,
    _count,
    _draw_block,
    _pick_step,
    _plain,
    _styled,
    block_map,
)
from minillm.lab.widgets import Interactive, Slider, interactive

if TYPE_CHECKING:
    from minillm.engine.trace import StepTrace

__all__ = [
    "PoolSpan",
    "PrefixRequest",
    "block_explorer",
    "block_tables_chart",
    "memory_shares",
    "pool_timeline",
    "prefix_bars",
    "search_bars",
]

# ------------------------------------------------------------------------------------------------------ pool


@dataclass(frozen=True)
class PoolSpan:
    """A stretch of a pool that a request held for some steps, for `pool_timeline`.

    Attributes:
        name: whose it was.
        begin, end: the first step in which it was held, and the first in which it wasn't any more.
        address: where it began, in tokens.
        reserved: its length, in tokens.
        used_first, used_last: tokens in it after the first step and at the end; it fills steadily between.
    """

    name: str
    begin: int
    end: int
    address: int
    reserved: int
    used_first: int
    used_last: int


@_styled
def pool_timeline(
    spans: Sequence[PoolSpan],
    size: int,
    *,
    blocked: Sequence[int] = (),
    title: str = "Who holds which part of the memory",
) -> LabFigure:
    """Memory upward, time across: a rectangle for what each request held, colored as far as it was filled.

    Args:
        spans: what was held.
        size: of the pool, in tokens.
        blocked: the steps in which a request had to wait although as many tokens as it needed were free.
        title: of the figure.
    """
    last = max((span.end for span in spans), default=1)
    held = sum(span.reserved * (span.end - span.begin) for span in spans)
    filled = sum((span.used_first + span.used_last) / 2 * (span.end - span.begin) for span in spans)
    share = f"; of what was held, {filled / held:.0%} was filled" if held else ""
    words = f"{_count(len(spans), 'request')} in {size:,} tokens over {_count(last, 'step')}{share}"
    if blocked:
        words += f"; in {_count(len(blocked), 'step')} a request waited although enough was free in pieces"
    figure = LabFigure(10, 5.6, f"{title}. {words}.")
    axes = figure.subplots()
    for number, span in enumerate(spans):
        corner, width = (span.begin, span.address), span.end - span.begin
        axes.add_patch(
            Rectangle(corner, width, span.reserved, facecolor="white", edgecolor=ORANGE, hatch="///", linewidth=0.6)
        )
        floor = span.address
        corners = [
            (span.begin, floor), (span.end, floor), (span.end, floor + span.used_last),
            (span.begin, floor + span.used_first),
        ]  # fmt: skip
        color = (BLUE, GREEN, SKY_BLUE, PURPLE)[number % 4]
        axes.add_patch(Polygon(corners, closed=True, facecolor=color, edgecolor="white", linewidth=0.6))
    for step in blocked:
        axes.add_patch(Rectangle((step, size * 1.02), 1, size * 0.03, color=VERMILION))
    axes.set_xlim(0, last)
    axes.set_ylim(0, size * 1.06)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("step (one token for each request that runs)")
    axes.set_ylabel("address in the pool (tokens)")
    axes.set_title(title)
    keys = [
        Patch(facecolor=BLUE, label="filled (neighbors in other colors)"),
        Patch(facecolor="white", edgecolor=ORANGE, hatch="///", label="reserved, not filled"),
        Patch(facecolor="white", edgecolor="#BBBBBB", label="free"),
    ]
    if blocked:
        keys.append(Patch(facecolor=VERMILION, label="waits, though enough is free"))
    figure.legend(handles=keys, loc="outside lower center", ncols=2)
    return figure


_SHARES: tuple[dict[str, Any], ...] = (
    {"facecolor": BLUE, "edgecolor": "white"},
    {"facecolor": "white", "edgecolor": ORANGE, "hatch": "///"},
    {"facecolor": "white", "edgecolor": VERMILION, "hatch": "xxx"},
    {"facecolor": "#DDDDDD", "edgecolor": GRAY, "hatch": "..."},
)


@_styled
def memory_shares(rows: Mapping[str, Mapping[str, float]], title: str = "What the memory was used for") -> LabFigure:
    """A bar of 100 percent for each way to keep memory, cut into what the memory was used for.

    Args:
        rows: for each way, amounts by use; all rows have the same uses, at most four, in the same order.
        title: of the figure.
    """
    uses = list(next(iter(rows.values()), {}))
    if any(list(parts) != uses for parts in rows.values()) or len(uses) > len(_SHARES):
        raise ValueError(f"The rows' uses differ, or are more than {len(_SHARES)}; the first row has {uses}.")
    shares = {name: [part / sum(parts.values()) for part in parts.values()] for name, parts in rows.items()}
    words = [
        f"{name}: " + ", ".join(f"{use} {value:.0%}" for use, value in zip(uses, values, strict=True))
        for name, values in shares.items()
    ]
    figure = LabFigure(10, 2.0 + 0.95 * len(rows), f"{title}. {'; '.join(words)}.")
    axes = figure.subplots()
    for row, values in enumerate(shares.values()):
        left = 0.0
        for value, look in zip(values, _SHARES, strict=False):
            axes.barh(row, value, left=left, height=0.6, linewidth=0.8, **look)
            if value > 0.05:
                box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
                axes.text(left + value / 2, row, f"{value:.0%}", ha="center", va="center", fontsize=11, bbox=box)
            left += value
    axes.set_yticks(range(len(shares)), [_plain(name) for name in shares])
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of the pool, on average while somebody waits")
    axes.set_title(title)
    keys = [Patch(label=use, **look) for use, look in zip(uses, _SHARES, strict=False)]
    figure.legend(handles=keys, loc="outside lower center", ncols=2)
    return figure


# ---------------------------------------------------------------------------------------------------- blocks


@_styled
def block_tables_chart(tables: Mapping[str, Sequence[int]], title: str = "Block tables") -> LabFigure:
    """A row for each request: the numbers of its blocks, in the order of its text; those of several are filled.

    Args:
        tables: for each request, its blocks.
        title: of the figure.
    """
    users = Counter(block for blocks in tables.values() for block in set(blocks))
    longest = max((len(blocks) for blocks in tables.values()), default=1)
    named, distinct = sum(map(len, tables.values())), len(users)
    several = sum(count > 1 for count in users.values())
    words = f"{_count(len(tables), 'request')} name {_count(named, 'block')}, {distinct} different; "
    words += f"{several} of those are in several tables" if several else "no block is in two tables"
    figure = LabFigure(max(6.5, 2.2 + 0.36 * longest), 1.7 + 0.32 * len(tables), f"{title}. {words}.")
    axes = figure.subplots()
    for row, blocks in enumerate(tables.values()):
        for column, block in enumerate(blocks):
            shared = users[block] > 1
            look: dict[str, Any] = {"facecolor": BLUE if shared else "white"}
            look["edgecolor"] = "white" if shared else "#999999"
            axes.add_patch(Rectangle((column + 0.05, row - 0.42), 0.9, 0.84, linewidth=0.8, **look))
            ink = "white" if shared else "black"
            axes.text(column + 0.5, row + 0.02, str(block), ha="center", va="center", fontsize=8, color=ink)
    axes.set_xlim(-0.2, longest + 0.2)
    axes.set_ylim(len(tables) - 0.4, -0.6)
    axes.set_yticks(range(len(tables)), [_plain(name) for name in tables], fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.grid(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("place in the request's block table")
    axes.set_title(title)
    keys = [
        Patch(facecolor=BLUE, label=f"in several tables ({several})"),
        Patch(facecolor="white", edgecolor="#999999", label=f"in one table ({distinct - several})"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=2)
    return figure


def block_explorer(trace: Sequence[StepTrace], shown: Sequence[int], title: str = "The pool's blocks") -> Interactive:
    """A slider over the steps of a trace above the map of its blocks; in print, the maps of the steps in `shown`.

    Args:
        trace: consecutive steps, from a tracer with `cached_blocks=True`.
        shown: which of the steps (by their numbers) the static form has; the slider begins at the first.
        title: of the figures.
    """
    first, last = trace[0].step, trace[-1].step
    return interactive(
        {"step": Slider("Step", first, last, 1, shown[0])},
        lambda step: block_map(trace, title, step=step),
        _block_maps([_pick_step(trace, step) for step in shown], title),
    )


@_styled
def _block_maps(steps: Sequence[StepTrace], title: str) -> LabFigure:
    """The maps of several steps side by side; a request has the same number and color in all of them."""
    names = {name: None for step in steps for name in (*(item.request_id for item in step.scheduled), *step.idle)}
    numbers = {name: number for number, name in enumerate(names, start=1)}
    total = steps[0].kv.total + 1
    columns = 16
    rows = math.ceil(total / columns)
    across = min(2, len(steps))
    down = math.ceil(len(steps) / across)
    words, maps = [], []
    for step in steps:
        holders: dict[int, list[int]] = {}
        owners = {item.request_id: item.block_ids for item in step.scheduled} | step.idle
        for name, blocks in owners.items():
            for block in blocks:
                holders.setdefault(block, []).append(numbers[name])
        maps.append(holders)
        words.append(_block_alt(step, owners, holders, f"Step {step.step}").rstrip("."))
    figure = LabFigure(0.6 + 5.2 * across, 1.3 + (0.65 + 0.31 * rows) * down, f"{title}. {'; '.join(words)}.")
    grid = figure.subplots(down, across, squeeze=False)
    for axes, step, holders in zip(grid.flat, steps, maps, strict=False):
        cached = set(step.cached_block_ids or ())
        for block in range(total):
            _draw_block(axes, block % columns, block // columns, block, holders.get(block, []), block in cached)
        for text in axes.texts:
            text.set_fontsize(8 if len(text.get_text()) < 3 else 6)
        axes.set_xlim(-0.1, columns + 0.1)
        axes.set_ylim(rows + 0.1, -0.1)
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        axes.spines[:].set_visible(False)
        about = f"{step.kv.referenced} held, {step.kv.cached} only cached, {step.kv.free} free"
        axes.set_title(f"step {step.step}: {about}", fontsize=11)
    for axes in list(grid.flat)[len(steps) :]:
        axes.set_visible(False)
    figure.suptitle(title, x=0.02, ha="left", fontsize=14, fontweight="bold")
    keys = [
        Patch(facecolor=PALETTE[0], label="number: the request that holds it (3+1: one more)"),
        Patch(label="only cached", **_CACHED),
        Patch(facecolor="white", edgecolor="#BBBBBB", label="free"),
        Patch(label="×: block 0, padding", **_RESERVED),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=2, fontsize=11)
    return figure


# ---------------------------------------------------------------------------------------------------- search


@_styled
def search_bars(
    rows: Mapping[str, Mapping[str, float]], title: str = "What each search finds", *, xlabel: str = "recall@5"
) -> LabFigure:
    """Bars from 0 to 1, grouped by row: the same measure for several ways to search.

    Args:
        rows: for each group of questions, the measure by way; all groups have the same ways.
        title: of the figure.
        xlabel: what is measured.
    """
    ways = list(next(iter(rows.values()), {}))
    words = [f"{name}: " + ", ".join(f"{way} {parts[way]:.2f}" for way in ways) for name, parts in rows.items()]
    height = 0.8 / max(1, len(ways))
    figure = LabFigure(9, 1.8 + 0.30 * (len(ways) + 0.8) * len(rows), f"{title} ({xlabel}). {'; '.join(words)}.")
    axes = figure.subplots()
    hatches = ("", "///", "...", "xxx")
    for index, way in enumerate(ways):
        places = [row - 0.4 + height * (index + 0.5) for row in range(len(rows))]
        values = [parts[way] for parts in rows.values()]
        look = {"facecolor": PALETTE[index], "edgecolor": "white", "hatch": hatches[index % len(hatches)]}
        axes.barh(places, values, height=height, label=way, linewidth=0.6, **look)  # type: ignore[arg-type]
        for place, value in zip(places, values, strict=True):
            axes.text(value + 0.01, place, f"{value:.2f}", va="center", fontsize=10)
    axes.set_yticks(range(len(rows)), [_plain(name) for name in rows])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xlim(0, 1.1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(xlabel)
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=len(ways))
    return figure


# ------------------------------------------------------------------------------------------------------ hits


@dataclass(frozen=True)
class PrefixRequest:
    """A request for `prefix_bars`: its prompt's tokens, those of them that were cached, the wait for the first token.

    Attributes:
        label: what to call it.
        num_tokens: of the prompt.
        num_cached: those that came from the prefix cache.
        seconds: to the first token.
    """

    label: str
    num_tokens: int
    num_cached: int
    seconds: float


@_styled
def prefix_bars(groups: Mapping[str, Sequence[PrefixRequest]], title: str = "What the prefix cache saves") -> LabFigure:
    """For each request two bars: its prompt's tokens, cached or computed, and the time to its first token.

    Args:
        groups: requests by group, in order; each group gets a row of panels.
        title: of the figure.
    """
    words = []
    for name, requests in groups.items():
        told = ", ".join(
            f"{each.label}: {each.num_cached} of {each.num_tokens} tokens cached, {1000 * each.seconds:.0f} ms"
            for each in requests
        )
        words.append(f"{name}: {told}")
    rows = [len(requests) for requests in groups.values()]
    figure = LabFigure(10.5, 1.6 + 0.37 * sum(rows) + 0.75 * len(rows), f"{title}. {'; '.join(words)}.")
    grid = figure.subplots(len(rows), 2, squeeze=False, sharex="col", sharey="row", height_ratios=rows)
    for (left, right), (name, requests) in zip(grid, groups.items(), strict=True):
        _draw_prefixes(left, right, requests)
        left.set_title(name, fontsize=12)
    grid[-1][0].set_xlabel("tokens of the prompt")
    grid[-1][1].set_xlabel("time to first token (ms)")
    figure.suptitle(title, x=0.02, ha="left", fontsize=14, fontweight="bold")
    keys = [
        Patch(facecolor=ORANGE, label="computed"),
        Patch(facecolor="white", edgecolor=GRAY, hatch="....", label="from the prefix cache"),
        Patch(facecolor=BLUE, label="time to first token"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=3)
    return figure


def _draw_prefixes(left: Axes, right: Axes, requests: Sequence[PrefixRequest]) -> None:
    places = range(len(requests))
    cached = [each.num_cached for each in requests]
    left.barh(places, cached, height=0.66, facecolor="white", edgecolor=GRAY, hatch="....", linewidth=0.8)
    computed = [each.num_tokens - each.num_cached for each in requests]
    left.barh(places, computed, left=cached, height=0.66, color=ORANGE)
    right.barh(places, [1000 * each.seconds for each in requests], height=0.66, color=BLUE)
    left.set_yticks(places, [_plain(each.label) for each in requests], fontsize=10)
    left.set_ylim(len(requests) - 0.45, -0.55)
    for axes in (left, right):
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
