"""What is computed for a request on the event loop, while others wait, or in a thread beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["computed"]

T = TypeVar("T")

_SMALL = 1 << 15  # bytes that are read or written between two other requests


async def computed(work: Callable[[], T], size: int) -> T:
    """What `work`, which reads or writes `size` bytes, returns; raises what it raises."""
    return work() if size <= _SMALL else await asyncio.to_thread(work)
