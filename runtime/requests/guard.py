"""One call at a time: the lock of a sampler or codec, which knows when it is closed and when a callback calls back."""

from __future__ import annotations

import threading
from types import TracebackType

from pixelsnail_infer.errors import RequestError


class CallGuard:
    """Entered around every call. Other threads wait; a call from within a call, or after close, is an error."""

    def __init__(self, what: str = "sampler", advice: str = "return True to stop a call") -> None:
        self._what, self._advice = what, advice
        self._lock = threading.Lock()
        self._owner: int | None = None
        self.closed = False

    def __enter__(self) -> None:
        self.check()
        self._lock.acquire()
        self._owner = threading.get_ident()
        if self.closed:  # closed while this thread waited
            self.__exit__(None, None, None)
            self.check()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._owner = None
        self._lock.release()

    def check(self) -> None:
        """Raise `RequestError` when the object is closed, or when this thread is inside a call already."""
        if self._owner == threading.get_ident():
            raise RequestError(f"This {self._what} cannot be called from its own callback; {self._advice}.")
        if self.closed:
            raise RequestError(f"This {self._what} is closed; load the model again.")
