"""What an engine may use, fixed when it is made, and the checks of what `submit` takes beside a request."""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.requests.request import count

__all__ = ["Limits", "expiry", "make_limits", "priority_of"]


@dataclass(frozen=True, slots=True)
class Limits:
    """The checked settings of an engine; `Engine` explains them."""

    ladder: tuple[int, ...]
    queue: int
    memory: int
    filters: bool
    completion: bool

    @property
    def slots(self) -> int:
        """The largest batch."""
        return self.ladder[-1]

    def expect_room(self, size: int) -> None:
        """Raise `RequestError` for a request of more bytes than all together may hold."""
        if size > self.memory:
            raise RequestError(f"The request would hold {size} bytes, but all together may hold {self.memory}; ask for "
                               "fewer images at a time.")  # fmt: skip


def make_limits(
    slots: int, ladder: Sequence[int] | None, queue: int, memory: int, filters: bool, completion: bool
) -> Limits:
    """Check an engine's settings; raises `RequestError`."""
    sizes = _batch_sizes(count(slots, "slots"), ladder)
    if isinstance(memory, bool) or not isinstance(memory, int) or memory < 1:
        raise RequestError(f"memory is {shown(memory)}, expected a number of bytes of at least 1.")
    return Limits(sizes, count(queue, "queue"), memory, bool(filters), bool(completion))


def expiry(deadline: Any, submitted: float) -> float | None:
    """When a request expires, by the clock of `submitted`."""
    if deadline is None:
        return None
    most, real = threading.TIMEOUT_MAX, isinstance(deadline, Real) and not isinstance(deadline, bool)
    if not real or not 0 < deadline <= most:
        raise RequestError(f"deadline is {shown(deadline)}, expected a number of seconds above 0 and at most "
                           f"{most:.0f}, or None.")  # fmt: skip
    return submitted + float(deadline)


def priority_of(priority: object) -> int:
    """A checked priority."""
    try:
        if isinstance(priority, bool):
            raise TypeError
        return operator.index(priority)  # type: ignore[arg-type]
    except TypeError:
        raise RequestError(f"priority is {shown(priority)}, expected an integer; higher ones go first.") from None


def _batch_sizes(slots: int, ladder: Sequence[int] | None) -> tuple[int, ...]:
    """Batch sizes, ascending, the last one `slots`; without `ladder` powers of two before it, and halfway between."""
    if ladder is None:
        powers = [1 << power for power in range((slots - 1).bit_length())]
        ladder = [size for power in powers for size in (power, power + power // 2) if size < slots]
    if not isinstance(ladder, Iterable):
        raise RequestError(f"ladder is {shown(ladder)}, expected batch sizes, as [1, 4, {slots}].")
    sizes = {count(size, "ladder") for size in ladder}
    if any(size > slots for size in sizes):
        raise RequestError(f"ladder holds {max(sizes)}, but there are {slots} slots; give sizes from 1 to {slots}.")
    return tuple(sorted(sizes | {slots}))
