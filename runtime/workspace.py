"""What one sampler works on: its graphs, and the buffers of the last batch and score pass. Mutable; used by one thread
at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.backends import Backend
from pixelsnail_infer.runtime.batch import Batch
from pixelsnail_infer.runtime.loop import draw_rows, replay_rows
from pixelsnail_infer.runtime.prologue import CallConditions, Graphs
from pixelsnail_infer.runtime.request import Request
from pixelsnail_infer.runtime.scoring import SCORE_BATCH, ScorePass

__all__ = ["Workspace", "split"]


class Workspace:
    """Buffers are kept while the batch size stays; every call starts from fresh states."""

    def __init__(self, manifest: Manifest, backend: Backend, graphs: Graphs) -> None:
        self._manifest = manifest
        self._backend = backend
        self._graphs: Graphs | None = graphs
        self.batch: Batch | None = None
        self._pass: ScorePass | None = None

    def draw(self, request: Request, conditions: CallConditions, images: slice) -> Iterator[NDArray[Any]]:
        """Every row of the batch `images` of a call, known leading rows first; each [b, W] or [b, W, C], fresh.

        `request` and `conditions` are those of the whole call.
        """
        some = request[images]
        known = some.leading_rows() if "score" in self._manifest.files else 0
        for i in range(known):
            yield some.given[:, i].copy()
        if known == self._manifest.height:
            return
        batch = self.batch_of(some.n)
        batch.begin(conditions, images)
        if known:
            self._fill(batch, some.given, known)
        yield from draw_rows(self._manifest, batch, some, known)

    def replay(
        self, pixels: NDArray[Any], conditions: CallConditions, images: slice, part: str, first: int, twice: bool
    ) -> Iterator[NDArray[np.float32]]:
        """Logits of rows `first` … H-1 of the batch `images` of `pixels`, the rows before filled in: see `replay_rows`.
        """
        batch = self.batch_of(images.stop - images.start)
        batch.begin(conditions, images)
        if first:
            self._fill(batch, pixels[images], first)
        yield from replay_rows(self._manifest, batch, pixels[images], part, first, twice)

    def score(self, pixels: NDArray[Any], conditions: CallConditions, images: slice) -> NDArray[np.float32]:
        """Log-probabilities [b, H, W] of the batch `images` of `pixels`; overwritten by the next call."""
        score = self.pass_of(images.stop - images.start)
        conditions.fill(images, score.prologue)
        score.run(pixels[images], 0)
        return score.logprob()

    def batch_of(self, size: int) -> Batch:
        """The batch of `size` slots: the one that is there, or a new one in its place."""
        if self.batch is None or self.batch.size != size:
            self.batch = None  # release the old buffers before the new ones are allocated
            self.batch = Batch(self._manifest, self._backend, self._loaded(), size)
        return self.batch

    def pass_of(self, size: int) -> ScorePass:
        """The score pass of `size` images: the one that is there, or a new one in its place."""
        if self._pass is None or self._pass.size != size:
            self._pass = None
            self._pass = ScorePass(self._manifest, self._backend, self._loaded(), size)
        return self._pass

    def close(self) -> None:
        """Release graphs and buffers; later calls raise."""
        self.batch = self._pass = self._graphs = None

    def _fill(self, batch: Batch, pixels: NDArray[Any], known: int) -> None:
        """Set the states as the `known` leading rows of `pixels` [B, H, W, …] leave them, by the score graph, which
        takes the prologue tensors that the batch has."""
        results = batch.prologue.results()
        for images in split(len(pixels), SCORE_BATCH):
            score = self.pass_of(images.stop - images.start)
            score.prologue.load(results[images])
            score.run(pixels[images], known)
            batch.states.load(score.states(), images)
        batch.states.publish()

    def _loaded(self) -> Graphs:
        if self._graphs is None:
            raise RequestError("This sampler is closed; load the model again.")
        return self._graphs


def split(n: int, limit: int) -> Iterator[slice]:
    """Consecutive slices of at most `limit` that cover 0 … n-1."""
    return (slice(first, min(first + limit, n)) for first in range(0, n, limit))
