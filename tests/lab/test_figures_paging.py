"""The figures of lesson 04: they draw, they say in words what they show, and their numbers are right."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from minillm import LLM, SamplingParams
from minillm.engine.trace import StepTrace, Tracer
from minillm.lab import figures_paging as figures
from minillm.lab.figures import LabFigure
from minillm.lab.figures_paging import PoolSpan, PrefixRequest

SPANS = [
    PoolSpan("a <1>", begin=0, end=10, address=0, reserved=200, used_first=100, used_last=150),
    PoolSpan("b", begin=0, end=4, address=200, reserved=300, used_first=250, used_last=300),
    PoolSpan("c", begin=4, end=20, address=200, reserved=100, used_first=60, used_last=100),
]
SHARES = {
    "one piece": {"holds tokens": 50.0, "reserved": 30, "free": 20},
    "$blocks$": {"holds tokens": 96, "reserved": 4, "free": 0},
}
TABLES = {"user <1>": [1, 2, 3], "$user$ 2": [1, 2, 7, 8], "nobody": []}
RECALLS = {
    "all (48)": {"words": 0.81, "vectors": 0.92, "hybrid": 0.9},
    "$plain$": {"words": 1, "vectors": 0, "hybrid": 1},
}
HITS = {
    "one <cache>": [PrefixRequest("$secret$", 400, 384, 0.05), PrefixRequest("other", 380, 80, 0.6)],
    "two caches": [PrefixRequest("secret", 400, 80, 0.61)],
}


@pytest.fixture(scope="module")
def steps() -> list[StepTrace]:
    """Two texts that begin alike, one after the other has begun, in a pool of 39 blocks."""
    engine = LLM("tiny-random", num_blocks=40).engine
    engine.tracer = Tracer(cached_blocks=True)
    prompt = list(range(5, 75))
    params = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)
    for name, extra in {"first": 3, "second": 4}.items():
        engine.add_request([*prompt, extra], params, lambda event: None, request_id=name)
        engine.step()
    while engine.has_unfinished:
        engine.step()
    return engine.tracer.steps


FIGURES: dict[str, Callable[[], LabFigure]] = {
    "pool": lambda: figures.pool_timeline(SPANS, 500, blocked=[2, 3], title="Title"),
    "empty pool": lambda: figures.pool_timeline([], 500),
    "shares": lambda: figures.memory_shares(SHARES),
    "tables": lambda: figures.block_tables_chart(TABLES),
    "search": lambda: figures.search_bars(RECALLS),
    "hits": lambda: figures.prefix_bars(HITS),
}


def is_whole(figure: LabFigure) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a glyph that the font lacks, a layout that did not fit
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    pixels = np.asarray(Image.open(buffer).convert("L"))
    assert min(pixels.shape) > 150
    assert (pixels < 200).mean() > 0.005
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edges > 250).all()  # nothing is cut off at the border
    assert len(figure.alt) > 30
    assert figure._repr_html_().startswith('<img alt="')


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_not_empty_and_has_words(name: str) -> None:
    is_whole(FIGURES[name]())


def test_the_numbers_are_in_the_alternative() -> None:
    alt = FIGURES["pool"]().alt
    assert "3 requests in 500 tokens over 20 steps; of what was held, 76% was filled" in alt
    assert "in 2 steps a request waited although enough was free in pieces" in alt
    assert "one piece: holds tokens 50%, reserved 30%, free 20%" in FIGURES["shares"]().alt
    assert "3 requests name 7 blocks, 5 different; 2 of those are in several tables" in FIGURES["tables"]().alt
    assert "all (48): words 0.81, vectors 0.92, hybrid 0.90" in FIGURES["search"]().alt
    assert "$secret$: 384 of 400 tokens cached, 50 ms" in FIGURES["hits"]().alt


def test_rows_with_different_uses_are_refused() -> None:
    with pytest.raises(ValueError, match="uses differ"):
        figures.memory_shares({"a": {"x": 1.0}, "b": {"y": 1.0}})


def test_the_explorer_draws_each_step_and_several_in_print(steps: list[StepTrace]) -> None:
    first, last = steps[0].step, steps[-1].step
    explorer = figures.block_explorer(steps, [first, first + 1, last], "Title")
    is_whole(explorer.static)  # type: ignore[arg-type]
    alt = str(explorer.static)
    assert f"Step {first}." in alt and f"Step {last}." in alt
    assert "shared by several" in alt
    assert f"step {last}" in str(explorer.set(step=last))
    assert explorer.controls["step"].value == first
