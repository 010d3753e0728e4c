"""Figures: they draw, they say in words what they show, and nothing in a token can break the page."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image
from traced import simulate

from minillm.lab import display, figures
from minillm.lab.display import DisplayError, pieces, show, visible
from minillm.lab.figures import LabFigure, Panel, RequestSpan, WaterfallBar

HARD_TOKENS: list[str | bytes] = [
    " the",
    "\n",
    "$x$",
    "<script>",
    "你好",
    "🙂",
    b"\xf0\x9f",
    "",
    "a" * 60,
    "\u0301",
    "\u200d",
    "_^{",
]
PROBS = [0.3, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.02, 0.02, 0.01, 0.0]

TRACE = simulate(abort=1)  # one leaves early, others are thrown out of a small pool
CROWDED = next(step for step in TRACE.steps if step.kv.cached and len(step.scheduled) > 2)

FIGURES: dict[str, Callable[[], LabFigure]] = {
    "bars": lambda: figures.next_token_bars(HARD_TOKENS, PROBS, "After “$x$ <b>”"),
    "grid": lambda: figures.distribution_grid(
        HARD_TOKENS,
        [
            Panel("temperature 1", PROBS),
            Panel("top-k 1", [1.0] + [0.0] * 11, PROBS),
            Panel("c", PROBS),
            Panel("d", PROBS),
        ],
    ),
    "step_cost": lambda: figures.step_cost({"naive loop": [30.0, 31.5, 33.0], "KV cache": [30.0, 18.0]}),
    "attention": lambda: figures.attention_map(np.tril(np.full((12, 12), 0.5)), HARD_TOKENS),
    "timeline": lambda: figures.request_timeline([RequestSpan("你", 1.0, 1.5, 3.0), RequestSpan("b", 1.2, 3.5, 4.0)]),
    "trace": lambda: figures.trace_timeline(TRACE),
    "trace in seconds": lambda: figures.trace_timeline(TRACE.steps[3:9], "$ a $", unit="seconds"),
    "blocks": lambda: figures.block_map(TRACE, step=CROWDED.step),
    "large pool": lambda: figures.block_map(
        simulate(30, num_blocks=300, budget=99, max_num_seqs=30, cached_blocks=False).steps[60]
    ),
    "waterfall": lambda: figures.waterfall([WaterfallBar("01 a", 5.0), WaterfallBar("02 b", 40.0)], "Board", "note"),
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
    assert (pixels < 200).mean() > 0.005  # something is drawn …
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edges > 250).all()  # … and nothing is cut off at the border
    assert len(figure.alt) > 30


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_displays_itself_with_its_alternative(name: str) -> None:
    figure = FIGURES[name]()
    markup = figure._repr_html_()
    assert markup.startswith('<img alt="')
    assert "<script" not in markup
    assert "data:image/svg+xml;base64," in markup


def test_the_same_figure_gives_the_same_bytes() -> None:
    assert FIGURES["bars"]()._repr_html_() == FIGURES["bars"]()._repr_html_()


def test_the_numbers_are_in_the_alternative() -> None:
    alt = figures.step_cost({"naive loop": [30.0, 31.5, 64.0]}).alt
    assert "naive loop: 30 ms for the first token, 64 ms for token 3" in alt
    alt = figures.waterfall([WaterfallBar("01", 5.0), WaterfallBar("02", 40.0)], "Board").alt
    assert "×8" in alt
    alt = figures.next_token_bars([" Paris"], [0.6]).alt
    assert "␣Paris 60%" in alt
    assert "All other tokens: 40%" in alt


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_are_welcome(dtype: torch.dtype) -> None:
    probs = torch.tensor([0.5, 0.25], dtype=dtype, requires_grad=True)
    assert "50%" in figures.next_token_bars(["a", "b"], probs).alt  # type: ignore[arg-type]


def test_mismatched_lengths_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="have 1 and 2"):
        figures.next_token_bars(["a"], [0.5, 0.5])
    with pytest.raises(ValueError, match="pick one layer and one head"):
        figures.attention_map(np.zeros((9, 2, 2)), ["a", "b"])


def test_the_style_of_the_reader_stays_as_it_was() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    FIGURES["bars"]()._repr_html_()
    assert dict(matplotlib.rcParams) == before


# ---------------------------------------------------------------------------------------------------- tokens


def test_chips_show_ids_whitespace_and_split_characters() -> None:
    smile = "😀".encode()
    chips = figures.token_chips([(7, "Hi"), (8, " you\n"), (9, b" " + smile[:2]), (10, smile[2:]), (2, "<|im_end|>")])
    assert str(chips) == "5 tokens: Hi[7] ␣you⏎[8] ␣<F0 9F>[9] <98 80>[10] <|im_end|>[2]"
    for wanted in ("F0 9F", "98 80", "␣", "⏎", "&lt;|im_end|&gt;", "id 9", "bytes of a character"):
        assert wanted in chips.html


def test_one_chip_per_token_for_a_screen_reader() -> None:
    chips = figures.token_chips([(1, "a"), (2, "b\n"), (3, "")], special={2})
    assert chips.html.count('role="listitem"') == 3
    assert chips.html.count("special") == 1
    assert chips.html.count("dashed") == 1


@given(st.lists(st.tuples(st.integers(0, 50000), st.one_of(st.text(max_size=8), st.binary(max_size=6))), max_size=6))
def test_no_token_can_inject_markup(tokens: list[tuple[int, str | bytes]]) -> None:
    attacked = [*tokens, (1, '"><script>alert(1)</script>'), (2, b"<img src=x onerror=alert(1)>")]
    markup = figures.token_chips(attacked).html
    assert set(re.findall(r"<(\w+)", markup)) <= {"div", "span", "bdi", "i"}
    markup.encode("utf-8")  # no lone surrogate is left


@given(st.text(max_size=12))
def test_visible_text_is_one_line_without_invisible_characters(text: str) -> None:
    assert not set(visible(text)) & set(" \n\t\r\x00\u200b\u200d\u2028\ufe0f")


@given(st.text(max_size=12))
def test_complete_text_has_no_byte_fragments(text: str) -> None:
    surrogates = any(0xD800 <= ord(c) <= 0xDFFF for c in text)
    if not surrogates:
        assert visible(text) == visible(text.encode())
        assert all(piece.kind != "bytes" for piece in pieces(text.encode()))


# --------------------------------------------------------------------------------------------------- engine


def test_the_timeline_says_who_waited_and_who_was_preempted() -> None:
    alt = figures.trace_timeline(TRACE).alt
    for step in TRACE.steps:
        for name in step.preempted:
            assert re.search(rf"{name} [^;]*preempted \d time", alt)
    assert "request-0 waited 0 steps, 2 prefill chunks" in alt


def test_the_block_map_says_who_holds_which_block() -> None:
    alt = figures.block_map(TRACE, step=CROWDED.step).alt
    assert alt == figures.block_map(CROWDED).alt
    for item in CROWDED.scheduled:
        assert f"{item.request_id} holds {len(item.block_ids)} blocks" in alt
    assert f"{CROWDED.kv.cached} only cached" in alt
    assert f"{CROWDED.kv.free} free, of 15" in alt
    assert "request-0 holds 3 blocks (1–3)" in figures.block_map(TRACE, step=0).alt


def test_the_block_map_draws_each_block_once_in_its_holders_color() -> None:
    cells = [patch for patch in figures.block_map(CROWDED).axes[0].patches if patch.get_width() == 0.9]  # type: ignore[attr-defined]
    assert len(cells) == 16
    first, *_ = CROWDED.scheduled
    assert {cells[block].get_facecolor() for block in first.block_ids} == {to_rgba(figures.BLUE)}
    assert {bool(cells[block].get_hatch()) for block in CROWDED.cached_block_ids or ()} == {True}


def test_large_traces_are_cut_and_large_pools_refused_in_words() -> None:
    assert "(the first 60 of 70)" in figures.trace_timeline(simulate(70, num_blocks=90)).alt
    with pytest.raises(ValueError, match="up to 1024 blocks"):
        figures.block_map(simulate(1, num_blocks=2000, cached_blocks=False))


def test_what_a_trace_does_not_hold_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"steps 0 to \d+, but not step 999"):
        figures.block_map(TRACE, step=999)
    with pytest.raises(ValueError, match="no steps yet"):
        figures.trace_timeline([])
    with pytest.raises(ValueError, match="'steps' or 'seconds'"):
        figures.trace_timeline(TRACE, unit="minutes")  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------- display


def test_show_prints_the_words_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show(FIGURES["step_cost"]())
    assert "naive loop: 30 ms" in capsys.readouterr().out


def test_show_takes_any_figure_with_an_alternative(capsys: pytest.CaptureFixture[str]) -> None:
    figure = Figure()
    figure.subplots().plot([1, 2])
    show(figure, alt="a line that rises")
    assert capsys.readouterr().out == "a line that rises\n"
    with pytest.raises(DisplayError, match="alt="):
        show(figure)


def test_show_closes_a_pyplot_figure(capsys: pytest.CaptureFixture[str]) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, _ = plt.subplots()
    show(figure, alt="an empty figure")
    assert figure.number not in plt.get_fignums()


def test_show_refuses_what_it_cannot_display() -> None:
    with pytest.raises(DisplayError, match="int"):
        show(3)


def test_the_alternative_cannot_break_out_of_the_image() -> None:
    figure = LabFigure(2, 2, 'a "quoted" <b> & more')
    assert 'alt="a &quot;quoted&quot; &lt;b&gt; &amp; more"' in display.figure_html(figure, figure.alt)


def test_importing_the_lab_loads_neither_matplotlib_nor_widgets() -> None:
    code = (
        "import sys, minillm.lab; from minillm.lab import Checker, Quiz, show; "
        "print([m for m in ('matplotlib', 'ipywidgets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there() -> None:
    import minillm.lab

    for name in minillm.lab.__all__:
        assert getattr(minillm.lab, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        minillm.lab.nothing  # noqa: B018
