"""PyTorch on the CPU: archives of TorchScript modules, over buffers that are NumPy memory."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelsnail_infer.errors import EngineError, GraphFileError
from pixelsnail_infer.plan import DEFAULT_PLAN, HALF_PLANS, INT8_PLAN, Plan
from pixelsnail_infer.runtime.backends.host import aligned_zeros, beginning_of, check_threads, no_room, reason_of
from pixelsnail_infer.runtime.backends.protocol import BoundGraph, Buffer, Graph, Sweep, TensorInfo
from pixelsnail_infer.runtime.backends.sweeps import StepByStep
from pixelsnail_infer.runtime.backends.torch_products import half_products
from pixelsnail_infer.runtime.files.archive_code import KINDS
from pixelsnail_infer.runtime.files.graphfile import GraphFile

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int64": torch.int64,
          "bool": torch.bool}  # fmt: skip


class TorchBackend:
    """Archives on the CPU. `threads` is how many one run uses; None is PyTorch's own setting.

    PyTorch knows one number of threads for the process. It is set while a graph runs, where it differs, and put back.
    Modules run as they are written: no fuser looks at them, so that the first runs give the same bits as later ones.
    Half precision runs here for checking only, see `torch_products`.
    """

    device = "cpu"
    place = torch.device("cpu")
    plans: tuple[Plan, ...] = (DEFAULT_PLAN, *HALF_PLANS, INT8_PLAN)

    def __init__(self, threads: int | None = None) -> None:
        check_threads(threads)
        self.threads = threads
        self._archive: tuple[GraphFile, Any] | None = None

    def load(self, file: GraphFile) -> Graph:
        """A part of a checked archive, which is read once for all its parts. Raises `GraphFileError`."""
        if file.part is None:
            raise GraphFileError(f"{file.name} is no TorchScript archive; leave the backend out, or export one.")
        if self._archive is None or self._archive[0].stamp != file.stamp or self._archive[0].source != file.source:
            self._archive = file, self._read(file)
        return self._graph(_part(self._archive[1], file), file)

    def sweep(self, step: BoundGraph, column: Buffer, pixel: Buffer, width: int) -> Sweep:
        """The host writes columns and reads pixels."""
        return StepByStep(step, column, pixel, width)

    def allocate(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        """A zero-filled buffer. Raises `EngineError` when there is not enough memory."""
        try:
            return self._buffer(shape, dtype)
        except (RuntimeError, MemoryError) as error:
            raise no_room(shape, dtype, self.device, error) from error

    def _read(self, file: GraphFile) -> Any:
        source = io.BytesIO(file.source) if isinstance(file.source, bytes) else str(file.source)
        try:
            module = torch.jit.load(source, map_location=self.place)
        except Exception as error:
            raise GraphFileError(
                f"{file.name} cannot be loaded by PyTorch {torch.__version__} ({reason_of(error)}); install the "
                "version that wrote it or a newer one, or export the checkpoint again."
            ) from error
        file.expect_unchanged()
        return module.eval()

    def _graph(self, module: Any, file: GraphFile) -> Graph:
        return TorchGraph(module, file, self.threads)

    def _buffer(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        return HostBuffer(shape, dtype)


class HostBuffer:
    """NumPy memory with a tensor over it: new memory, or the beginning of `memory`."""

    __slots__ = ("_dtype", "array", "tensor")

    def __init__(self, shape: tuple[int, ...], dtype: str, memory: NDArray[Any] | None = None) -> None:
        self._dtype = dtype
        self.array = aligned_zeros(shape, dtype) if memory is None else beginning_of(memory, shape)
        self.tensor = torch.from_numpy(self.array).view(DTYPES[dtype])

    def beginning(self, shape: tuple[int, ...]) -> HostBuffer:
        """See `protocol.GrowingBuffer`."""
        return HostBuffer(shape, self._dtype, self.array)

    def prefix(self, size: int) -> HostBuffer:
        """See `protocol.Sliceable`."""
        part = HostBuffer.__new__(HostBuffer)
        part._dtype, part.array, part.tensor = self._dtype, self.array[:size], self.tensor[:size]
        return part

    def push(self) -> None:
        """Nothing to do: the graphs read this memory."""

    def pull(self) -> None:
        """Nothing to do: the graphs write this memory."""


class TorchGraph:
    """One part of an archive with its signature."""

    def __init__(self, module: Any, file: GraphFile, threads: int | None) -> None:
        self._module = module
        self._threads = threads
        self._where = f"{file.name}: PyTorch failed in the {file.what}"
        self.inputs, self.outputs = _signature(module, file)

    def bind(self, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]) -> BoundGraph:
        """Bind by name once."""
        taken, given = tensors_of(inputs, self.inputs), tensors_of(outputs, self.outputs)
        return TorchBoundGraph(self._module, taken, given, self._threads, self._where)


class TorchBoundGraph:
    """A module and the tensors that it takes and gives."""

    __slots__ = ("_given", "_module", "_products", "_taken", "_threads", "_where")

    def __init__(
        self, module: Any, taken: Sequence[Tensor], given: Sequence[Tensor], threads: int | None, where: str
    ) -> None:
        self._module, self._taken, self._given = module, taken, given
        self._threads, self._where, self._products = threads, where, half_products(module)

    def run(self) -> None:
        """Run once on the bound buffers. Raises `EngineError`; the graph can run again afterwards."""
        try:
            with torch.inference_mode(), plainly(), threads_of(self._threads), self._products:
                keep(self._module(*self._taken), self._given)
        except Exception as error:
            raise EngineError(
                f"{self._where} ({last_of(error)}). This call gave nothing; the next one starts afresh."
            ) from error


def last_of(error: Exception) -> str:
    """The last line, which says what went wrong; TorchScript puts a trace of its program before it."""
    return reason_of(Exception((str(error).strip().splitlines() or [type(error).__name__])[-1]))


def keep(results: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    """Copy results to their buffers; a state that was written in place is there already."""
    for result, buffer in zip(results, given, strict=True):
        if result.data_ptr() != buffer.data_ptr():
            if result.shape != buffer.shape or result.dtype != buffer.dtype:
                raise ValueError(f"a result is {result.dtype} {list(result.shape)}, expected {list(buffer.shape)}")
            buffer.copy_(result)


def tensors_of(buffers: Mapping[str, Buffer], names: Mapping[str, TensorInfo]) -> list[Tensor]:
    """The tensors of the buffers with these names, in order."""
    return [buffers[name].tensor for name in names]  # type: ignore[attr-defined]


def plainly() -> AbstractContextManager[None]:
    """Modules run as they are written inside: by this thread, and no other."""
    plain: AbstractContextManager[None] = torch.jit.optimized_execution(False)  # type: ignore[attr-defined]
    return plain


@contextmanager
def threads_of(threads: int | None) -> Iterator[None]:
    """PyTorch's number of threads inside."""
    before = torch.get_num_threads()
    if threads is None or threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _part(archive: Any, file: GraphFile) -> Any:
    """The module of a part, if every operator in it is one that the exporter writes: what PyTorch has read is looked at
    once more, because its parser is not the one that checked the file."""
    module = dict(archive.named_children()).get(file.part)
    if module is None:
        raise GraphFileError(f"{file.name} has no {file.what}; export the checkpoint again.")
    found = {node.kind() for node in nodes(module.inlined_graph)}
    if foreign := sorted(found - KINDS):
        raise GraphFileError(f"{file.name} uses {foreign[0]!r} in the {file.what}, which no export does; export again.")
    return module


def nodes(graph: Any) -> Iterator[Any]:
    """Every node of a graph and of the blocks inside it."""
    for node in graph.nodes():
        yield node
        for block in node.blocks():
            yield from nodes(block)


def _signature(module: Any, file: GraphFile) -> tuple[dict[str, TensorInfo], dict[str, TensorInfo]]:
    """What the module says of its tensors."""
    try:
        both = [
            {str(name): TensorInfo(module.dtypes[name], tuple(size if size >= 0 else None
                                                              for size in module.shapes[name])) for name in names}
            for names in (module.inputs, module.outputs)
        ]  # fmt: skip
        if len(module.forward.schema.arguments) != len(both[0]) + 1:
            raise ValueError("it takes other arguments")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise GraphFileError(f"{file.name} does not tell the tensors of the {file.what}; export again.") from error
    return both[0], both[1]
