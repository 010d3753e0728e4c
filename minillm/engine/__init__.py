"""The engine: turns requests into tokens."""

from minillm.engine.llm import LLM
from minillm.engine.request import OutputChunk, RequestMetrics, RequestOutput

__all__ = ["LLM", "OutputChunk", "RequestMetrics", "RequestOutput"]
