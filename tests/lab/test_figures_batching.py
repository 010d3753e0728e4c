"""The figures of lesson 05: they draw, they say in words what they show, and their numbers are right."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

import minillm.lab
from minillm.lab import figures_batching as figures
from minillm.lab.figures import LabFigure
from minillm.lab.figures_batching import BatchSpan, IntervalRow, LoadPoint, Tile

STATIC = [
    BatchSpan("$a$", "prefill", 0.0, 0.2),
    BatchSpan("$a$", "decode", 0.2, 0.3),
    BatchSpan("$a$", "decode", 0.3, 0.4),
    BatchSpan("$a$", "held", 0.4, 0.9),
    BatchSpan("b", "waiting", 0.0, 0.9),
    BatchSpan("b", "prefill", 0.9, 1.0),
    BatchSpan("b", "prefill", 1.0, 1.1),
    BatchSpan("b", "decode", 1.1, 1.2),
]
GAPS = {
    "whole": {"one": [0.0, 0.02, 0.04, 1.54, 1.56], "two": [0.01, 0.03]},
    "in $chunks$": {"one": [0.0, 0.1, 0.2, 0.3], "two": [0.1, 0.2, 0.3], "long": []},
}
LOADS = [LoadPoint(load, [load / 2, load, 2 * load], goodput=min(load, 3.0)) for load in (1.0, 2.0, 4.0)]
TILES = {"averages": [Tile("mean wait", 80.0, 100.0)], "p99": [Tile("p99 wait", 400.0, 100.0), Tile("x", 1.0, 1.0)]}
ROWS = [
    IntervalRow("base", "right", 0.25, 0.1, 0.5),
    IntervalRow("adapter", "right", 0.5, 0.3, 0.7),
    IntervalRow("base", "agreement, κ", 0.0, 0.0, 0.0),
]

FIGURES: dict[str, Callable[[], LabFigure]] = {
    "curve": lambda: figures.serving_curve({1: 40.0, 4: 120.0, 16: 240.0}),
    "one user": lambda: figures.serving_curve({1: 40.0}),
    "timelines": lambda: figures.batch_timelines({"static": STATIC, "one": STATIC[:3]}),
    "gaps": lambda: figures.token_gaps(GAPS, reading={"whole": (0.04, 1.54)}, objective=0.2),
    "gaps alone": lambda: figures.token_gaps({"whole": GAPS["whole"]}),
    "load": lambda: figures.load_curve({"all": LOADS, "some are refused": LOADS[:2]}, objective=1.5),
    "load without an objective": lambda: figures.load_curve({"all": LOADS}),
    "dashboard": lambda: figures.dashboard(TILES),
    "intervals": lambda: figures.intervals(ROWS, reference=0.5, reference_label="fair", xlabel="share", title="Judge"),
    "intervals alone": lambda: figures.intervals(ROWS[:1], xlabel="share", title="One"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_not_empty_and_has_words(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that the font lacks, a layout that did not fit
        figure = FIGURES[name]()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    pixels = np.asarray(Image.open(buffer).convert("L"))
    assert min(pixels.shape) > 200
    assert (pixels < 200).mean() > 0.005
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edges > 250).all()  # nothing is cut off at the border
    assert len(figure.alt) > 30
    assert figure._repr_html_().startswith('<img alt="')


def test_the_numbers_are_in_the_alternative() -> None:
    assert "1: 40 in all, 40 each; 4: 120 in all, 30 each; 16: 240 in all, 15 each" in FIGURES["curve"]().alt
    alt = FIGURES["timelines"]().alt
    assert "static: 2 requests done after 1.2 s, together 0.9 s of waiting and 0.5 s of kept places" in alt
    assert "one: 1 request done after 0.4 s, together 0 s of waiting." in alt
    assert "whole: 5 gaps, p50 20 ms, largest 1,500 ms" in FIGURES["gaps"]().alt
    assert "all at 4/s: p50 4 s, p99 7.92 s, goodput 3/s" in FIGURES["load"]().alt
    assert "mean wait: 80 ms of 100 (kept); p99, p99 wait: 400 ms of 100 (over)" in FIGURES["dashboard"]().alt
    assert "right (adapter): 0.50 from 0.30 to 0.70" in FIGURES["intervals"]().alt


def test_a_limit_that_is_just_reached_is_kept() -> None:
    assert Tile("wait", 100.0, 100.0).is_kept
    assert not Tile("wait", 100.1, 100.0).is_kept


def test_tokens_of_one_stretch_are_one_bar_and_chunks_of_a_prompt_are_not() -> None:
    bars = figures._joined(STATIC, ["$a$", "b"])
    assert [(kind, round(length, 6), lane) for kind, _, length, lane in bars] == [
        ("prefill", 0.2, 0),
        ("decode", 0.2, 0),
        ("held", 0.5, 0),
        ("waiting", 0.9, 1),
        ("prefill", 0.1, 1),
        ("prefill", 0.1, 1),
        ("decode", 0.1, 1),
    ]


def test_all_are_names_of_the_lab() -> None:
    for name in figures.__all__:
        assert getattr(minillm.lab, name) is getattr(figures, name)
        assert name in minillm.lab.__all__
