"""What can go wrong between a dataset and a number."""

from __future__ import annotations

from minillm.errors import MinillmError


class EvaluationError(MinillmError):
    """Something about a dataset, a metric or a result that its user can mend."""


class DatasetError(EvaluationError):
    """A file that can't be read as what it should hold; the message names the file and the line."""


class ServerError(EvaluationError):
    """The server could not be reached, or refused what every request would ask for."""
