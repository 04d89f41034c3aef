"""The mutable state of the slots: one buffer per state of the manifest, allocated once per batch size.

Attention reads all of a cache at every pixel, so caches that graphs take of any length are kept short. At first they
hold the first few rows, `[B, heads, L, d]` at the beginning of their memory; when a batch comes to a row beyond, the
entries are moved to where they lie in a longer cache.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.manifest import Manifest, WaveSpec
from pixelsnail_infer.runtime.backends.halves import all_finite, as_held
from pixelsnail_infer.runtime.backends.protocol import Backend, Buffer, GrowingBuffer, Sliceable

_LENGTHS = 16  # at most; more of them are no faster, and each is bound and warmed up by itself
_SHORTEST = 128  # positions: below it attention costs little


class SlotStates:
    """States of `size` slots, those of row and step or those of waves. The graphs write them in place; one batch owns
    them and runs in one thread.

    `growing` names the states of which graphs take a beginning along axis 2. `buffers` has every state as it lies now,
    and graphs are bound to each `level` once.
    """

    def __init__(
        self, described: Manifest | WaveSpec, backend: Backend, size: int, growing: Collection[str] = ()
    ) -> None:
        self._specs = described.states
        held = {spec.name: backend.allocate((size, *spec.shape), spec.dtype) for spec in self._specs}
        self._growing = [spec for spec in self._specs
                         if spec.name in growing and isinstance(held[spec.name], GrowingBuffer)]  # fmt: skip
        self._width = 0
        self._lengths: tuple[int, ...] = (0,)
        if self._growing:
            assert isinstance(described, Manifest)
            self._width, self._lengths = described.width, lengths(described.shape)
        self._levels = [held | self._beginnings(held, length) for length in self._lengths]
        self._lying = [0]  # the level, which parts of the slots share

    @property
    def level(self) -> int:
        """How the caches lie: as in `lengths`."""
        return self._lying[0]

    @level.setter
    def level(self, level: int) -> None:
        self._lying[0] = level

    @property
    def buffers(self) -> dict[str, Buffer]:
        """The buffer of every state, [B, N, S, C]."""
        return self._levels[self.level]

    def reset(self, slots: slice | None = None) -> None:
        """Fill every state of `slots` with its initial value: what a slot must hold before its first row. Of all slots
        (None) the caches become as short as can be."""
        if slots is None:
            slots, self.level = slice(None), 0
        for spec in self._specs:
            self.buffers[spec.name].array[slots] = as_held(spec.initial, spec.dtype)
            self.buffers[spec.name].push()

    def reach(self, rows: int) -> None:
        """Make caches long enough for `rows` rows, 0 … H; what they hold stays. With H they get their full length."""
        level = self._level_of(rows)
        if level > self.level:
            for spec in self._growing:
                short, long = (self._levels[one][spec.name].array for one in (self.level, level))
                _spread(short, long, as_held(spec.initial, spec.dtype))
            self.level = level

    def shorten(self, rows: int) -> None:
        """Make caches no longer than `rows` rows need; what they hold of those stays."""
        level = self._level_of(rows)
        if level < self.level:
            for spec in self._growing:
                short, long = (self._levels[one][spec.name].array for one in (level, self.level))
                _draw_in(short, long)
            self.level = level

    def _level_of(self, rows: int) -> int:
        return next(level for level, length in enumerate(self._lengths) if length >= rows * self._width)

    def fetch(self) -> None:
        """Make what the graphs wrote visible to the host: before only some slots are reset, loaded or moved."""
        for buffer in self.buffers.values():
            buffer.pull()

    def prefix(self, size: int) -> SlotStates:
        """The first `size` slots, over the same memory; their caches are as long as those of all slots."""
        part = copy(self)
        part._levels = [prefixes(buffers, size) for buffers in self._levels]
        return part

    def load(self, arrays: Mapping[str, NDArray[Any]], slots: slice) -> None:
        """Copy states [b, N, S, C] by name (as the score graph gives them) into `slots`, of caches that were not made
        long enough only the beginning. Call `publish` afterwards."""
        for name, buffer in self.buffers.items():
            buffer.array[slots] = arrays[name][:, :, : buffer.array.shape[2]]

    def publish(self) -> None:
        """Make what `load` copied visible to the graphs."""
        for buffer in self.buffers.values():
            buffer.push()

    def move(self, source: int, target: int) -> None:
        """Copy the states of one slot over those of another. Call `publish` afterwards."""
        for buffer in self.buffers.values():
            buffer.array[target] = buffer.array[source]

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

    def _beginnings(self, held: Mapping[str, Buffer], length: int) -> dict[str, Buffer]:
        """The caches that grow, of this length."""
        found: dict[str, Buffer] = {}
        for spec in self._growing:
            buffer, (heads, _, width) = held[spec.name], spec.shape
            assert isinstance(buffer, GrowingBuffer)
            found[spec.name] = buffer.beginning((len(buffer.array), heads, length, width))
        return found


def lengths(shape: tuple[int, int]) -> tuple[int, ...]:
    """How long caches of a canvas [H, W] may be: whole rows, the longest all of them."""
    height, width = shape
    rows = max(-(-height // _LENGTHS), -(-_SHORTEST // width))
    return tuple(min(end, height) * width for end in range(rows, height + rows, rows))


def state_bytes(manifest: Manifest, size: int) -> int:
    """Exact bytes of the states of `size` slots."""
    return size * sum(spec.bytes_per_slot for spec in manifest.states)


def _spread(short: NDArray[Any], long: NDArray[Any], initial: NDArray[Any]) -> None:
    """Move the entries of a cache [B, N, S, C] to their places in a longer one that begins at the same address, and
    fill the rest. The last slot goes first: nothing is written before it was read."""
    length = short.shape[2]
    for slot in reversed(range(len(short))):
        held = short[slot].copy()
        long[slot, :, :length] = held
        long[slot, :, length:] = initial


def _draw_in(short: NDArray[Any], long: NDArray[Any]) -> None:
    """The other way round: the first slot goes first."""
    for slot in range(len(short)):
        short[slot] = long[slot, :, : short.shape[2]].copy()


def prefixes(buffers: Mapping[str, Buffer], size: int) -> dict[str, Buffer]:
    """The first `size` entries of buffers that are `Sliceable`, over the same memory."""
    return {name: buffer.prefix(size) for name, buffer in buffers.items() if isinstance(buffer, Sliceable)}


def _same(left: NDArray[Any], right: NDArray[Any]) -> bool:
    """To the bit, compared in place: copies of all states at every pixel took most of a replay that runs twice."""
    bits = f"i{left.itemsize}"
    return np.array_equal(left.view(bits), right.view(bits))
