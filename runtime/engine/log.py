"""Where engines report what nobody is told by an exception. Silent unless the program that embeds them listens."""

from __future__ import annotations

import logging

__all__ = ["log"]

log = logging.getLogger("pixelsnail_infer.engine")
log.addHandler(logging.NullHandler())
