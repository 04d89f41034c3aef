"""What one sampler works on: its graphs, and the buffers of the last batch and score pass. Mutable; used by one thread
at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.backends import Backend
from pixelsnail_infer.runtime.backends.graphs import Graphs
from pixelsnail_infer.runtime.backends.protocol import WaveBackend
from pixelsnail_infer.runtime.drawing.batch import Batch, buffer_bytes
from pixelsnail_infer.runtime.drawing.prologue import CallConditions
from pixelsnail_infer.runtime.drawing.scoring import SCORE_BATCH, ScorePass, score_bytes
from pixelsnail_infer.runtime.drawing.states import state_bytes
from pixelsnail_infer.runtime.drawing.wave_batch import WaveBatch, wave_bytes
from pixelsnail_infer.runtime.requests.memory import check_fits
from pixelsnail_infer.runtime.requests.request import split

__all__ = ["Workspace"]


class Workspace:
    """Buffers are kept while the batch size and the schedule stay; every call starts from fresh states."""

    def __init__(self, manifest: Manifest, backend: Backend, graphs: Graphs) -> None:
        self._manifest = manifest
        self._backend = backend
        self._graphs: Graphs | None = graphs
        self.batch: Batch | None = None
        self.wave: WaveBatch | None = None
        self._pass: ScorePass | None = None

    def prepared(self, conditions: CallConditions, images: slice, pixels: NDArray[Any], rows: int) -> Batch:
        """The batch for `images` of a call, its states as the `rows` leading rows of `pixels` [B, H, W, …] leave them;
        whatever an earlier or interrupted call left is gone."""
        batch = self.batch_of(images.stop - images.start)
        conditions.fill(images, batch.prologue)
        batch.states.reset()
        if rows:
            self._fill(batch, pixels, rows)
        return batch

    def batch_of(self, size: int) -> Batch:
        """The batch of `size` slots: the one that is there, or a new one in its place."""
        if self.batch is None or self.batch.size != size:
            self.batch = self.wave = None  # release the old buffers before the new ones are allocated
            check_fits(self._bytes(size), f"A batch of {shown(size)} images", "give a smaller max_batch")
            self.batch = Batch(self._manifest, self._backend, self._loaded(), size)
        return self.batch

    def prepared_wave(self, conditions: CallConditions, images: slice) -> WaveBatch:
        """The same for waves, which begin with the first row."""
        batch = self._wave_of(images.stop - images.start)
        conditions.fill(images, batch.prologue)
        batch.states.reset()
        return batch

    def _wave_of(self, size: int) -> WaveBatch:
        if self.wave is None or self.wave.size != size:
            self.batch = self.wave = None
            manifest, backend = self._manifest, self._backend
            assert manifest.wave is not None and isinstance(backend, WaveBackend)
            need = wave_bytes(manifest, manifest.wave, size)
            check_fits(need, f"A batch of {shown(size)} images", "give a smaller max_batch")
            self.wave = WaveBatch(manifest, backend, self._loaded(), size)
        return self.wave

    def growth(self, size: int) -> int:
        """Bytes that a batch of `size` slots takes beyond those of the batch, or the waves, that are there."""
        held = 0 if self.batch is None else self._bytes(self.batch.size)
        if self.wave is not None:
            assert self._manifest.wave is not None
            held += wave_bytes(self._manifest, self._manifest.wave, self.wave.size)
        return self._bytes(size) - held

    def pass_of(self, size: int) -> ScorePass:
        """The score pass of `size` images: the one that is there, or a new one in its place."""
        if self._pass is None or self._pass.size != size:
            self._pass = None
            need = score_bytes(self._manifest, size)
            check_fits(need, f"A batch of {size} images that are scored", "give a smaller max_batch")
            self._pass = ScorePass(self._manifest, self._backend, self._loaded(), size)
        return self._pass

    def warm_up(self, size: int, parts: tuple[str, ...], score: bool) -> None:
        """Allocate a batch of `size` slots, draw one row by each of `parts` ("step", "filtered"), and with `score` run
        the score graph."""
        batch, zeros = self.batch_of(size), self._zeros(size)
        batch.prologue.run(zeros)
        batch.states.reset()
        batch.run_row(0)
        for name in ("top_k", "top_p"):
            if name in batch.buffers:
                batch.write(name, 1)
        for part in parts:
            batch.sweep(part).draw()
        if score:
            some = min(size, SCORE_BATCH)
            scoring = self.pass_of(some)
            scoring.prologue.run({name: array[:some] for name, array in zeros.items()})
            scoring.run(np.zeros(1), 0)

    @property
    def engine(self) -> tuple[Backend, Graphs]:
        """What the buffers are of, and the loaded graphs."""
        return self._backend, self._loaded()

    def warm_up_waves(self, size: int) -> None:
        """Allocate a batch of `size` slots for waves, and run the graphs where most rows are live."""
        batch = self._wave_of(size)
        batch.prologue.run(self._zeros(size))
        batch.states.reset()
        time = batch.waves // 2 // batch.spec.span * batch.spec.span
        if batch.spec.span > 1:
            batch.run_ahead(time)
        batch.run(batch.places(time))

    def _zeros(self, size: int) -> dict[str, NDArray[Any]]:
        """Conditions that are zero."""
        return {spec.name: np.zeros((size, *spec.shape), spec.dtype) for spec in self._manifest.conditions}

    def close(self) -> None:
        """Release graphs and buffers; later calls raise."""
        self.batch = self.wave = self._pass = self._graphs = None

    def _fill(self, batch: Batch, pixels: NDArray[Any], rows: int) -> None:
        """Set the states by the score graph, which takes the prologue tensors that the batch has."""
        batch.states.reach(rows)
        results = batch.prologue.results()
        for images in split(len(pixels), SCORE_BATCH):
            score = self.pass_of(images.stop - images.start)
            score.prologue.load(results[images])
            score.run(pixels[images], rows)
            batch.states.load(score.states(), images)
        batch.states.publish()

    def _bytes(self, size: int) -> int:
        return state_bytes(self._manifest, size) + buffer_bytes(self._manifest, size)

    def _loaded(self) -> Graphs:
        if self._graphs is None:
            raise RequestError("This sampler is closed; load the model again.")
        return self._graphs
