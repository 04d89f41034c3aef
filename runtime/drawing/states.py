"""The mutable state of the slots: one buffer per state of the manifest, allocated once per batch size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.backends.halves import all_finite, as_held
from pixelsnail_infer.runtime.backends.protocol import Backend, Buffer


class SlotStates:
    """States of `size` slots. The graphs write them in place; one batch owns them and runs in one thread."""

    def __init__(self, manifest: Manifest, backend: Backend, size: int) -> None:
        self._specs = manifest.states
        self.buffers: dict[str, Buffer] = {
            spec.name: backend.allocate((size, *spec.shape), spec.dtype) for spec in manifest.states
        }

    def reset(self) -> None:
        """Fill every state of every slot with its initial value: what a slot must hold before its first row."""
        for spec in self._specs:
            self.buffers[spec.name].array[...] = as_held(spec.initial, spec.dtype)
            self.buffers[spec.name].push()

    def load(self, arrays: Mapping[str, NDArray[Any]], slots: slice) -> None:
        """Copy states [b, N, S, C] by name (as the score graph gives them) into `slots`. Call `publish` afterwards."""
        for name, buffer in self.buffers.items():
            buffer.array[slots] = arrays[name]

    def publish(self) -> None:
        """Make what `load` copied visible to the graphs."""
        for buffer in self.buffers.values():
            buffer.push()

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """A copy of every state, for comparison."""
        for buffer in self.buffers.values():
            buffer.pull()
        return {name: buffer.array.copy() for name, buffer in self.buffers.items()}

    def differing(self, before: Mapping[str, NDArray[Any]]) -> list[str]:
        """Names of the states whose bits differ from a snapshot, or that hold a number that is not finite."""
        for buffer in self.buffers.values():
            buffer.pull()
        after, dtypes = {name: one.array for name, one in self.buffers.items()}, {s.name: s.dtype for s in self._specs}
        return [name for name, held in after.items()
                if not (_same(held, before[name]) and all_finite(held, dtypes[name]))]  # fmt: skip


def state_bytes(manifest: Manifest, size: int) -> int:
    """Exact bytes of the states of `size` slots."""
    return size * sum(spec.bytes_per_slot for spec in manifest.states)


def _same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    """To the bit, compared in place: copies of all states at every pixel took most of a replay that runs twice."""
    bits = f"i{left.itemsize}"
    return np.array_equal(left.view(bits), right.view(bits))
