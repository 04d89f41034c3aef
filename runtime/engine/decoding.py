"""The last stage of a pipeline: a thread that decodes images as their codes are finished."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import EngineError, PixelsnailError
from pixelsnail_infer.runtime.codecs.codec import CODEC_BATCH, Decoder
from pixelsnail_infer.runtime.engine.delivery import Delivery
from pixelsnail_infer.runtime.engine.log import report
from pixelsnail_infer.runtime.engine.worker import Worker

__all__ = ["Decoding", "Undecoded"]


class Undecoded(NamedTuple):
    """Image number `image` of a request, all codes of which are drawn: `done()` is called when it lies in `images`,
    `failed(error)` when the decoder fails for it alone."""

    delivery: Delivery
    images: NDArray[np.float32]
    image: int
    done: Callable[[], object]
    failed: Callable[[PixelsnailError], object]


class Decoding(Worker):
    """Takes images from any thread; its own decodes them, some at a time, in the order in which they came. Closed after
    the loops that feed it; without `drain` these give the requests up, whose images are passed over."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__("pixelsnail-decoder")
        self._decoder = decoder
        self._waiting: deque[Undecoded] = deque()  # every call on it is atomic
        self._error: PixelsnailError | None = None
        self._start()

    def add(self, image: Undecoded) -> None:
        """Decode an image; it fails when the thread has ended by an error."""
        self._waiting.append(image)
        self._bell.ring()
        if self._error is not None:  # looked at last: then either this or `_give_up_all` finds the image
            self._fail_all(self._error)

    def _work(self) -> None:
        while some := self._next():
            try:
                self._decode(some)
            except BaseException:
                self._waiting.extendleft(reversed(some))  # to be failed
                raise

    def _next(self) -> list[Undecoded]:
        """Images to decode; waits for them. None are left at the end."""
        while not self._waiting and not self._closing:
            self._bell.wait()
        return [self._waiting.popleft() for _ in range(min(len(self._waiting), CODEC_BATCH))]

    def _decode(self, some: Sequence[Undecoded]) -> None:
        """Decode together; where that fails, each alone."""
        some = [one for one in some if not one.delivery.ended]
        if not some:
            return
        try:
            grids = range(len(self._decoder.manifest.codes))
            codes = [np.stack([one.delivery.pixels[grid][one.image] for one in some]) for grid in grids]
            decoded = self._decoder.decode(*codes)
        except Exception as error:
            if len(some) == 1:
                some[0].failed(EngineError(str(error)))
            report(logging.WARNING, "decoding %d images failed: %s", len(some), error)
            if len(some) > 1:
                for one in some:
                    self._decode([one])
        else:
            for one, image in zip(some, decoded, strict=True):
                one.images[one.image] = image
                one.done()

    def _answer(self, reason: PixelsnailError) -> None:
        """The loops have answered: every request is in the last one until all is decoded."""

    def _give_up_all(self, reason: PixelsnailError) -> None:
        self._error = reason
        self._fail_all(reason)

    def _fail_all(self, reason: PixelsnailError) -> None:
        while True:
            try:
                one = self._waiting.popleft()
            except IndexError:  # another thread may take some, too
                return
            one.failed(reason)

    def _release(self) -> None:
        self._waiting.clear()
