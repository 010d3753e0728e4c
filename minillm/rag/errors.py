"""What can go wrong between a document and an answer."""

from __future__ import annotations

from minillm.errors import MinillmError


class RagError(MinillmError):
    """Something about an index, a document or a question that its user can mend."""


class UnreadableError(RagError):
    """A document that can't be read; the others can."""


class ServerError(RagError):
    """The server that makes embeddings or answers could not be reached, or refused."""
