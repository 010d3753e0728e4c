"""Widgets of the lessons: labeled controls that redraw a figure, and always a static form that says the same.

    interactive({"temperature": Slider("Temperature", 0.0, 2.0, 0.05, 1.0)}, lambda temperature: my_figure(temperature))

The output carries both forms. A front end with ipywidgets shows the controls; `nbconvert`, a plain viewer, a terminal
and an environment without ipywidgets show the static figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from minillm.lab.display import Displayable, import_ipywidgets, publish, widget_outputs
from minillm.lab.figures import LabFigure, Panel, distribution_grid


@dataclass(frozen=True)
class Slider:
    """A number that the reader chooses; whole numbers if all four are `int`.

    Attributes:
        label: the text in front of the slider, with the unit if there is one.
        low: smallest value.
        high: largest value.
        step: distance between two values.
        value: at the start.
    """

    label: str
    low: float
    high: float
    step: float
    value: float


@dataclass(frozen=True)
class Choice:
    """One of several texts that the reader chooses.

    Attributes:
        label: the text in front of the list.
        options: what there is to choose from.
        value: at the start.
    """

    label: str
    options: Sequence[str]
    value: str


Control: TypeAlias = Slider | Choice


class Interactive:
    """Controls above a figure; the last expression of a cell, or `show()`, displays it.

    Attributes:
        values: the present value of each control.
        static: what is shown where there is no front end.
    """

    def __init__(
        self,
        controls: Mapping[str, Control],
        draw: Callable[..., Displayable],
        static: Displayable | None = None,
    ) -> None:
        self.controls = dict(controls)
        self.values: dict[str, Any] = {name: control.value for name, control in controls.items()}
        self._draw = draw
        self.static = static if static is not None else draw(**self.values)

    def set(self, **values: Any) -> Displayable:
        """Change controls by name and return the figure for the new values, as the front end does.

        Raises:
            ValueError: for a name that is no control.
        """
        unknown = sorted(set(values) - set(self.values))
        if unknown:
            raise ValueError(f"No control is named {unknown[0]!r}; there are: {', '.join(self.values)}.")
        self.values.update(values)
        return self._draw(**self.values)

    def panel(self) -> Any | None:
        """A new ipywidgets panel, or None where ipywidgets is not installed."""
        widgets = import_ipywidgets()
        if widgets is None:
            return None
        picture = widgets.HTML(self._drawn_html())
        inputs = {name: _input(widgets, control, self.values[name]) for name, control in self.controls.items()}

        def redraw(change: Mapping[str, Any]) -> None:
            self.values.update({name: widget.value for name, widget in inputs.items()})
            picture.value = self._drawn_html()

        for widget in inputs.values():
            widget.observe(redraw, names="value")
        return widgets.VBox([*inputs.values(), picture])

    def _drawn_html(self) -> str:
        # In a callback an exception would vanish into the server's log, so it is shown in the figure's place.
        try:
            return self._draw(**self.values)._repr_html_()
        except Exception as error:
            return f"<pre>{escape(f'{type(error).__name__}: {error}')}</pre>"

    def outputs(self) -> list[dict[str, Any]]:
        """What a cell's output holds: the static form, then the widget."""
        return widget_outputs(self.panel(), self.static)

    def _ipython_display_(self) -> None:
        publish(self.outputs())

    def _repr_html_(self) -> str:
        return self.static._repr_html_()

    def __str__(self) -> str:
        return str(self.static)

    def __repr__(self) -> str:
        return str(self.static)


def interactive(
    controls: Mapping[str, Control], draw: Callable[..., Displayable], static: Displayable | None = None
) -> Interactive:
    """A panel of controls that redraws a figure at every change.

    Args:
        controls: a `Slider` or a `Choice` for each keyword argument of `draw`.
        draw: makes the figure for the controls' values.
        static: what is shown without a front end, best a figure of several settings side by side; by default
            the figure for the starting values.
    """
    return Interactive(controls, draw, static)


def _input(widgets: Any, control: Control, value: Any) -> Any:
    # The label is part of the widget, so a screen reader reads it; sliders move with the arrow keys and their
    # number can be typed. Redrawing waits for the release, which two cores need.
    shared = {
        "description": control.label,
        "style": {"description_width": "12em"},
        "layout": widgets.Layout(width="34em", max_width="100%"),
    }
    if isinstance(control, Choice):
        return widgets.Dropdown(options=list(control.options), value=value, **shared)
    numbers = (control.low, control.high, control.step, value)
    whole = all(isinstance(number, int) for number in numbers)
    kind = widgets.IntSlider if whole else widgets.FloatSlider
    extra = {} if whole else {"readout_format": ".2f"}
    return kind(
        min=control.low,
        max=control.high,
        step=control.step,
        value=value,
        continuous_update=False,
        **extra,
        **shared,
    )


