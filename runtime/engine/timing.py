"""When what happened to one request."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["Timing"]


@dataclass(slots=True)
class Timing:
    """Seconds by `time.monotonic`, None for what has not happened: `submitted`; `begun`, when the first image got a
    slot; `first_row`, when the first row was drawn; `ended`, when the request was finished, failed or cancelled."""

    submitted: float = field(default_factory=time.monotonic)
    begun: float | None = None
    first_row: float | None = None
    ended: float | None = None
