"""The log of the command `serve`: one JSON object a line, so that nothing in it can pretend to be another line."""

from __future__ import annotations

import json
import logging
import sys
import time

from pixelsnail_infer.messages import one_line

__all__ = ["JsonLines", "log_to_stderr"]

_LONGEST = 4000


class JsonLines(logging.Formatter):
    """A record as JSON: time, level, logger, event, the record's `told`, and what was raised. ASCII alone."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"time": f"{moment}.{int(record.msecs):03d}Z", "level": record.levelname.lower(),
                "logger": record.name, "event": one_line(record.getMessage(), _LONGEST)}  # fmt: skip
        line |= getattr(record, "told", {})
        if record.exc_info:
            line["raised"] = self.formatException(record.exc_info)[-_LONGEST:]
        return json.dumps(line, default=str)


def log_to_stderr(level: str) -> None:
    """Send the records of this package and of the server there. For commands: a library leaves logging alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("pixelsnail_infer", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level.upper())
