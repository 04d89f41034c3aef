"""The slots: buffers for the largest batch, the images in them, and one row of all of these at a time.

Smaller batches of the ladder are the first slots of the same memory. So to go to another size copies nothing; only an
image in a slot beyond a smaller size is moved into a hole. A backend whose buffers cannot be bound in part always runs
the largest size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.distributions import distribution_of
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.backends.graphs import Graphs
from pixelsnail_infer.runtime.backends.protocol import Backend, Sliceable
from pixelsnail_infer.runtime.drawing.batch import Batch
from pixelsnail_infer.runtime.drawing.scoring import ScorePass
from pixelsnail_infer.runtime.engine.job import Image

__all__ = ["Slots"]


class Slots:
    """Mutable; used by one thread at a time. After an error of the backend, `clear` and let images join again."""

    def __init__(
        self,
        manifest: Manifest,
        backend: Backend,
        graphs: Graphs,
        ladder: Sequence[int],
        *,
        filters: bool,
        completion: bool,
    ) -> None:
        self._batch = batch = Batch(manifest, backend, graphs, ladder[-1])
        buffers = [*batch.buffers.values(), *batch.states.buffers.values(), *batch.prologue.tensors.values()]
        parts = ladder[:-1] if all(isinstance(buffer, Sliceable) for buffer in buffers) else ()
        self._batches = [*(batch.prefix(size) for size in parts), batch]  # ascending
        self._prologue = batch.prologue.fewer(1) if manifest.conditions else None
        self._score = ScorePass(manifest, backend, graphs, 1) if completion else None
        self._distribution = distribution_of(manifest)
        self._width = manifest.width
        self._rows = np.zeros(ladder[-1], np.int64)
        self._filters = np.zeros(ladder[-1], bool)  # which slots need the filtered step
        self.images: list[Image | None] = [None] * ladder[-1]
        self.ladder = tuple(part.size for part in self._batches)  # the batch sizes that are drawn
        batch.states.reset()
        for part in self._batches:  # bound now to caches as short as can be, to longer ones when first reached
            part.sweep("step")
            if filters:
                part.sweep("filtered")

    def release(self) -> None:
        """Free all buffers. Nothing can be drawn afterwards."""
        self.clear()
        del self._batch, self._batches, self._prologue, self._score

    @property
    def live(self) -> list[Image]:
        """The images in slots."""
        return [image for image in self.images if image is not None]

    @property
    def free(self) -> int:
        """Slots without an image."""
        return self.images.count(None)

    def join(self, image: Image) -> None:
        """Give an image a slot, which must be free, from its row `image.row` on; rows above are known ones. Raises what
        the backend raises; then the image has no slot."""
        slot = self.images.index(None)
        self._condition(image, slot)
        self._start(image, slot)
        self._set(image, slot)
        self.images[slot] = image

    def leave(self, image: Image) -> None:
        """Free the slot of an image."""
        slot = self.images.index(image)
        self.images[slot], self._filters[slot], self._rows[slot] = None, False, 0

    def clear(self) -> list[Image]:
        """Free all slots; the images that were there."""
        live = self.live
        self.images, self._filters[:], self._rows[:] = [None] * len(self.images), False, 0
        return live

    def draw(self) -> tuple[int, list[tuple[Image, NDArray[Any]]]]:
        """Draw one row of every image, each its own. The size of the batch, and each image with its pixels, [W] or
        [W, C], which are views of a fresh array."""
        count = len(self.live)
        batch = next(batch for batch in self._batches if batch.size >= count)
        self._pack(batch.size)
        placed = [(slot, image) for slot, image in enumerate(self.images) if image is not None]
        for slot, image in placed:
            self._feed(image, slot)
        for name in ("noise", "given", "use_given"):
            self._batch.buffers[name].push()
        self._batch.states.shorten(int(self._rows.max()) + 1)
        batch.run_row(self._rows[: batch.size])
        pixels = batch.sweep("filtered" if self._filters.any() else "step").draw()
        return batch.size, [(image, pixels[slot]) for slot, image in placed]

    def _condition(self, image: Image, slot: int) -> None:
        """Fill the slot's prologue tensors: those of a slot with equal conditions are copied."""
        if self._prologue is None:
            return
        tensors = self._batch.prologue.tensors
        held = (k for k, other in enumerate(self.images) if other is not None and other.digest == image.digest)
        like = next(held, None)
        if like is None:
            self._prologue.run(image.conditions())
            results = self._prologue.results()[0]
        for name, buffer in tensors.items():
            buffer.array[slot] = results[name][0] if like is None else buffer.array[like]
            buffer.push()

    def _start(self, image: Image, slot: int) -> None:
        """Set the slot's states as they stand before row `image.row`."""
        states, one = self._batch.states, slice(slot, slot + 1)
        states.fetch()
        states.reset(one)
        if image.row:
            assert self._score is not None
            tensors = self._batch.prologue.tensors
            self._score.prologue.load([{name: buffer.array[one] for name, buffer in tensors.items()}])
            self._score.run(image.job.request.given[image.index : image.index + 1], image.row)
            states.reach(image.row)
            states.load(self._score.states(), one)
            states.publish()

    def _set(self, image: Image, slot: int) -> None:
        """Write what is the same in every row of an image."""
        request, index = image.job.request, image.index
        values: dict[str, Any] = {"temperature": request.temperature[index], "given": 0, "use_given": False}
        if self._distribution.filters:
            values |= {"top_k": request.top_k[index], "top_p": request.top_p[index]}
            self._filters[slot] = request.top_k[index] < self._distribution.parameters or request.top_p[index] < 1
        for name, value in values.items():
            buffer = self._batch.buffers[name]
            buffer.array[slot] = value
            buffer.push()

    def _feed(self, image: Image, slot: int) -> None:
        """Write what the image's next row takes; `draw` pushes it."""
        request, index, row, buffers = image.job.request, image.index, image.row, self._batch.buffers
        self._rows[slot] = row
        whole = False
        if image.job.known:
            use = request.use_given[index, row]
            buffers["given"].array[slot] = request.given[index, row]
            buffers["use_given"].array[slot] = use
            whole = bool(use.all())
        noise, one = buffers["noise"].array, slice(slot, slot + 1)
        if whole or request.temperature[index] == 0:
            noise[slot] = 0
        else:
            self._distribution.noise_row(request.keys[index : index + 1], row, self._width, out=noise[one])

    def _pack(self, size: int) -> None:
        """Move images from slots beyond `size` into holes before it."""
        beyond = [slot for slot in range(size, len(self.images)) if self.images[slot] is not None]
        if not beyond:
            return
        states, tensors = self._batch.states, self._batch.prologue.tensors.values()
        states.fetch()
        for slot in beyond:
            image, hole = self.images[slot], self.images.index(None)
            assert image is not None and hole < size
            states.move(slot, hole)
            for buffer in tensors:
                buffer.array[hole] = buffer.array[slot]
            self._set(image, hole)
            self.images[hole], self.images[slot] = image, None
            self._filters[slot], self._rows[slot] = False, 0
        for buffer in tensors:
            buffer.push()
        states.publish()
