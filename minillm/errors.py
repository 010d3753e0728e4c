"""The errors that minillm raises for its users.

Each message says what was wrong, what was expected and what to do about it, so the command line and the server
can show it as it is, without a traceback.
"""

from __future__ import annotations


class MinillmError(Exception):
    """Base class of every error that a user of minillm can cause or mend."""


class ModelNotFoundError(MinillmError):
    """No model has this name and no file or folder lies at this path."""


class WeightsError(MinillmError):
    """Model files could not be fetched, verified or stored."""


class UnsupportedModelError(MinillmError):
    """The model files are fine, but describe something that minillm does not implement."""


class InvalidRequestError(MinillmError, ValueError):
    """A request that can't be served. `param` names the field at fault, where there is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class RequestTooLargeError(InvalidRequestError):
    """The prompt and one more token don't fit in the KV cache, not even alone."""


class EngineOverloadedError(MinillmError):
    """The engine has more requests than it may keep waiting; try again later."""


class RequestAbortedError(MinillmError):
    """The request was aborted; what it had got so far is all there is."""


class EngineStoppedError(MinillmError):
    """The engine ended before the request was complete."""
