"""The wavefront: waves in order of time, each of one pixel of every live row; rows are given as they are finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.distributions import Distribution, distribution_of
from pixelsnail_infer.errors import VerificationError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.drawing.wave_batch import Places, WaveBatch
from pixelsnail_infer.runtime.requests.request import Request
from pixelsnail_infer.wave import most_live

__all__ = ["draw_waves", "replay_waves"]

At = Callable[[Places], None]


def draw_waves(manifest: Manifest, batch: WaveBatch, request: Request) -> Iterator[NDArray[Any]]:
    """Draw a batch whose states are those before the first row; yields the pixels of every row in order, fresh, [B, W]
    or [B, W, C]."""
    noise = _LiveNoise(manifest, batch, request)
    known = bool(request.use_given.any())
    temperature = np.tile(request.temperature, len(batch.buffers["temperature"].array) // batch.size)
    for name, value in (("temperature", temperature), ("use_given", False), ("given", 0)):
        batch.buffers[name].array[...] = value
        batch.buffers[name].push()
    pixels = np.empty_like(request.given)

    def fill(places: Places) -> None:
        row, col = places
        noise.fill(row, col)
        if known:
            for name, held in (("given", request.given), ("use_given", request.use_given)):
                batch.lanes(name, len(row))[...] = held[:, row, col].swapaxes(0, 1)

    def take(places: Places) -> None:
        batch.buffers["pixel"].pull()
        row, col = places
        pixels[:, row, col] = batch.lanes("pixel", len(row)).swapaxes(0, 1)

    for i in _finished(manifest, batch, fill, take):
        yield pixels[:, i].copy()


def replay_waves(manifest: Manifest, batch: WaveBatch, pixels: NDArray[Any], twice: bool
                 ) -> Iterator[NDArray[np.float32]]:  # fmt: skip
    """Feed `pixels` [B, H, W] or [B, H, W, C] to the wave graphs; yields the logits (or a mixture's parameters) of each
    row, float32 [B, W, n]. With `twice` every graph runs a second time, and `VerificationError` is raised unless
    results and states stay the same to the bit and finite."""
    for name, value in (("temperature", 0), ("noise", 0), ("use_given", True)):
        batch.buffers[name].array[...] = value
        batch.buffers[name].push()
    logits = np.empty((*pixels.shape[:3], distribution_of(manifest).parameters), np.float32)

    def fill(places: Places) -> None:
        row, col = places
        batch.lanes("given", len(row))[...] = pixels[:, row, col].swapaxes(0, 1)

    def take(places: Places) -> None:
        row, col = places
        batch.buffers["logits"].pull()
        logits[:, row, col] = batch.lanes("logits", len(row)).swapaxes(0, 1)

    for i in _finished(manifest, batch, fill, take, twice):
        yield logits[:, i]


def _finished(manifest: Manifest, batch: WaveBatch, fill: At, take: At, twice: bool = False) -> Iterator[int]:
    """Run all waves, with `fill(places)` before each and `take(places)` after it, where it draws; yields rows once they
    are whole."""
    height, width = manifest.shape
    span, done = batch.spec.span, 0
    for time in range(batch.waves):
        if span > 1 and time % span == 0:
            batch.run_ahead(time)
        row, col = places = batch.places(time)
        drawn = row[col >= 0], col[col >= 0]  # the first lanes, for later rows are at earlier columns
        fill(drawn)
        batch.run(places)
        if twice:
            _run_again(batch, len(row), int(col[0]))
        take(drawn)
        while done < height and batch.column(time, done) >= width - 1:
            yield done
            done += 1


def _run_again(batch: WaveBatch, rows: int, column: int) -> None:
    batch.buffers["logits"].pull()
    before, states = batch.lanes("logits", rows).tobytes(), batch.states.snapshot()
    batch.bound("wave", rows * batch.size).run()
    batch.buffers["logits"].pull()
    changed = [] if batch.lanes("logits", rows).tobytes() == before else ["logits"]
    changed += batch.states.differing(states)
    if changed:
        raise VerificationError(
            f"The wave graph, run twice where {rows} rows are live and the first stands at column {column}, changed "
            f"{', '.join(changed)} or left a number that is not finite; the graphs break the contract: export the "
            "checkpoint again."
        )


class _LiveNoise:
    """Noise of the rows that are live, drawn when a row begins. A slot at temperature 0 or with a wholly known row
    needs none and gets zeros."""

    def __init__(self, manifest: Manifest, batch: WaveBatch, request: Request) -> None:
        self._law: Distribution = distribution_of(manifest)
        self._batch, self._request = batch, request
        self._rows = most_live(manifest.shape, batch.spec.slope)
        self._held = np.zeros((self._rows, manifest.width, batch.size, self._law.noise_width), np.float32)
        self._begun = 0

    def fill(self, row: NDArray[np.int64], col: NDArray[np.int64]) -> None:
        """The noise of a wave's lanes into its buffer."""
        while len(row) and self._begun <= row[-1]:
            self._begin(self._begun)
            self._begun += 1
        self._batch.lanes("noise", len(row))[...] = self._held[row % self._rows, col]

    def _begin(self, row: int) -> None:
        request, held = self._request, self._held[row % self._rows]
        idle = (request.temperature == 0) | request.use_given[:, row].all(axis=1)
        for slot in range(self._batch.size):
            one = slice(slot, slot + 1)
            held[:, slot] = 0
            if not idle[slot]:
                held[:, slot] = self._law.noise_row(request.keys[one], row, held.shape[0])[0]
