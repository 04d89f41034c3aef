"""The prologue: the tensors that a batch's slots read, made from conditions once for every set of them.

Images of a call whose conditions are all equal, byte for byte, share a set. The prologue graph runs for the sets that a
batch meets for the first time, all in one run, and the results are copied to the slots. Where nothing is shared it
writes straight into the slots' buffers. Results that a later batch of the call needs again are kept, of no more sets
than the batch has slots: so sharing holds at most twice as much as the slots' own prologue tensors besides them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.backends.graphs import Graphs
from pixelsnail_infer.runtime.backends.protocol import Backend
from pixelsnail_infer.runtime.drawing.states import prefixes

Results = dict[str, NDArray[Any]]


class Prologue:
    """The condition buffers of `size` images, the prologue tensors made from them, and the graph between."""

    def __init__(self, manifest: Manifest, backend: Backend, graphs: Graphs, size: int) -> None:
        self.size = size
        self.tensors = {spec.name: backend.allocate((size, *spec.shape), spec.dtype) for spec in manifest.prologue}
        self._inputs = {spec.name: backend.allocate((size, *spec.shape), spec.dtype) for spec in manifest.conditions}
        self._bound = graphs("prologue").bind(self._inputs, self.tensors) if manifest.conditions else None
        self._make = partial(Prologue, manifest, backend, graphs)
        self._fewer: Prologue | None = None

    def run(self, conditions: Mapping[str, NDArray[Any]]) -> None:
        """Fill the prologue tensors from validated conditions, each [size, …]."""
        if self._bound is None:
            return
        for name, buffer in self._inputs.items():
            buffer.array[...] = conditions[name]
            buffer.push()
        self._bound.run()

    def results(self) -> list[Results]:
        """Every image's prologue tensors by name, each [1, …]: views, overwritten by the next run."""
        for buffer in self.tensors.values():
            buffer.pull()
        each = (slice(image, image + 1) for image in range(self.size))
        return [{name: buffer.array[one] for name, buffer in self.tensors.items()} for one in each]

    def load(self, results: Sequence[Results]) -> None:
        """Copy the prologue tensors of `size` images, each [1, …], into the buffers."""
        for name, buffer in self.tensors.items():
            for slot, one in enumerate(results):
                buffer.array[slot] = one[name][0]
            buffer.push()

    def prefix(self, size: int) -> Prologue:
        """The tensors of the first `size` images, over the same memory; it cannot run."""
        part = copy(self)
        part.size, part.tensors, part._bound = size, prefixes(self.tensors, size), None
        return part

    def fewer(self, size: int) -> Prologue:
        """A prologue of `size` images with buffers of its own; the last one is kept for the next call."""
        if self._fewer is None or self._fewer.size != size:
            self._fewer = None  # release the old buffers before the new ones are allocated
            self._fewer = self._make(size)
        return self._fewer


class CallConditions:
    """The checked conditions of one call's n images, and the prologue results that its later batches need again.

    Mutable: `fill` is called for consecutive slices, once each, in order. One per call; used by one thread.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], n: int) -> None:
        self._arrays = dict(arrays)
        self._sets = condition_sets(self._arrays, n)
        self._last = {int(number): image for image, number in enumerate(self._sets)}
        self._kept: dict[int, Results] = {}

    def fill(self, images: slice, prologue: Prologue) -> None:
        """Make the tensors of `prologue` those of `images`, running the graph for sets that have no results yet."""
        if not self._arrays:
            return
        numbers = self._sets[images].tolist()
        missing = [number for number in dict.fromkeys(numbers) if number not in self._kept]
        if len(missing) == len(numbers):
            prologue.run({name: array[images] for name, array in self._arrays.items()})
            later = any(self._last[number] >= images.stop for number in missing)
            found = self._kept | (dict(zip(missing, prologue.results(), strict=True)) if later else {})
        else:
            chosen = [images.start + numbers.index(number) for number in missing]
            found = self._kept | self._computed(missing, chosen, prologue)
            prologue.load([found[number] for number in numbers])
        wanted = [number for number in found if self._last[number] >= images.stop][: len(numbers)]
        self._kept = found = {number: found[number] for number in wanted}  # the others are released before any copy
        self._kept = {number: _owned(held) for number, held in found.items()}

    def _computed(self, numbers: list[int], images: list[int], slots: Prologue) -> dict[int, Results]:
        """Fresh results of the sets `numbers`, whose conditions are those of `images`."""
        if not numbers:
            return {}
        prologue = slots.fewer(len(numbers))
        prologue.run({name: array[images] for name, array in self._arrays.items()})
        return dict(zip(numbers, prologue.results(), strict=True))


def condition_sets(arrays: Mapping[str, NDArray[Any]], n: int) -> NDArray[np.int64]:
    """The number of each image's set, int64 [n], counted from 0 in order of first appearance: images have one number
    when their bytes in all of `arrays` [n, …] have one SHA-256."""
    varying = [array for array in arrays.values() if n > 1 and array.strides[0] != 0]  # 0: one value for all images
    known: dict[bytes, int] = {}
    numbers = np.empty(n, np.int64)
    for image in range(n):
        numbers[image] = known.setdefault(digest_of(varying, image), len(known))
    return numbers


def digest_of(arrays: Iterable[NDArray[Any]], image: int) -> bytes:
    """The SHA-256 of one image's bytes in all arrays [n, …]."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(array[image].tobytes())
    return digest.digest()


def _owned(results: Results) -> Results:
    """Results whose arrays are no views of buffers that the next run overwrites."""
    return {name: held if held.base is None else held.copy() for name, held in results.items()}
