"""Lesson 03's figures: they draw, they say in words what they show, and no text can break the page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from minillm.lab import RecallPoint, head_explorer, meaning_map, memory_curve, recall_curve, tile_explorer
from minillm.lab.figures import LabFigure
from minillm.lab.figures_attention import byte_text
from minillm.lab.widgets import Interactive

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(10, 14)) * 3
WEIGHTS = RNG.dirichlet(np.ones(5), size=(2, 3, 5))
TOKENS = ["[CLS]", "$x$", "<b>", "海", b"\xf0\x9f"]
POINTS = np.concatenate([RNG.normal(size=(9, 2)), RNG.normal(size=(5, 2)) + 6])
GROUPS = ["math"] * 9 + ["<script>"] * 5
LABELS = [f"{group}.f{i}: <script>alert({i})</script> & so on, " + "long " * 30 for i, group in enumerate(GROUPS)]
RECALL = [
    RecallPoint("quantized", "int8", 388, 0.77),
    RecallPoint("quantized", "binary", 48, 0.68),
    RecallPoint("cut", "96", 384, 0.6),
]


def tiles() -> Interactive:
    return tile_explorer(SCORES, 4)


def heads() -> Interactive:
    return head_explorer(WEIGHTS, TOKENS, [(0, 1, "before"), (1, 2, "after")])


def meanings() -> Interactive:
    return meaning_map(POINTS, GROUPS, LABELS)


FIGURES: dict[str, Callable[[], object]] = {
    "memory": lambda: memory_curve(
        {"naive": {256: 5e6, 512: 2e7}, "tiled": {512: 1e6, 1024: 1.1e6}},
        computed={"table": {1024: 8e7, 2048: 3.2e8}},
        lines={"the model": 5.4e8},
    ),
    "tiles, static": lambda: tiles().static,
    "tiles, one step": lambda: tiles().set(step=12),
    "heads, static": lambda: heads().static,
    "heads, one": lambda: heads().set(layer=1, head=0),
    "map": lambda: meanings().static,
    "recall": lambda: recall_curve(RECALL),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_not_empty_and_has_words(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that the font lacks, a layout that did not fit
        figure = FIGURES[name]()
        assert isinstance(figure, LabFigure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    pixels = np.asarray(Image.open(buffer).convert("L"))
    assert min(pixels.shape) > 200
    assert (pixels < 200).mean() > 0.005  # something is drawn …
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edges > 250).all()  # … and nothing is cut off at the border
    assert len(figure.alt) > 30
    assert figure._repr_html_().startswith('<img alt="')


def test_the_memory_figure_says_what_was_measured_and_what_was_not() -> None:
    alt = memory_curve({"naive": {256: 5e6}}, computed={"table": {512: 2e7}}, lines={"the model": 5.4e8}).alt
    assert "naive: 5 MB at 256 tokens; table (computed): 20 MB at 512 tokens; a line marks the model, 540 MB" in alt


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1536, "1.54 kB"), (2.4e9, "2.4 GB"), (1e6, "1 MB")]
)
def test_bytes_have_their_unit(count: float, text: str) -> None:
    assert byte_text(count) == text


def test_the_tiles_keep_what_online_softmax_keeps() -> None:
    """10 by 14 scores in tiles of 4: three rows of four tiles, the last ones smaller."""
    shown = tiles()
    assert shown.controls["step"].high == 12  # type: ignore[union-attr]
    row = SCORES[0, :8]
    expected = f"row 0 keeps maximum {row.max():.1f} and sum {np.exp(row - row.max()).sum():.2f}"
    assert expected in shown.set(step=2).alt  # type: ignore[attr-defined]
    last = SCORES[8]
    assert f"sum {np.exp(last - last.max()).sum():.2f}" in shown.set(step=12).alt  # type: ignore[attr-defined]


def test_the_heads_figure_measures_what_its_titles_claim() -> None:
    before = np.eye(5, k=-1)
    before[0, 0] = 1
    alt = head_explorer(before[None, None], list("abcde"), [(0, 0, "the token before")]).static.alt  # type: ignore[attr-defined]
    assert "layer 0, head 0: the token before: on average 100% of the attention goes to the token before, 0%" in alt


def test_the_map_can_be_pointed_at_and_no_label_breaks_it() -> None:
    page = meanings().set(group="math").html  # type: ignore[attr-defined]
    assert page.count('class="spot"') == 14
    assert page.count('fill-opacity="0.12"') == 5  # the other group is faded
    assert set(re.findall(r"<(\w+)", page)) <= {
        "div",
        "strong",
        "svg",
        "style",
        "g",
        "circle",
        "rect",
        "path",
        "text",
        "span",
    }
    assert "script&gt;" in page
    assert "src=" not in page and "http" not in page  # nothing from the network
    assert max(map(len, re.findall(r'anchor="\w+">([^<]*)<', page))) < 140


def test_the_map_has_a_list_of_its_groups() -> None:
    assert list(meanings().controls["group"].options) == ["all", "math", "<script>"]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="up to 7 groups"):
        meaning_map(np.zeros((8, 2)), list("abcdefgh"), list("abcdefgh"))
    with pytest.raises(ValueError, match="have 1 and 2"):
        meaning_map(np.zeros((2, 2)), ["a"], ["b", "c"])


def test_recall_is_in_the_words_too() -> None:
    assert "quantized, binary: 48 bytes, 68%" in recall_curve(RECALL).alt
