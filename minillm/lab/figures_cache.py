"""Figures about serving and the KV cache: latencies, the roofline, and memory that is reserved or used."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from minillm.lab.figures import (
    _DASHES,
    _MARKERS,
    BLACK,
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PALETTE,
    VERMILION,
    LabFigure,
    _count,
    _plain,
    _styled,
)
from minillm.lab.scoreboard import percentile
from minillm.lab.widgets import Choice, Control, Interactive, Slider, interactive

if TYPE_CHECKING:
    from minillm.models.config import ModelConfig

__all__ = [
    "BYTES_PER_NUMBER",
    "MemorySegment",
    "RooflinePoint",
    "kv_calculator",
    "latency_strips",
    "memory_strips",
    "num_parameters",
    "roofline",
    "scaling_lines",
    "users_that_fit",
]

# ------------------------------------------------------------------------------------------------- latencies


@_styled
def scaling_lines(
    series: Mapping[str, Sequence[tuple[int, float]]],
    title: str,
    *,
    xlabel: str = "tokens in the text",
    ylabel: str = "time (ms)",
) -> LabFigure:
    """Lines of something that was measured at several sizes, with a marker at each.

    Args:
        series: for each name, pairs of size and what was measured there, in the order of the sizes.
        title: of the figure.
        xlabel, ylabel: with units.
    """
    words = [
        f"{name}: {points[0][1]:.3g} at {points[0][0]:,}, {points[-1][1]:.3g} at {points[-1][0]:,}"
        for name, points in series.items()
        if points
    ]
    figure = LabFigure(9, 4.6, f"{title}. Across: {xlabel}; up: {ylabel}. {'; '.join(words)}.")
    axes = figure.subplots()
    for index, (name, points) in enumerate(series.items()):
        axes.plot(
            *zip(*points, strict=True),
            color=PALETTE[index % len(PALETTE)],
            linestyle=_DASHES[index % len(_DASHES)],
            marker=_MARKERS[index % len(_MARKERS)],
            label=name,
        )
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.set_title(title)
    if len(series) > 1:
        figure.legend(loc="outside lower center", ncols=min(3, len(series)))
    return figure


@_styled
def latency_strips(
    panels: Mapping[str, Mapping[str, Sequence[float]]], title: str = "Every wait, and what sums it up"
) -> LabFigure:
    """Distributions of waits: a dot for each, and above the dots their mean, p50 and p95.

    Args:
        panels: for each quantity, the seconds that were measured, by group. Each quantity has an axis of its own.
        title: of the figure.
    """
    words = [
        f"{name}, {group}: mean {_ms(statistics.fmean(waits))}, p50 {_ms(percentile(waits, 50))}, "
        f"p95 {_ms(percentile(waits, 95))}, largest {_ms(max(waits))}"
        for name, groups in panels.items()
        for group, waits in groups.items()
    ]
    rows = [len(groups) for groups in panels.values()]
    figure = LabFigure(9, 1.6 + 0.95 * sum(rows) + 0.5 * len(rows), f"{title}. {'; '.join(words)}.")
    grid = figure.subplots(len(rows), 1, squeeze=False, height_ratios=rows)
    for axes, (name, groups) in zip(grid.flat, panels.items(), strict=True):
        for row, waits in enumerate(groups.values()):
            _draw_strip(axes, row, [1000 * wait for wait in waits])
        axes.set_yticks(range(len(groups)), [_plain(group) for group in groups])
        axes.set_ylim(len(groups) - 0.45, -0.65)
        axes.set_xlim(0, 1050 * max(max(waits) for waits in groups.values()))
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"{name} (ms)")
    figure.suptitle(title, x=0.01, ha="left", fontsize=14, fontweight="bold")
    keys = [
        Line2D([], [], color=BLUE, marker="o", linestyle="none", alpha=0.5, label="one wait"),
        Line2D([], [], color=VERMILION, marker="D", linestyle="none", label="mean"),
        Line2D([], [], color=BLACK, marker="|", markersize=13, markeredgewidth=2.4, linestyle="none", label="p50"),
        Line2D([], [], color=BLACK, marker=">", linestyle="none", label="p95"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=4)
    return figure


def _draw_strip(axes: Axes, row: int, waits: Sequence[float]) -> None:
    """One group: the dots a little apart from each other, their sums above them."""
    offsets = [row + 0.22 + 0.09 * (index % 3 - 1) for index in range(len(waits))]
    axes.plot(waits, offsets, linestyle="none", marker="o", markersize=6, color=BLUE, alpha=0.5, markeredgewidth=0)
    height = row - 0.18
    p50, p95 = percentile(waits, 50), percentile(waits, 95)
    axes.plot([p50, p95], [height, height], color=GRAY, linewidth=1.2)
    axes.plot(p50, height, marker="|", markersize=17, markeredgewidth=2.6, color=BLACK)
    axes.plot(p95, height, marker=">", markersize=8, color=BLACK)
    axes.plot(statistics.fmean(waits), height, marker="D", markersize=8, color=VERMILION)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"


# -------------------------------------------------------------------------------------------------- roofline


@dataclass(frozen=True)
class RooflinePoint:
    """Something that was measured, for `roofline`.

    Attributes:
        kind: what it is; points of one kind share a color, a marker and a line.
        label: what sets it apart within its kind, such as the batch size.
        flops: floating-point operations that it took.
        num_bytes: bytes that it read and wrote.
        seconds: how long it took.
    """

    kind: str
    label: str
    flops: float
    num_bytes: float
    seconds: float

    @property
    def intensity(self) -> float:
        """Floating-point operations per byte."""
        return self.flops / self.num_bytes

    @property
    def flops_per_second(self) -> float:
        """What was reached."""
        return self.flops / self.seconds


@_styled
def roofline(
    points: Sequence[RooflinePoint], *, bandwidth: float, throughput: float, title: str = "The roofline of this machine"
) -> LabFigure:
    """The most that a machine can compute, given how often each byte is used, and what was reached (log-log).

    Args:
        points: what was measured.
        bandwidth: bytes per second that the machine reads.
        throughput: floating-point operations per second of a large matrix product.
        title: of the figure.
    """
    words = "; ".join(
        f"{p.kind} {p.label}: {p.intensity:.2g} FLOP/byte, {p.flops_per_second / 1e9:.3g} GFLOP/s" for p in points
    )
    ridge = throughput / bandwidth
    alt = f"{title}. The roof climbs with {bandwidth / 1e9:.3g} GB/s up to {ridge:.2g} FLOP/byte, then stays level at "
    figure = LabFigure(9, 5.6, f"{alt}{throughput / 1e9:.3g} GFLOP/s. {words}.")
    axes = figure.subplots()
    left = min([p.intensity for p in points] + [ridge]) / 2.5
    right = max([p.intensity for p in points] + [ridge]) * 3
    axes.plot([left, ridge], [left * bandwidth / 1e9, throughput / 1e9], color=BLACK, label="bound by memory")
    axes.plot([ridge, right], [throughput / 1e9] * 2, color=BLACK, linestyle="--", label="bound by arithmetic")
    for index, kind in enumerate(dict.fromkeys(point.kind for point in points)):
        found = [point for point in points if point.kind == kind]
        axes.plot(
            [point.intensity for point in found],
            [point.flops_per_second / 1e9 for point in found],
            color=PALETTE[index],
            marker=_MARKERS[index],
            markersize=9,
            linewidth=1.2,
            linestyle=":",
            label=kind,
        )
        below = index % 2 == 0
        for point in found:
            axes.annotate(
                point.label,
                (point.intensity, point.flops_per_second / 1e9),
                xytext=(6, -16) if below else (-6, 10),
                textcoords="offset points",
                ha="left" if below else "right",
                fontsize=11,
                color=PALETTE[index],
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    lowest = min([p.flops_per_second for p in points] + [left * bandwidth])
    axes.set_ylim(lowest / 2.5e9, throughput * 2.2 / 1e9)
    axes.set_xlim(left, right)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("arithmetic intensity (floating-point operations per byte)")
    axes.set_ylabel("reached (GFLOP/s)")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=4, columnspacing=1.2)
    return figure


# ---------------------------------------------------------------------------------------------------- memory


@dataclass(frozen=True)
class MemorySegment:
    """What one request holds, for `memory_strips`: bytes that are reserved for it, and of them those in use."""

    label: str
    reserved: int
    used: int


@_styled
def memory_strips(
    rows: Mapping[str, Sequence[MemorySegment]], budget: int, title: str = "Reserved and used memory"
) -> LabFigure:
    """A strip of memory per row, as long as the budget: who holds how much of it, and what of that is in use.

    Args:
        rows: the segments by the name of the row, from left to right.
        budget: bytes that there are.
        title: of the figure.
    """
    words = [
        f"{name}: {_count(len(segments), 'request')} hold {_mb(sum(s.reserved for s in segments))} MB, of which "
        f"{_mb(sum(s.used for s in segments))} MB are used"
        for name, segments in rows.items()
    ]
    figure = LabFigure(10, 2.1 + 1.0 * len(rows), f"{title}. Of {_mb(budget)} MB, {'; '.join(words)}.")
    axes = figure.subplots()
    for row, segments in enumerate(rows.values()):
        axes.barh(row, budget / 1e6, height=0.62, facecolor="#F2F2F2", edgecolor="#BBBBBB", linewidth=0.8)
        left = 0.0
        for number, segment in enumerate(segments):
            reserved, used = segment.reserved / 1e6, segment.used / 1e6
            axes.barh(row, reserved, left=left, height=0.62, facecolor="white", edgecolor=ORANGE, hatch="//")
            color = BLUE if number % 2 == 0 else GREEN  # neighbors are told apart
            axes.barh(row, used, left=left, height=0.62, facecolor=color, edgecolor="white", linewidth=0.4)
            if reserved > 0.08 * budget / 1e6:
                box = {"facecolor": "white", "edgecolor": "none", "pad": 2}
                text = _plain(segment.label)
                axes.text(left + reserved / 2, row, text, ha="center", va="center", fontsize=11, bbox=box)
            left += reserved
    axes.set_yticks(range(len(rows)), [_plain(name) for name in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, budget / 1e6 * 1.01)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("memory (MB)")
    axes.set_title(title)
    keys = [
        Patch(facecolor="white", edgecolor=ORANGE, hatch="//", label="reserved, not used"),
        Patch(facecolor=BLUE, label="used (neighbors in another color)"),
        Patch(facecolor="#F2F2F2", edgecolor="#BBBBBB", label="free"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=3)
    return figure


def _mb(num_bytes: float) -> str:
    return f"{num_bytes / 1e6:.3g}"


# ------------------------------------------------------------------------------------------------ calculator

BYTES_PER_NUMBER: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "int8": 1}
"""Of the number formats that the calculator offers."""

GIGABYTE = 10**9
STATIC_MEMORY = 160
"""Gigabytes, for the calculator's static form: two large GPUs."""


