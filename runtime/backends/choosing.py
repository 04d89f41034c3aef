"""Which engine runs what, and where. One is chosen by name or by the file; another than that is never used."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.backends.protocol import Backend

__all__ = ["BACKENDS", "ENGINES", "Engine", "choose_backend", "is_device", "open_backend"]

ANY_GPU = "cuda:1 …"
_NUMBERED = re.compile(r"cuda:\d{1,3}", re.ASCII)
_FILES = {"onnx": ("an ONNX file", "ONNX files"), "torchscript": ("a TorchScript archive", "TorchScript archives")}


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine. `open(device, threads)` imports it."""

    format: str
    """Of the files that it runs: "onnx" or "torchscript"."""
    devices: tuple[str, ...]
    """Of "cpu", "cuda" and `ANY_GPU`."""
    open: Callable[[str, int | None], Backend]
    install: Mapping[str, str]
    """The extra of this package that brings it, by "cpu" and "cuda"."""

    def extra(self, device: str) -> str:
        """What pip is to install for a device."""
        return f"'pixelsnail-infer[{self.install[device.partition(':')[0]]}]'"


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


def _tensorrt(device: str, threads: int | None) -> Backend:
    from pixelsnail_infer.runtime.backends.tensorrt_cuda import TensorRtBackend

    return TensorRtBackend(device, threads)


ENGINES: Mapping[str, Engine] = {
    "onnxruntime": Engine("onnx", ("cpu", "cuda"), _onnxruntime, {"cpu": "cpu", "cuda": "gpu"}),
    "torch": Engine("torchscript", ("cpu", "cuda", ANY_GPU), _torch, {"cpu": "torch", "cuda": "torch"}),
    "tensorrt": Engine("onnx", ("cuda", ANY_GPU), _tensorrt, {"cuda": "tensorrt"}),
}
"""By name. "auto" is the first one that runs the format of the file."""
BACKENDS = tuple(ENGINES)


def is_device(name: object) -> bool:
    """Whether it is "cpu", "cuda", or "cuda:1" and so on."""
    return name in ("cpu", "cuda") or (isinstance(name, str) and _NUMBERED.fullmatch(name) is not None)


def choose_backend(backend: object, format: str, name: str) -> str:
    """The engine for the file `name` of this format: `backend`, or the first that can where that is "auto". Raises
    `BackendError` when it cannot run such files."""
    engine = None if backend == "auto" else _known(backend)
    if engine is None:
        return next(one for one, held in ENGINES.items() if held.format == format)
    if engine.format != format:
        advice = f"leave the backend out, or export with --format {engine.format}"
        raise BackendError(f"backend is {backend!r}, which runs {_FILES[engine.format][1]}, but {name} is "
                           f"{_FILES[format][0]}; {advice}.")  # fmt: skip
    return str(backend)


def open_backend(device: str = "cpu", threads: int | None = None, backend: str = "onnxruntime") -> Backend:
    """The engine `backend`, of `ENGINES`, on a device: "cpu" or "cuda", of some also "cuda:1" and so on. Raises
    `BackendError` when it is not installed or not available."""
    engine = _known(backend)
    if not is_device(device) or (device not in engine.devices and not (":" in device and ANY_GPU in engine.devices)):
        more = ", or 'cuda:1' and so on" if ANY_GPU in engine.devices else ""
        offered = _either([one for one in engine.devices if one != ANY_GPU])
        raise BackendError(f"device is {shown(device)}, expected {offered}{more}, which {backend} has.")
    try:
        return engine.open(device, threads)
    except (ImportError, OSError) as error:  # OSError: a library that it loads is not there
        raise BackendError(
            f"The engine {backend} for {device!r} cannot be imported ({error}); install {engine.extra(device)}, and "
            "see what `pixelsnail-infer doctor` says."
        ) from error


def _known(backend: object) -> Engine:
    if not isinstance(backend, str) or backend not in ENGINES:
        raise BackendError(f"backend is {shown(backend)}, expected {_either(['auto', *ENGINES])}.")
    return ENGINES[backend]


def _either(names: Sequence[str]) -> str:
    *first, last = map(repr, names)
    return f"{', '.join(first)} or {last}" if first else last
