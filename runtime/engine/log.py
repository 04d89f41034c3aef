"""Where engines report what nobody is told by an exception. Silent unless the program that embeds them listens."""

from __future__ import annotations

import logging

__all__ = ["report"]

_log = logging.getLogger("pixelsnail_infer.engine")
_log.addHandler(logging.NullHandler())


def report(level: int, message: str, *values: object, error: BaseException | None = None) -> None:
    """Log a message, with the trace of an error. A filter or a handler of the program that raises changes nothing: the
    threads that draw go on."""
    try:
        _log.log(level, message, *values, exc_info=error)
    except Exception:
        pass
