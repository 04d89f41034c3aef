"""What the sampling loop asks of an engine. One small protocol; the loop above it is the same for every engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from pixelsnail_infer.plan import Plan
from pixelsnail_infer.runtime.files.graphfile import GraphFile


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One graph input or output: NumPy dtype name, and sizes with None where they are free."""

    dtype: str
    shape: tuple[int | None, ...]


class Buffer(Protocol):
    """Memory of a fixed address that graphs read or write, with a host array beside or over it."""

    @property
    def array(self) -> NDArray[Any]:
        """The host array. The caller may read and write it, and must not replace it. Of bfloat16, which NumPy lacks,
        it holds the bits as uint16 (see `halves`)."""
        ...

    def push(self) -> None:
        """Make what was written to `array` visible to the graphs (nothing to do on the CPU)."""
        ...

    def pull(self) -> None:
        """Make what the graphs wrote visible in `array` (nothing to do on the CPU)."""
        ...


@runtime_checkable
class GrowingBuffer(Buffer, Protocol):
    """A buffer in the host's memory, of which graphs may also be bound to a part."""

    def beginning(self, shape: tuple[int, ...]) -> Buffer:
        """A buffer of this shape, and no more numbers, over the beginning of the memory."""
        ...


@runtime_checkable
class Sliceable(Protocol):
    """A buffer of which a part can be bound as well: those of the CPU can."""

    def prefix(self, size: int) -> Buffer:
        """A buffer over the first `size` entries of axis 0, in the same memory."""
        ...


class BoundGraph(Protocol):
    """A graph with every input and output tied to a buffer."""

    def run(self) -> None:
        """Run once, reading and writing the bound buffers. Not to be called by two threads at once. Raises
        `EngineError`."""
        ...


class Sweep(Protocol):
    """A bound step that draws whole rows."""

    def draw(self) -> NDArray[Any]:
        """Run the step at every column from the left; the pixels that it drew, [B, W] or [B, W, C], fresh. Rows, noise
        and what else the step reads are in its buffers. Raises `EngineError`."""
        ...


class Graph(Protocol):
    """A loaded graph: immutable, shared by all batches."""

    @property
    def inputs(self) -> Mapping[str, TensorInfo]: ...

    @property
    def outputs(self) -> Mapping[str, TensorInfo]: ...

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> BoundGraph:
        """Tie all inputs and outputs; a buffer that is bound as both is written in place."""
        ...


class Backend(Protocol):
    """An engine on one device."""

    @property
    def device(self) -> str: ...

    @property
    def plans(self) -> tuple[Plan, ...]:
        """What it can run: schedules, targets and precisions that go together."""
        ...

    def load(self, file: GraphFile) -> Graph:
        """Load a checked file. Raises `GraphFileError` when the engine refuses it."""
        ...

    def allocate(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        """A zero-filled buffer; `dtype` is float32, float16, bfloat16, int64 or bool. Raises `EngineError` when memory
        runs out."""
        ...

    def sweep(self, step: BoundGraph, column: Buffer, pixel: Buffer, width: int) -> Sweep:
        """What draws rows of `width` pixels by a step that was bound with `column`, int64 [1], and `pixel`, [B] or
        [B, C]; both are its own while it draws. Raises `EngineError`."""
        ...


@runtime_checkable
class WaveBackend(Backend, Protocol):
    """An engine that also runs wave graphs, whose number of lanes changes from run to run."""

    def first(self, buffer: Any, count: int) -> Buffer:
        """The first `count` entries along axis 0 of a buffer that `allocate` gave, in its memory."""
        ...
