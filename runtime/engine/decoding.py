"""The last stage of a pipeline: a thread that decodes images as their codes are finished."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import EngineError
from pixelsnail_infer.runtime.codecs.codec import CODEC_BATCH, Decoder
from pixelsnail_infer.runtime.engine.delivery import Delivery
from pixelsnail_infer.runtime.engine.log import log

__all__ = ["Decoding", "Undecoded"]


class Undecoded(NamedTuple):
    """Image number `image` of a request, all codes of which are drawn: `done()` is called when it lies in `images`,
    `failed(error)` when the decoder fails for it alone."""

    delivery: Delivery
    images: NDArray[np.float32]
    image: int
    done: Callable[[], object]
    failed: Callable[[EngineError], object]


class Decoding:
    """Takes images from any thread; its own decodes them, some at a time, in the order in which they came."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._lock = threading.Condition()
        self._waiting: deque[Undecoded] = deque()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="pixelsnail-decoder", daemon=True)
        self._thread.start()

    def add(self, image: Undecoded) -> None:
        """Decode an image."""
        with self._lock:
            self._waiting.append(image)
            self._lock.notify_all()

    def close(self, drain: bool, timeout: float | None = None) -> bool:
        """End when nothing waits; without `drain` what waits is dropped, its requests having ended elsewhere. Whether
        the thread has ended within `timeout` seconds."""
        with self._lock:
            self._closing = True
            if not drain:
                self._waiting.clear()
            self._lock.notify_all()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while some := self._next():
            self._decode(some)

    def _next(self) -> list[Undecoded]:
        """Images to decode; waits for them. None at the end."""
        with self._lock:
            while not self._waiting and not self._closing:
                self._lock.wait()
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
            log.warning("decoding %d images failed: %s", len(some), error)
            if len(some) == 1:
                some[0].failed(EngineError(str(error)))
            else:
                for one in some:
                    self._decode([one])
        else:
            for one, image in zip(some, decoded, strict=True):
                one.images[one.image] = image
                one.done()