def num_parameters(config: ModelConfig) -> int:
    """The numbers that a decoder of this shape has learned, biases aside."""
    c = config
    attention = c.hidden_size * c.head_dim * 2 * (c.num_heads + c.num_kv_heads)
    layer = attention + 3 * c.hidden_size * c.intermediate_size + 2 * c.hidden_size
    tables = c.vocab_size * c.hidden_size * (1 if c.tie_word_embeddings else 2)
    return tables + c.num_layers * layer + c.hidden_size


def users_that_fit(config: ModelConfig, *, context: int, dtype: str, memory: int) -> int:
    """How many users' caches of `context` tokens fit into `memory` bytes beside the weights."""
    size = BYTES_PER_NUMBER[dtype]
    left = memory - num_parameters(config) * size
    return max(0, left // (config.kv_bytes_per_token * size // 2 * context))


def kv_calculator(models: Mapping[str, ModelConfig]) -> Interactive:
    """Controls for model, number format, context, users and memory: what the weights and the KV cache take.

    Weights and cache are in the same number format. Without a front end, lines show how many users fit into 160 GB.

    Args:
        models: their shapes, by name.
    """

    def draw(model: str, dtype: str, context: int, users: int, memory: int) -> LabFigure:
        return _memory_bill(model, models[model], dtype, context, users, memory * GIGABYTE)

    first = next(iter(models))
    controls: dict[str, Control] = {
        "model": Choice("Model", list(models), first),
        "dtype": Choice("Number format", list(BYTES_PER_NUMBER), "bfloat16"),
        "context": Slider("Context (tokens)", 256, 131_072, 256, 8_192),
        "users": Slider("Users", 1, 256, 1, 16),
        "memory": Slider("Memory (GB)", 1, 640, 1, STATIC_MEMORY),
    }
    return interactive(controls, draw, _users_against_context(models))


@_styled
def _memory_bill(model: str, config: ModelConfig, dtype: str, context: int, users: int, memory: int) -> LabFigure:
    """A bar of weights and users' caches beside the memory that there is."""
    size = BYTES_PER_NUMBER[dtype]
    weights = num_parameters(config) * size
    per_user = config.kv_bytes_per_token * size // 2 * context
    fit = users_that_fit(config, context=context, dtype=dtype, memory=memory)
    total = weights + users * per_user
    verdict = f"{_count(users, 'user')}: {_gb(total)} of {_gb(memory)}; {fit:,} would fit"
    alt = (
        f"{model} in {dtype}, {context:,} tokens each. Weights {_gb(weights)}, KV cache {_gb(per_user)} per user "
        f"({config.kv_bytes_per_token * size // 2:,} bytes per token). {verdict}."
    )
    figure = LabFigure(9, 3.0, alt)
    axes = figure.subplots()
    cache_bytes = users * per_user
    axes.barh(0, weights / GIGABYTE, height=0.5, color=GRAY)
    look = {"facecolor": BLUE, "edgecolor": BLUE}
    if total > memory:
        look = {"facecolor": "white", "edgecolor": VERMILION, "hatch": "//"}
    axes.barh(0, cache_bytes / GIGABYTE, left=weights / GIGABYTE, height=0.5, **look)  # type: ignore[arg-type]
    axes.axvline(memory / GIGABYTE, color=BLACK, linestyle="--")
    axes.set_xlim(0, 1.08 * max(total, memory) / GIGABYTE)
    axes.set_ylim(-0.5, 0.5)
    axes.set_yticks([])
    axes.grid(False, axis="y")
    axes.set_xlabel("memory (GB)")
    axes.set_title(f"{verdict}\n{_gb(per_user)} of KV cache per user", fontsize=13)
    keys = [
        Patch(color=GRAY, label=f"weights ({_gb(weights)})"),
        Patch(label=f"KV cache ({_gb(cache_bytes)})", **look),  # type: ignore[arg-type]
        Line2D([], [], color=BLACK, linestyle="--", label="memory there is"),
    ]
    figure.legend(handles=keys, loc="outside lower center", ncols=3)
    return figure


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / GIGABYTE:.3g} GB"


