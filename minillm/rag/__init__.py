"""Answers from your own documents: read, cut, index, search, answer with citations that are checked.

    index = Index("handbook.db", Embedder(client, "all-minilm-l6-v2"))
    index.add(["handbook/"])
    answer = Answerer(index, client, "smollm2-135m").answer("How many days of leave are there?")
    print(answer.text, answer.citations)

It knows nothing of the engine: `client` is an OpenAI client, of this package's server or of any other. What it needs
beside that is in the extra `minillm[rag]`, and is imported when a name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minillm.rag.answering import Answer, Answerer
    from minillm.rag.chunking import Chunk, Chunker
    from minillm.rag.citations import Citation, SupportCheck
    from minillm.rag.connection import Connection
    from minillm.rag.document import Block, Document, Provenance
    from minillm.rag.embedding import Embedder
    from minillm.rag.errors import RagError, ServerError, UnreadableError
    from minillm.rag.index import AddReport, Index
    from minillm.rag.python_docs import PythonModule
    from minillm.rag.redaction import Redactor
    from minillm.rag.searching import Filters, Hit, reciprocal_rank_fusion
    from minillm.rag.staleness import Budget

_HOME = {
    "AddReport": "index",
    "Answer": "answering",
    "Answerer": "answering",
    "Block": "document",
    "Budget": "staleness",
    "Chunk": "chunking",
    "Chunker": "chunking",
    "Citation": "citations",
    "Connection": "connection",
    "Document": "document",
    "Embedder": "embedding",
    "Filters": "searching",
    "Hit": "searching",
    "Index": "index",
    "Provenance": "document",
    "PythonModule": "python_docs",
    "RagError": "errors",
    "Redactor": "redaction",
    "ServerError": "errors",
    "SupportCheck": "citations",
    "UnreadableError": "errors",
    "reciprocal_rank_fusion": "searching",
}

__all__ = [
    "AddReport",
    "Answer",
    "Answerer",
    "Block",
    "Budget",
    "Chunk",
    "Chunker",
    "Citation",
    "Connection",
    "Document",
    "Embedder",
    "Filters",
    "Hit",
    "Index",
    "Provenance",
    "PythonModule",
    "RagError",
    "Redactor",
    "ServerError",
    "SupportCheck",
    "UnreadableError",
    "reciprocal_rank_fusion",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it's first used.

    So `minillm --help` waits for nothing, and says what to install where the extra is missing.
    """
    from importlib import import_module

    from minillm.rag.errors import RagError

    if name not in _HOME:
        raise AttributeError(f"module 'minillm.rag' has no attribute {name!r}")
    try:
        return getattr(import_module(f"minillm.rag.{_HOME[name]}"), name)
    except ModuleNotFoundError as error:
        raise RagError(f"minillm.rag needs {error.name}. Run: pip install 'minillm[rag]'") from error
