"""Widgets: the logic without a front end, and a static form in every output."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.lab.display import WIDGET_VIEW, Html
from minillm.lab.widgets import Choice, Interactive, Slider, interactive, sampling_distribution, sampling_explorer

LOGITS = [3.0, 2.0, 1.0, 0.0, -1.0, -9.0]
LABELS = [" Paris", " the", "<script>", " a", "\n", "$x$"]


def doubled(number: float) -> Html:
    return Html(f"<b>{number * 2}</b>", f"twice is {number * 2}")


def make() -> Interactive:
    return interactive({"number": Slider("Number (ms)", 0, 10, 1, 4)}, doubled)


def walk(widget: Any) -> list[Any]:
    return [widget, *(found for child in getattr(widget, "children", ()) for found in walk(child))]


def test_the_output_carries_the_widget_and_the_static_form() -> None:
    static, widget = make().outputs()
    assert "<b>8</b>" in static["text/html"]
    assert static["text/plain"] == "twice is 8"
    assert WIDGET_VIEW not in static
    assert widget[WIDGET_VIEW]["model_id"]


def test_without_ipywidgets_the_static_form_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert make().outputs() == [{"text/html": "<b>8</b>", "text/plain": "twice is 8"}]


def test_a_static_form_of_ones_own_is_used() -> None:
    panel = interactive({"number": Slider("Number", 0, 10, 1, 4)}, doubled, static=Html("<i>all</i>", "all of them"))
    assert "<i>all</i>" in panel.outputs()[0]["text/html"]
    assert str(panel) == "all of them"


def test_moving_a_slider_redraws() -> None:
    shown = make()
    slider, picture = shown.panel().children  # type: ignore[union-attr]
    assert slider.description == "Number (ms)"
    slider.value = 5
    assert picture.value == "<b>10</b>"
    assert shown.values == {"number": 5}


def test_an_error_while_drawing_is_shown_in_place_of_the_figure() -> None:
    def draw(number: float) -> Html:
        return Html(f"{1 / (number - 5)}", "")

    slider, picture = interactive({"number": Slider("Number", 0, 10, 1, 4)}, draw).panel().children  # type: ignore[union-attr]
    slider.value = 5
    assert "ZeroDivisionError" in picture.value


def test_a_choice_is_a_labeled_list() -> None:
    panel = interactive({"number": Choice("Which", ["1", "2"], "2")}, doubled).panel()
    dropdown = panel.children[0]  # type: ignore[union-attr]
    assert (dropdown.description, dropdown.value) == ("Which", "2")


def test_values_are_set_by_name() -> None:
    shown = make()
    assert str(shown.set(number=7)) == "twice is 14"
    with pytest.raises(ValueError, match="No control is named 'numbr'; there are: number"):
        shown.set(numbr=7)


# ------------------------------------------------------------------------------------------------- sampling


def test_filters_on_a_small_example() -> None:
    probs = np.exp(LOGITS) / np.exp(LOGITS).sum()
    before, after = sampling_distribution(LOGITS)
    np.testing.assert_allclose(before, probs)
    np.testing.assert_allclose(after, probs)
    _, top_two = sampling_distribution(LOGITS, top_k=2)
    np.testing.assert_allclose(top_two, [probs[0] / sum(probs[:2]), probs[1] / sum(probs[:2]), 0, 0, 0, 0])
    _, nucleus = sampling_distribution(LOGITS, top_p=float(probs[0]) + 0.01)
    assert (nucleus > 0).tolist() == [True, True, False, False, False, False]
    _, greedy = sampling_distribution(LOGITS, temperature=0)
    assert greedy.tolist() == [1, 0, 0, 0, 0, 0]


@given(
    st.lists(st.floats(-20, 20), min_size=1, max_size=20),
    st.floats(0.05, 3),
    st.integers(0, 25),
    st.floats(0.01, 1),
)
def test_what_is_left_is_a_distribution_of_the_most_probable(
    logits: list[float], temperature: float, top_k: int, top_p: float
) -> None:
    before, after = sampling_distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    assert after.sum() == pytest.approx(1)
    assert (after >= 0).all()
    kept, cut = before[after > 0], before[after == 0]
    assert kept.size
    if cut.size:
        assert kept.min() >= cut.max() - 1e-12
    ratio = after[after > 0] / kept
    np.testing.assert_allclose(ratio, ratio[0])  # renormalized, not changed among themselves


def test_the_explorer_says_what_its_sliders_do() -> None:
    explorer = sampling_explorer(LOGITS, LABELS, shown=4)
    assert "6 tokens left" in str(explorer.set(temperature=1.0))
    assert "2 tokens left" in str(explorer.set(top_k=2))
    assert "1 token left" in str(explorer.set(temperature=0.0, top_k=0))


def test_the_explorers_static_form_shows_several_settings() -> None:
    text = str(sampling_explorer(LOGITS, LABELS.__getitem__))
    for setting in ("temperature 0.5", "temperature 1.5", "top-k 4", "top-p 0.8"):
        assert setting in text


def test_every_control_of_the_explorer_has_a_label() -> None:
    panel = sampling_explorer(LOGITS, LABELS).panel()
    sliders = [widget for widget in walk(panel) if hasattr(widget, "min")]
    assert [slider.description for slider in sliders] == ["Temperature", "Top-k (0 = off)", "Top-p (1 = off)"]
