"""The process in which an engine lives."""

from __future__ import annotations

import os

from pixelsnail_infer.errors import EngineClosed

__all__ = ["Home"]


class Home:
    """The process that made it. After a fork the child has none of the engine's threads, and locks that may be held for
    ever: whatever would take a lock or wait looks here first."""

    def __init__(self) -> None:
        self._process = os.getpid()

    @property
    def here(self) -> bool:
        """Whether this is still that process."""
        return os.getpid() == self._process

    def expect_here(self) -> None:
        """Raises `EngineClosed` in a process that was forked."""
        if not self.here:
            raise EngineClosed("This engine belongs to the process before the fork; make one in this process.")
