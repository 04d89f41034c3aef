"""Engines that run the graphs. `open_backend` picks one, and never another device than the one asked for."""

from __future__ import annotations

import re

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.backends.protocol import Backend, BoundGraph, Buffer, Graph, TensorInfo

__all__ = ["BACKENDS", "Backend", "BoundGraph", "Buffer", "Graph", "TensorInfo", "is_device", "open_backend"]

_NUMBERED = re.compile(r"cuda:\d{1,3}", re.ASCII)


BACKENDS = ("onnxruntime", "torch")


def is_device(name: object) -> bool:
    """Whether it is "cpu", "cuda", or "cuda:1" and so on."""
    return name in ("cpu", "cuda") or (isinstance(name, str) and _NUMBERED.fullmatch(name) is not None)


def open_backend(device: str = "cpu", threads: int | None = None, backend: str = "onnxruntime") -> Backend:
    """The engine `backend` for `device`: "cpu" or "cuda", of "torch" also "cuda:1" and so on. Raises `BackendError`
    when it is not installed or not available."""
    if backend not in BACKENDS:
        raise BackendError(f"backend is {shown(backend)}, expected 'auto', {' or '.join(map(repr, BACKENDS))}.")
    if not is_device(device) or (backend == "onnxruntime" and ":" in device):
        more = ", or 'cuda:1' and so on" if backend == "torch" else ""
        raise BackendError(f"device is {shown(device)}, expected 'cpu' or 'cuda'{more}.")
    try:
        return _torch(device, threads) if backend == "torch" else _onnxruntime(device, threads)
    except ImportError as error:
        extra = "torch" if backend == "torch" else "cpu" if device == "cpu" else "gpu"
        raise BackendError(
            f"The engine {backend} for {device!r} cannot be imported ({error}); install 'pixelsnail-infer[{extra}]'."
        ) from error


def _onnxruntime(device: str, threads: int | None) -> Backend:
    if device == "cpu":
        from pixelsnail_infer.runtime.backends.onnxruntime_cpu import CpuBackend

        return CpuBackend(threads)
    from pixelsnail_infer.runtime.backends.onnxruntime_cuda import CudaBackend

    return CudaBackend(threads)


def _torch(device: str, threads: int | None) -> Backend:
    if device == "cpu":
        from pixelsnail_infer.runtime.backends.torch_cpu import TorchBackend

        return TorchBackend(threads)
    from pixelsnail_infer.runtime.backends.torch_cuda import TorchCudaBackend

    return TorchCudaBackend(device, threads)
