"""Engines that run the graphs. `open_backend` picks one, and never another device than the one asked for."""

from __future__ import annotations

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.runtime.backends.protocol import Backend, BoundGraph, Buffer, Graph, TensorInfo

__all__ = ["Backend", "BoundGraph", "Buffer", "Graph", "TensorInfo", "open_backend"]


def open_backend(device: str = "cpu", threads: int | None = None) -> Backend:
    """The engine for `device` ("cpu" or "cuda"). Raises `BackendError` when it is not installed or not available."""
    if device not in ("cpu", "cuda"):
        raise BackendError(f"device is {device!r}, expected 'cpu' or 'cuda'.")
    try:
        if device == "cpu":
            from pixelsnail_infer.runtime.backends.onnxruntime_cpu import CpuBackend

            return CpuBackend(threads)
        from pixelsnail_infer.runtime.backends.onnxruntime_cuda import CudaBackend

        return CudaBackend(threads)
    except ImportError as error:
        extra = "cpu" if device == "cpu" else "gpu"
        raise BackendError(
            f"The engine for {device!r} cannot be imported ({error}); install 'pixelsnail-infer[{extra}]'."
        ) from error
