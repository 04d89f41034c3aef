"""One call of a pipeline in progress: its results so far, and how far it is. Mutable; used by one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.distributions import blank_images
from pixelsnail_infer.runtime.codecs.codec import Decoder
from pixelsnail_infer.runtime.drawing.prologue import CallConditions
from pixelsnail_infer.runtime.drawing.sampler import Progress, Sampler
from pixelsnail_infer.runtime.requests.request import Request

OnStageRow = Callable[[int, int, NDArray[Any], int], object]

__all__ = ["Generation", "OnStageRow", "Work", "codec_weight"]


class Work:
    """Counts what is done, and reports it."""

    def __init__(self, total: int, report: Progress | None) -> None:
        self._total, self._report = total, report
        self._done = 0

    def add(self, amount: int) -> None:
        """`amount` more is done."""
        self._done += amount
        if self._report is not None:
            self._report(self._done, self._total)

    def of_codec(self, weight: int) -> Progress:
        """What to pass as `progress` to a codec, each of whose images counts as much as `weight`."""
        before = 0

        def add(done: int, total: int) -> None:
            nonlocal before
            self.add((done - before) * weight)
            before = done

        return add


class Generation:
    """Draws batch after batch through all stages. `pixels` holds what every prior drew, `images` what was decoded."""

    def __init__(
        self,
        priors: Sequence[Sampler],
        links: Sequence[dict[str, int]],
        decoder: Decoder | None,
        requests: Sequence[Request],
        n: int,
        work: Work,
        on_row: OnStageRow | None,
    ) -> None:
        self._priors, self._links, self._decoder, self._requests = priors, links, decoder, requests
        self._work, self._on_row = work, on_row
        self._conditions = [CallConditions(request.conditions, n) for request in requests]  # without what is linked
        self.pixels: list[NDArray[Any]] = [blank_images(prior.manifest, n) for prior in priors]
        self.images: NDArray[np.float32] | None = None
        if decoder is not None:
            self.images = decoder.blank(n)

    def batch(self, images: slice) -> bool:
        """Draw and decode `images`; returns whether `on_row` asked to stop."""
        for stage in range(len(self._priors)):
            if self._stage(stage, images):
                return True
        if self._decoder is not None and self.images is not None:
            codes = [drawn[images] for drawn in self.pixels]
            progress = self._work.of_codec(codec_weight(self._priors))
            self.images[images] = self._decoder.decode(*codes, progress=progress)
        return False

    def drawn(self, images: slice) -> NDArray[np.float32] | None:
        """What was decoded of them, or what the last prior drew; None without priors."""
        found = self.pixels[-1] if self.images is None and self.pixels else self.images
        return None if found is None else found[images]

    def _stage(self, stage: int, images: slice) -> bool:
        prior, drawn = self._priors[stage], self.pixels[stage]
        request, conditions, some = self._requests[stage], self._conditions[stage], images
        if self._links[stage]:
            request = request[images]
            fed = {name: self.pixels[source][images] for name, source in self._links[stage].items()}
            conditions = CallConditions({**request.conditions, **fed}, request.n)
            some = slice(0, request.n)

        def each(row: int, pixels: NDArray[Any]) -> object:
            drawn[images, row] = pixels
            self._work.add(len(pixels) * prior.manifest.width)
            return self._on_row is not None and self._on_row(stage, row, pixels, images.start)

        return prior.draw_batch(request, conditions, some, each)


def codec_weight(priors: Sequence[Sampler]) -> int:
    """What encoding or decoding an image counts: a row of the last prior."""
    return priors[-1].manifest.width
