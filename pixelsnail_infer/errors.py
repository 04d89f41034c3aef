"""Every error that this package raises on purpose.

Each message says what came, what was expected and what to do. The command line prints the message alone and exits
with code 1 (the input or the result is bad); usage errors exit with 2.
"""

from __future__ import annotations


class PixelsnailError(Exception):
    """Base of every error raised on purpose by this package."""


class CheckpointError(PixelsnailError):
    """A checkpoint file is missing, damaged, unsafe, or of a model that is not known."""


class ModelError(PixelsnailError):
    """A network cannot be exported as it stands."""


class NotCausalError(ModelError):
    """A later pixel changes an earlier prediction, so that no exact incremental step exists."""


class UnsupportedOpError(ModelError):
    """An operation in the traced network is not understood by the exporter."""


class VerificationError(PixelsnailError):
    """The exported graphs do not agree with the PyTorch model; nothing was written."""


class ManifestError(PixelsnailError):
    """The manifest of a graph file is missing, of an unknown version, or not well formed."""


class GraphFileError(PixelsnailError):
    """A graph file is missing, altered, unsafe (external data, custom ops) or not loadable."""


class BackendError(PixelsnailError):
    """The engine asked for is not installed, or would fall back to another device."""


class EngineError(BackendError):
    """The engine failed while it ran a graph, or memory ran out: the call gave nothing, and the object that was called
    can be called again."""


class RequestError(PixelsnailError, ValueError):
    """An argument of a call is out of range or of a wrong shape or dtype."""


class QueueFull(PixelsnailError):
    """An `Engine` takes no more requests for now: `limit` says which limit is reached, and `wait` is an estimate of the
    seconds until what waits has been started, or None before anything was drawn."""

    def __init__(self, message: str, limit: str, wait: float | None) -> None:
        super().__init__(message)
        self.limit, self.wait = limit, wait


class DeadlineExpired(PixelsnailError):
    """A request to an `Engine` was not finished within its deadline; it is given up."""


class RequestCancelled(PixelsnailError):
    """A request to an `Engine` was cancelled by its caller."""


class EngineClosed(RequestError):
    """An `Engine` is closed, or closes: it takes no more requests, or gave this one up."""
