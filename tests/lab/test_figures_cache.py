"""The figures of lesson 02: they draw, they say in words what they show, and their numbers are right."""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from minillm.lab import figures_cache as figures
from minillm.lab.figures import LabFigure
from minillm.lab.figures_cache import MemorySegment, RooflinePoint
from minillm.models import ModelConfig

LLAMA_8B = ModelConfig("llama", 128_256, 4_096, 14_336, 32, 32, 8, 128, 8_192)
MODELS = {
    "8B": LLAMA_8B,
    "8B, not grouped": dataclasses.replace(LLAMA_8B, num_kv_heads=32),
    "70B": dataclasses.replace(LLAMA_8B, hidden_size=8_192, intermediate_size=28_672, num_layers=80, num_heads=64),
    "$too large$": dataclasses.replace(LLAMA_8B, num_layers=1000),
}
POINTS = [
    RooflinePoint("decode", str(n), flops=2e8 * n, num_bytes=5e8 + 1e6 * n, seconds=0.02 + 0.001 * n)
    for n in (1, 4, 16, 64)
] + [RooflinePoint("prefill", "1", flops=2e10, num_bytes=5e8, seconds=0.2)]
WAITS = {"first $token$": {"in turn": [0.1, 0.5, 0.9], "at once": [0.4, 0.41]}, "next": {"alone": [0.02]}}
STRIPS = {
    "reserved": [MemorySegment("user <1>", 96_000_000, 2_000_000), MemorySegment("b", 96_000_000, 3_000_000)],
    "as needed": [MemorySegment("c", 2_000_000, 2_000_000)],
    "nobody": [],
}

FIGURES: dict[str, Callable[[], LabFigure]] = {
    "lines": lambda: figures.scaling_lines({"naive": [(16, 20.0), (64, 80.0)], "cache": [(16, 19.0)]}, "Title"),
    "strips": lambda: figures.latency_strips(WAITS),
    "roofline": lambda: figures.roofline(POINTS, bandwidth=4e10, throughput=3e11),
    "slow machine": lambda: figures.roofline(POINTS[:1], bandwidth=1e9, throughput=4e8),
    "memory": lambda: figures.memory_strips(STRIPS, 256_000_000),
    "calculator": lambda: figures.kv_calculator(MODELS).static,  # type: ignore[dict-item,return-value]
    "bill": lambda: figures.kv_calculator(MODELS).set(model="8B"),  # type: ignore[dict-item,return-value]
    "bill that's too high": lambda: figures.kv_calculator(MODELS).set(model="70B", memory=1, context=131_072),  # type: ignore[dict-item,return-value]
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
    assert "naive: 20 at 16, 80 at 64" in FIGURES["lines"]().alt
    assert "in turn: mean 500 ms, p50 500 ms, p95 860 ms, largest 900 ms" in FIGURES["strips"]().alt
    assert "reserved: 2 requests hold 192 MB, of which 5 MB are used" in FIGURES["memory"]().alt
    alt = FIGURES["roofline"]().alt
    assert "with 40 GB/s up to 7.5 FLOP/byte, then stays level at 300 GFLOP/s" in alt
    assert "prefill 1: 40 FLOP/byte, 100 GFLOP/s" in alt


def test_a_points_place_under_the_roof() -> None:
    point = RooflinePoint("decode", "1", flops=300.0, num_bytes=600.0, seconds=3.0)
    assert (point.intensity, point.flops_per_second) == (0.5, 100.0)


def test_parameters_are_those_that_the_models_are_named_after() -> None:
    assert figures.num_parameters(LLAMA_8B) == 8_030_261_248
    assert round(figures.num_parameters(MODELS["70B"]) / 1e9, 2) == 70.55


def test_parameters_are_those_of_a_decoder() -> None:
    from minillm import LLM

    model = LLM("tiny-random", device="cpu").model
    assert figures.num_parameters(model.config) == sum(parameter.numel() for parameter in model.parameters())


def test_users_share_what_the_weights_leave() -> None:
    # 8,030,261,248 weights of two bytes leave 63.9 GB; 8,192 tokens of 131,072 bytes are 1.07 GB.
    assert figures.users_that_fit(LLAMA_8B, context=8_192, dtype="bfloat16", memory=80 * 10**9) == 59
    assert figures.users_that_fit(LLAMA_8B, context=8_192, dtype="int8", memory=80 * 10**9) == 134
    assert figures.users_that_fit(LLAMA_8B, context=8_192, dtype="float32", memory=30 * 10**9) == 0


def test_the_calculator_says_what_its_controls_do() -> None:
    calculator = figures.kv_calculator(MODELS)
    assert "59 would fit" in str(calculator.set(model="8B", memory=80))
    assert "14 would fit" in str(calculator.set(model="8B, not grouped"))
    assert "KV cache 4.29 GB per user (524,288 bytes per token)" in str(calculator.set(users=3))
    assert "the weights alone don't fit" in {
        text.get_text().rpartition("(")[2].rstrip(")")
        for text in calculator.static.legends[0].get_texts()  # type: ignore[attr-defined]
    }
