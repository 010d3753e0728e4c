"""What the lessons' notebooks use: figures, widgets, quizzes, checks and the scoreboard.

Importing this package is quick; matplotlib and ipywidgets are loaded at the first name that needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minillm.lab.check import Checker
    from minillm.lab.connect import Endpoint
    from minillm.lab.display import Html, show
    from minillm.lab.figures import (
        LabFigure,
        Panel,
        RequestSpan,
        attention_map,
        block_map,
        distribution_grid,
        next_token_bars,
        request_timeline,
        step_cost,
        style,
        token_chips,
        trace_timeline,
    )
    from minillm.lab.figures_attention import head_explorer, memory_curve, tile_explorer
    from minillm.lab.figures_batching import (
        BatchSpan,
        IntervalRow,
        LoadPoint,
        Tile,
        batch_timelines,
        dashboard,
        intervals,
        load_curve,
        serving_curve,
        token_gaps,
    )
    from minillm.lab.figures_cache import (
        MemorySegment,
        RooflinePoint,
        kv_calculator,
        latency_strips,
        memory_strips,
        roofline,
        scaling_lines,
    )
    from minillm.lab.figures_paging import (
        PoolSpan,
        PrefixRequest,
        block_explorer,
        block_tables_chart,
        memory_shares,
        pool_timeline,
        prefix_bars,
        search_bars,
    )
    from minillm.lab.figures_training import loss_mask, training_curve
    from minillm.lab.figures_vectors import RecallPoint, meaning_map, recall_curve
    from minillm.lab.memory import peak_bytes
    from minillm.lab.quiz import Quiz
    from minillm.lab.scoreboard import Scoreboard, Workload
    from minillm.lab.stdlib_docs import (
        cached_vectors,
        search_questions,
        sentence_transformers_vectors,
        standard_library,
    )
    from minillm.lab.widgets import Choice, Slider, interactive, sampling_distribution, sampling_explorer

_HOMES = {
    "check": ("Checker",),
    "connect": ("Endpoint",),
    "display": ("Html", "show"),
    "figures": (
        "LabFigure",
        "Panel",
        "RequestSpan",
        "attention_map",
        "block_map",
        "distribution_grid",
        "next_token_bars",
        "request_timeline",
        "step_cost",
        "style",
        "token_chips",
        "trace_timeline",
    ),
    "figures_attention": ("head_explorer", "memory_curve", "tile_explorer"),
    "figures_batching": (
        "BatchSpan",
        "IntervalRow",
        "LoadPoint",
        "Tile",
        "batch_timelines",
        "dashboard",
        "intervals",
        "load_curve",
        "serving_curve",
        "token_gaps",
    ),
    "figures_paging": (
        "PoolSpan",
        "PrefixRequest",
        "block_explorer",
        "block_tables_chart",
        "memory_shares",
        "pool_timeline",
        "prefix_bars",
        "search_bars",
    ),
    "figures_training": ("loss_mask", "training_curve"),
    "figures_vectors": ("RecallPoint", "meaning_map", "recall_curve"),
    "memory": ("peak_bytes",),
    "figures_cache": (
        "MemorySegment",
        "RooflinePoint",
        "kv_calculator",
        "latency_strips",
        "memory_strips",
        "roofline",
        "scaling_lines",
    ),
    "quiz": ("Quiz",),
    "scoreboard": ("Scoreboard", "Workload"),
    "stdlib_docs": ("cached_vectors", "search_questions", "sentence_transformers_vectors", "standard_library"),
    "widgets": ("Choice", "Slider", "interactive", "sampling_distribution", "sampling_explorer"),
}

__all__ = [
    "BatchSpan",
    "Checker",
    "Choice",
    "Endpoint",
    "Html",
    "IntervalRow",
    "LabFigure",
    "LoadPoint",
    "MemorySegment",
    "Panel",
    "PoolSpan",
    "PrefixRequest",
    "Quiz",
    "RecallPoint",
    "RequestSpan",
    "RooflinePoint",
    "Scoreboard",
    "Slider",
    "Tile",
    "Workload",
    "attention_map",
    "batch_timelines",
    "block_explorer",
    "block_map",
    "block_tables_chart",
    "cached_vectors",
    "dashboard",
    "distribution_grid",
    "head_explorer",
    "interactive",
    "intervals",
    "kv_calculator",
    "latency_strips",
    "load_curve",
    "loss_mask",
    "meaning_map",
    "memory_curve",
    "memory_shares",
    "memory_strips",
    "next_token_bars",
    "peak_bytes",
    "pool_timeline",
    "prefix_bars",
    "recall_curve",
    "request_timeline",
    "roofline",
    "sampling_distribution",
    "sampling_explorer",
    "scaling_lines",
    "search_bars",
    "search_questions",
    "sentence_transformers_vectors",
    "serving_curve",
    "show",
    "standard_library",
    "step_cost",
    "style",
    "tile_explorer",
    "token_chips",
    "token_gaps",
    "trace_timeline",
    "training_curve",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"minillm.lab.{module}"), name)
    raise AttributeError(f"module 'minillm.lab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
