"""minillm: a course on how LLM inference works, and the small, complete engine that it builds and runs on.

>>> from minillm import LLM, SamplingParams
>>> LLM("smollm2-135m").generate("The capital of France is", SamplingParams(temperature=0)).text
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Before PyTorch is loaded: its threads (GNU OpenMP's) spin while they wait for each other, and where something else
# wants a core, each spins away the time that the other needs: a step of 10 ms took over 100 beside one busy process.
# The engine's own kernels have threads that nobody waits for (kernels/cpu/threads.c); this is for what is left to
# PyTorch. On a quiet machine it makes no difference that could be measured (SmolLM2 in float32, 1 and 85 tokens).
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

if TYPE_CHECKING:
    from minillm.engine import LLM, AsyncEngine, EmbeddingModel, Engine, EngineConfig, OutputChunk, RequestOutput
    from minillm.sampling import SamplingParams

__all__ = [
    "LLM",
    "AsyncEngine",
    "EmbeddingModel",
    "Engine",
    "EngineConfig",
    "OutputChunk",
    "RequestOutput",
    "SamplingParams",
    "__version__",
]

_HOME = dict.fromkeys(__all__, "minillm.engine") | {"SamplingParams": "minillm.sampling"}


def __getattr__(name: str) -> Any:
    """Imports the public names when they are first used, so that `minillm --help` needn't wait for PyTorch.

    Nor is the version looked up before: what is above the API runs where the engine isn't installed.
    """
    from importlib import import_module, metadata

    if name == "__version__":
        return metadata.version("minillm")
    if name not in _HOME:
        raise AttributeError(f"module 'minillm' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