@_styled
def _users_against_context(models: Mapping[str, ModelConfig]) -> LabFigure:
    """For each model, how many users fit into `STATIC_MEMORY` in bfloat16, against what each of them has said."""
    contexts = [2**power for power in range(9, 18)]
    memory = STATIC_MEMORY * GIGABYTE
    lines = {
        name: [(n, users_that_fit(config, context=n, dtype="bfloat16", memory=memory)) for n in contexts]
        for name, config in models.items()
    }
    words = []
    for name, line in lines.items():
        at = dict(line)
        words.append(f"{name}: {at[2048]:,} at 2,048 tokens, {at[131072]:,} at 131,072")
    title = f"Users that fit into {STATIC_MEMORY} GB, weights and cache in bfloat16"
    figure = LabFigure(9, 5.2, f"{title}. {'; '.join(words)}.")
    axes = figure.subplots()
    for index, (name, line) in enumerate(lines.items()):
        # No user is where the logarithm has no place; a line ends where the last user fits.
        shown = [(n, users) for n, users in line if users >= 1]
        label = name if shown else f"{name} (the weights alone don't fit)"
        axes.plot(
            [n for n, _ in shown],
            [users for _, users in shown],
            color=PALETTE[index % len(PALETTE)],
            linestyle=_DASHES[index % len(_DASHES)],
            marker=_MARKERS[index % len(_MARKERS)],
            label=label,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(contexts, [f"{n:,}" for n in contexts], fontsize=10)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(bottom=0.7)
    axes.set_xlabel("tokens per user, prompt and answer")
    axes.set_ylabel("users")
    axes.set_title(title)
    figure.legend(loc="outside lower center", ncols=2)
    return figure
