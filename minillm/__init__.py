"""minillm: a course on how LLM inference works, and the small, complete engine that it builds and runs on.

>>> from minillm import LLM, SamplingParams
>>> LLM("smollm2-135m").generate("The capital of France is", SamplingParams(temperature=0)).text
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

# Before PyTorch is loaded: its threads (GNU OpenMP's) spin while they wait for each other, and where something else
# wants a core, each spins away the time that the other needs. A forward pass of 85 tokens (SmolLM2-135M, float32, two
# cores of an AMD EPYC, one run each) took, in seconds:
#
#                            quiet    one busy process    several, some with threads of their own
#   default, or ACTIVE       0.23     0.74                2.7 to 4.4
#   GOMP_SPINCOUNT=30000     0.23     0.90                not measured (1.1 to 1.5 with 10000)
#   OMP_WAIT_POLICY=PASSIVE  0.35     0.39                0.45 to 1.1
#
# So this bounds the worst case and costs nothing on a quiet machine; PASSIVE is the better choice on a busy one.
os.environ.setdefault("GOMP_SPINCOUNT", "30000")

if TYPE_CHECKING:
    from minillm.engine import LLM, AsyncEngine, Engine, EngineConfig, OutputChunk, RequestOutput
    from minillm.sampling import SamplingParams

__all__ = [
    "LLM",
    "AsyncEngine",
    "Engine",
    "EngineConfig",
    "OutputChunk",
    "RequestOutput",
    "SamplingParams",
    "__version__",
]
__version__ = version("minillm")

_HOME = dict.fromkeys(__all__, "minillm.engine") | {"SamplingParams": "minillm.sampling"}


def __getattr__(name: str) -> Any:
    """Imports the public names when they are first used, so that `minillm --help` needn't wait for PyTorch."""
    if name not in _HOME:  # (__version__ is there already)
        raise AttributeError(f"module 'minillm' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
