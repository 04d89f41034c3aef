"""Which requests get the free slots. Pure: plain Python on what waits, no clock, no engine.

The rule. A request of higher priority goes before all of lower priority, which may wait as long as such keep coming.
Requests of one priority take turns, one image at a time, in the order in which they came: after each image a request
goes to the end of the line if it has more. So a request of one image waits for at most one image of each request in
line before it, however many images those have, and one of many images gets one slot in every round, however many small
ones keep coming.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol, TypeVar

__all__ = ["Waiting", "choose"]


class Waiting(Protocol):
    """A request with images that wait."""

    @property
    def priority(self) -> int:
        """Higher goes first."""
        ...

    @property
    def images(self) -> int:
        """How many images wait, at least 1."""
        ...


W = TypeVar("W", bound=Waiting)


def choose(line: Sequence[W], free: int) -> tuple[list[W], list[W]]:
    """Of the requests in `line`, those that get `free` slots, one entry for each image, in order; and the line that is
    left: the requests with images that still wait. `line` is in the order of arrival, or what the last call left with
    new arrivals at the end; its entries are not changed."""
    by_priority: dict[int, deque[tuple[W, int]]] = {}
    for request in line:
        by_priority.setdefault(request.priority, deque()).append((request, request.images))
    chosen: list[W] = []
    left: list[W] = []
    for priority in sorted(by_priority, reverse=True):
        turns = by_priority[priority]
        while turns and len(chosen) < free:
            request, images = turns.popleft()
            chosen.append(request)
            if images > 1:
                turns.append((request, images - 1))
        left += [request for request, _ in turns]
    return chosen, left
