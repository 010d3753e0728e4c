"""The engine: turns requests into tokens."""

from minillm.engine.async_engine import AsyncEngine
from minillm.engine.config import EngineConfig
from minillm.engine.embedding import EmbeddingModel
from minillm.engine.engine import Engine
from minillm.engine.llm import LLM
from minillm.engine.request import OutputChunk, Request, RequestMetrics, RequestOutput

__all__ = [
    "LLM",
    "AsyncEngine",
    "EmbeddingModel",
    "Engine",
    "EngineConfig",
    "OutputChunk",
    "Request",
    "RequestMetrics",
    "RequestOutput",
]
