"""TensorRT on one GPU: an engine for every graph, built when there is none yet, and kept. Written to the package's
documentation and **not yet run on a GPU**; the tests build real engines, and run everything else on stand-ins."""

from __future__ import annotations

import logging

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.plan import DEFAULT_PLAN, Plan
from pixelsnail_infer.runtime.backends.cuda_buffer import CudaBuffer
from pixelsnail_infer.runtime.backends.cuda_device import CudaDevice, CudaError
from pixelsnail_infer.runtime.backends.cuda_sweep import CudaSweep
from pixelsnail_infer.runtime.backends.host import check_threads, no_room
from pixelsnail_infer.runtime.backends.protocol import BoundGraph, Buffer, Graph, Sweep
from pixelsnail_infer.runtime.backends.tensorrt_builder import check_targets
from pixelsnail_infer.runtime.backends.tensorrt_engines import Kept, read_engine
from pixelsnail_infer.runtime.backends.tensorrt_graph import open_engine
from pixelsnail_infer.runtime.backends.tensorrt_keeping import EnginePlace, build_and_keep, engine_place
from pixelsnail_infer.runtime.backends.tensorrt_package import Package, find_package
from pixelsnail_infer.runtime.files.graphfile import GraphFile

__all__ = ["TensorRtBackend"]

_LOG = logging.getLogger(__name__)


class TensorRtBackend:
    """ONNX files on one GPU, "cuda" (the first) or "cuda:1" and so on: in full float32 (TF32 is switched off) or in
    float16, as the files are.

    `threads` is how many a build uses (None: TensorRT's own choice). That an engine is built, and why, goes to the log
    as a warning, because it takes from seconds to minutes. Raises `BackendError` when the package or the GPU is not
    there.
    """

    plans: tuple[Plan, ...] = (DEFAULT_PLAN, Plan(precision="float16"))

    def __init__(
        self, device: str, threads: int | None = None, package: Package | None = None, cuda: CudaDevice | None = None
    ) -> None:
        check_threads(threads)
        if not device.startswith("cuda"):
            raise BackendError(f"device is {shown(device)}, but TensorRT runs on NVIDIA GPUs only; use device='cuda'.")
        self.device, self.threads = device, threads
        self._package = package or find_package()
        self._cuda = cuda or CudaDevice(device)
        if self._package.rtx:
            check_targets(self._package, (self._cuda.capability,))

    def load(self, file: GraphFile) -> Graph:
        """The graph's engine: the one that is kept, or a new one. Raises `GraphFileError` when TensorRT refuses the
        graph, `BackendError` when the engine that is kept may not be trusted, or a new one cannot be kept."""
        place = engine_place(self._package, file, self._cuda.name, None)
        kept = read_engine(place.path, place.key, self._cuda.capability)
        plan = self._built(place, kept) if kept.plan is None else kept.plan
        return open_engine(self._package, plan, file, self._cuda)

    def allocate(self, shape: tuple[int, ...], dtype: str) -> Buffer:
        """A zero-filled buffer on the GPU. Raises `EngineError` when there is not enough memory."""
        try:
            return CudaBuffer(shape, dtype, self._cuda)
        except (CudaError, MemoryError) as error:
            raise no_room(shape, dtype, self.device, error) from error

    def sweep(self, step: BoundGraph, column: Buffer, pixel: Buffer, width: int) -> Sweep:
        """Columns and pixels stay on the GPU until a row is drawn."""
        assert isinstance(column, CudaBuffer) and isinstance(pixel, CudaBuffer)
        return CudaSweep(step, column, pixel, width, self._cuda)

    def _built(self, place: EnginePlace, kept: Kept) -> bytes:
        """A new engine; with TensorRT for RTX also for the GPUs that the old one was for."""
        here, known = self._cuda.capability, self._package.capabilities
        targets = tuple(target for target in known if target == here or target in kept.targets) or (here,)
        _LOG.warning(
            "%s: building the TensorRT engine of the %s, because %s; it is kept as %s",
            place.file.name, place.file.what, kept.reason, place.path,
        )  # fmt: skip
        with self._cuda.here():
            built = build_and_keep(self._package, place, targets, kept.largest, self.threads)
        return built.plan
