"""How one thread wakes another."""

from __future__ import annotations

import threading

__all__ = ["Bell", "bounded"]


class Bell:
    """Rings until it is heard. One thread waits, and then looks what there is: the ring may be an old one.

    It is a lock that is held while all is quiet: to release it never waits, so any code may ring, also a finalizer or a
    signal handler, whatever it interrupts. (An `Event` has a lock inside.)"""

    def __init__(self) -> None:
        self._quiet = threading.Lock()
        self._quiet.acquire()

    def ring(self) -> None:
        """Wake who waits, or will."""
        try:
            self._quiet.release()
        except RuntimeError:  # it rings already
            pass

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it rang within `timeout` seconds; that clears it."""
        timeout = bounded(timeout)
        return self._quiet.acquire(timeout=-1 if timeout is None else timeout)


def bounded(timeout: float | None) -> float | None:
    """A timeout that locks take: at least 0, and none so long that it overflows."""
    return None if timeout is None or timeout > threading.TIMEOUT_MAX else max(timeout, 0)