# ------------------------------------------------------------------------------------------------- sampling

STATIC_SETTINGS: tuple[tuple[float, int, float], ...] = (
    (1.0, 0, 1.0),
    (0.5, 0, 1.0),
    (1.5, 0, 1.0),
    (1.0, 4, 1.0),
    (1.0, 0, 0.8),
    (1.5, 0, 0.8),
)
"""The settings (temperature, top-k, top-p) of the sampling explorer's static grid."""


def sampling_distribution(
    logits: Any, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What temperature, top-k and top-p (in this order) make of one token's logits.

    Args:
        logits: [vocab_size]; a tensor, an array or a list.
        temperature: the logits are divided by it; 0 puts everything on the largest.
        top_k: keep the k largest (and what equals the k-th); 0 keeps all.
        top_p: keep the smallest set of most probable tokens that holds at least this much; 1 keeps all.

    Returns:
        Two arrays [vocab_size]: the probabilities before anything is cut, and after (0 for a cut token).
    """
    if hasattr(logits, "detach"):
        logits = logits.detach().float().cpu().numpy()
    values = np.asarray(logits, dtype=np.float64)
    if temperature == 0:
        before = np.zeros_like(values)
        before[values.argmax()] = 1.0
        return before, before.copy()
    scaled = values / temperature
    before = _softmax(scaled)
    after = before.copy()
    if 0 < top_k < len(scaled):
        after[scaled < np.sort(scaled)[-top_k]] = 0.0
        after /= after.sum()
    if top_p < 1:
        order = np.argsort(-after, kind="stable")
        mass_above = np.cumsum(after[order]) - after[order]
        after[order[mass_above >= top_p]] = 0.0
        after /= after.sum()
    return before, after


def _softmax(values: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.exp(values - values.max())
    total: NDArray[np.float64] = weights / weights.sum()
    return total


def sampling_explorer(
    logits: Any, labels: Sequence[str | bytes] | Callable[[int], str | bytes], *, shown: int = 12
) -> Interactive:
    """Sliders for temperature, top-k and top-p over the distribution of one next token.

    Args:
        logits: [vocab_size], what the model gives for the next token.
        labels: the text of each token: a list for the whole vocabulary, or a function of the token id such as
            `tokenizer.token_bytes`.
        shown: how many of the most probable tokens have a bar.
    """
    before, _ = sampling_distribution(logits)
    top = [int(i) for i in np.argsort(-before, kind="stable")[:shown]]
    tokens = [labels(i) if callable(labels) else labels[i] for i in top]

    def panel(temperature: float, top_k: int, top_p: float) -> Panel:
        full, kept = sampling_distribution(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        title = f"temperature {temperature:g}, top-k {top_k or 'off'}, top-p {f'{top_p:g}' if top_p < 1 else 'off'}"
        left = int((kept > 0).sum())
        title += f": {left:,} {'token' if left == 1 else 'tokens'} left"
        return Panel(title, list(kept[top]), list(full[top]))

    def draw(temperature: float, top_k: int, top_p: float) -> LabFigure:
        return distribution_grid(tokens, [panel(temperature, top_k, top_p)], x_max=1.0)

    controls = {
        "temperature": Slider("Temperature", 0.0, 2.0, 0.05, 1.0),
        "top_k": Slider("Top-k (0 = off)", 0, 50, 1, 0),
        "top_p": Slider("Top-p (1 = off)", 0.05, 1.0, 0.05, 1.0),
    }
    static = distribution_grid(tokens, [_grid_panel(panel(*settings), settings) for settings in STATIC_SETTINGS])
    return interactive(controls, draw, static)


def _grid_panel(panel: Panel, settings: tuple[float, int, float]) -> Panel:
    temperature, top_k, top_p = settings
    title = f"temperature {temperature:g}"
    title += f", top-k {top_k}" if top_k else ""
    title += f", top-p {top_p:g}" if top_p < 1 else ""
    return Panel(f"{title}:\n{panel.title.rpartition(': ')[2]}", panel.probs, panel.before)
