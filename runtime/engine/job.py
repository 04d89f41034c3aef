"""A request inside the engine, and the images that it is made of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.runtime.drawing.prologue import digest_of
from pixelsnail_infer.runtime.engine.delivery import Delivery
from pixelsnail_infer.runtime.requests.request import DEFAULT_MAX_BATCH, Request, split

__all__ = ["Image", "Job", "digests", "leading_rows", "owned", "owned_bytes"]


@dataclass(slots=True, eq=False)
class Job:
    """One request at one model. Guarded by the lock of the loop that draws it.

    `size` is how many bytes it holds, and `leading` of each image how many leading rows the score graph fills in.
    `ready` are the images that may join; `unplaced` counts those that have had no slot, `left` the unfinished ones.
    `on_image(job, index)` is called by the loop's thread when an image is finished, `on_failure()` when the request
    failed or expired here; both without the lock. Who made the job removes it from the loop when nothing is left.
    """

    request: Request
    delivery: Delivery
    priority: int
    expires: float | None
    size: int
    leading: list[int]
    on_image: Callable[[Job, int], object]
    on_failure: Callable[[], object]
    stage: int = 0
    digests: list[bytes] = field(default_factory=list)
    ready: deque[int] = field(default_factory=deque)
    known: bool = field(init=False)
    unplaced: int = field(init=False)
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.unplaced = self.left = self.request.n
        self.known = bool(self.request.use_given.any())

    @property
    def images(self) -> int:
        """How many images wait for a slot."""
        return len(self.ready)

    def detach(self) -> None:
        """The request has ended: call nobody, and hold nobody."""
        self.on_image = self.on_failure = _nothing


@dataclass(slots=True, eq=False)
class Image:
    """One image of a job: `row` is the next one to draw, `failures` how often drawing it failed."""

    job: Job
    index: int
    row: int = 0
    failures: int = 0

    @property
    def digest(self) -> bytes:
        """Equal for images with equal conditions."""
        return self.job.digests[self.index]

    def conditions(self) -> dict[str, NDArray[Any]]:
        """Its conditions by name, each [1, …]."""
        return {name: array[self.index : self.index + 1] for name, array in self.job.request.conditions.items()}


def owned(request: Request) -> Request:
    """The request with arrays that no caller can change any more, and none for pixels that are not given."""
    given, use = request.given, request.use_given
    if use.any():
        use = use.copy()
    else:
        given = np.broadcast_to(np.zeros_like(given[:1]), given.shape)
        use = np.broadcast_to(np.zeros_like(use[:1]), use.shape)
    conditions = {name: _copy(array) for name, array in request.conditions.items()}
    return replace(request, given=given, use_given=use, conditions=conditions)


def owned_bytes(request: Request) -> int:
    """What the arrays of an owned request take."""
    each = [request.given, request.use_given, *request.conditions.values()]
    return sum(array.nbytes if array.strides[0] else array[:1].nbytes for array in each) + 40 * request.n


def leading_rows(request: Request) -> list[int]:
    """Of every image the leading rows that the score graph fills in: as in `Sampler.sample`, those that are known in
    every image of its batch, so that the bits are the same."""
    return [
        rows for some in split(request.n, DEFAULT_MAX_BATCH)
        for rows in [request[some].leading_rows()] * request[some].n
    ]  # fmt: skip


def digests(conditions: Mapping[str, NDArray[Any]], n: int) -> list[bytes]:
    """Of each image the SHA-256 of its conditions."""
    arrays = conditions.values()
    if not any(array.strides[0] for array in arrays):
        return [digest_of(arrays, 0)] * n
    return [digest_of(arrays, image) for image in range(n)]


def _nothing(*_: object) -> None:
    pass


def _copy(array: NDArray[Any]) -> NDArray[Any]:
    """A copy; of one value for all images still one value."""
    return array.copy() if array.strides[0] else np.broadcast_to(array[:1].copy(), array.shape)
