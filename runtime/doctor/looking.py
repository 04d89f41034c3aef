"""What an engine's package says of itself, and which devices there are to try it on. Imports the package: for a process
of its own."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from pixelsnail_infer.messages import one_line

__all__ = ["LOOKS", "Seen", "missing"]

_BUILDS = ("onnxruntime", "onnxruntime-gpu")  # of ONNX Runtime, which install into one folder
_TENSORRT = {"tensorrt": "tensorrt", "tensorrt_rtx_bindings": "tensorrt_rtx"}  # name by module


@dataclass(slots=True)
class Seen:
    """A version, lines about the package, devices to try, and for each that is not there why, and what to do."""

    version: str
    says: list[str] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


def missing(error: BaseException, modules: tuple[str, ...]) -> bool:
    """Whether an import failed because the package itself is not installed, and not what it needs."""
    return isinstance(error, ModuleNotFoundError) and error.name in modules


def _onnxruntime(gpus: int) -> Seen:
    ort: Any = importlib.import_module("onnxruntime")
    providers = ort.get_available_providers()
    seen = Seen(str(ort.__version__), [f"providers: {', '.join(providers)}"], ["cpu"])
    if all(map(_installed, _BUILDS)):
        seen.says.append("onnxruntime and onnxruntime-gpu are both installed and write over one another: pip uninstall "
                         "both, then install one")  # fmt: skip
    if "CUDAExecutionProvider" not in providers:
        seen.absent["cuda"] = "this build is for the CPU; for an NVIDIA GPU: pip uninstall onnxruntime, then " \
            "pip install 'pixelsnail-infer[gpu]'"
    elif not gpus:
        seen.absent["cuda"] = "no NVIDIA GPU was found"
    else:
        seen.devices.append("cuda")
    return seen


def _torch(gpus: int) -> Seen:
    torch: Any = importlib.import_module("torch")
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    seen = Seen(str(torch.__version__), [built], ["cpu"])
    with warnings.catch_warnings(record=True) as told:  # why CUDA cannot be used
        warnings.simplefilter("always")
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for index in range(count):
        name = "cuda" if index == 0 else f"cuda:{index}"
        seen.says.append(f"{name} is {_gpu(torch.cuda.get_device_properties(index))}")
        seen.devices.append(name)
    if not count and not torch.version.cuda:
        seen.absent["cuda"] = "this PyTorch is built without CUDA" + (
            "; install a build for CUDA, as PyTorch's own page says" if gpus else "")
    elif not count:
        why = f" ({one_line(told[-1].message, 200)})" if told else ""
        seen.absent["cuda"] = f"PyTorch sees no GPU{why}" + ("; look at the NVIDIA driver" if gpus else "")
    return seen


def _tensorrt(gpus: int) -> Seen:
    found, errors = [], []
    for module, name in _TENSORRT.items():
        try:
            found.append(f"{name} {importlib.import_module(module).__version__}")
        except ModuleNotFoundError as error:
            errors.append(error)
            if not missing(error, tuple(_TENSORRT)):
                raise
    if not found:
        raise errors[0]
    seen = Seen(found[0].partition(" ")[2], [", ".join(found)], ["cuda"] if gpus else [])
    if not gpus:
        seen.absent["cuda"] = "no NVIDIA GPU was found"
    return seen


LOOKS: Mapping[str, tuple[Callable[[int], Seen], tuple[str, ...]]] = {
    "torch": (_torch, ("torch",)),
    "onnxruntime": (_onnxruntime, ("onnxruntime",)),
    "tensorrt": (_tensorrt, tuple(_TENSORRT)),
}
"""By engine: a function of the number of NVIDIA GPUs that are known of, and the modules that may be missing."""


def _gpu(properties: Any) -> str:
    capability = f"compute capability {properties.major}.{properties.minor}"
    return f"{properties.name}, {capability}, {properties.total_memory / 2**30:.0f} GiB"


def _installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False
