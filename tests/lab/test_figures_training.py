"""The figures of fine-tuning: they draw at every moment of a training, and say in words what they show."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from minillm.lab.figures import LabFigure
from minillm.lab.figures_training import loss_mask, recent_means, training_curve

LOSSES = [3.0, 2.5, 2.0, 1.5, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5]
RIGHT = [(0, 0.0), (5, 0.25), (10, 0.5)]
CITED = [(0, 0.0), (5, 0.75), (10, 1.0)]


def curve(taken: int) -> LabFigure:
    scores = {
        "right": [point for point in RIGHT if point[0] <= taken],
        "cited": [point for point in CITED if point[0] <= taken],
    }
    intervals = [(0.0, 0.16), (0.11, 0.47), (0.3, 0.7)][: len(scores["right"])]
    return training_curve(LOSSES[:taken], scores, 10, intervals=intervals)


@pytest.mark.parametrize("figure", [curve(0), curve(1), curve(10), training_curve([], {}, 5)])
def test_it_draws_before_during_and_after(figure: LabFigure) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that the font lacks, a layout that did not fit
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    pixels = np.asarray(Image.open(buffer).convert("L"))
    assert (pixels < 200).mean() > 0.005
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edges > 250).all()  # nothing is cut off at the border


def test_the_axis_is_as_long_as_the_training_from_its_first_step() -> None:
    first, last = (curve(taken).axes[1].get_xlim() for taken in (1, 10))
    assert first == last
    assert first[0] < 0 < 10 < first[1]


def test_the_numbers_are_in_the_alternative() -> None:
    alt = curve(10).alt
    assert "10 steps; the loss went from 3.00 to 0.70 nats per token" in alt
    assert "right: 0% after 0 steps (95 % interval 0% to 16%), 25% after 5 steps (95 % interval 11% to 47%)" in alt
    assert "cited: 0% after 0 steps, 75% after 5 steps, 100% after 10 steps." in alt


def test_a_mean_is_of_the_last_five() -> None:
    assert recent_means([8.0, 6.0]) == [8.0, 7.0]
    assert recent_means([100.0] + [1.0] * 5)[-1] == 1.0


def test_the_tokens_that_count_are_marked_and_the_others_are_not() -> None:
    shown = loss_mask(["Why", " <not>", "?\n", b"\xf0\x9f", "Yes", "<end>"], {4, 5})
    page = BeautifulSoup(shown._repr_html_(), "html.parser")
    chips, legend = page.find_all("div")
    assert [mark.get_text() for mark in chips.find_all("mark")] == ["Yes", "<end>"]
    assert chips.get_text() == "Why␣<not>?⏎F0 9FYes<end>"
    assert "6 tokens, of which 2 count" in legend.get_text()
    assert str(shown).endswith("Why ␣<not> ?⏎ <F0 9F> «Yes» «<end>»")
