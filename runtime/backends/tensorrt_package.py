"""Which TensorRT is installed: `tensorrt`, or TensorRT for RTX, `tensorrt_rtx_bindings`. Both have the same API, and
neither is imported before it is asked for."""

from __future__ import annotations

import importlib
from collections import deque
from dataclasses import dataclass
from typing import Any

from pixelsnail_infer.errors import BackendError

__all__ = ["Package", "find_package", "new_log"]

MODULES = {"tensorrt": "tensorrt", "tensorrt_rtx_bindings": "tensorrt_rtx"}  # by module, the first that is there
_INSTALL = "install 'pixelsnail-infer[tensorrt]' or, for RTX GPUs, 'pixelsnail-infer[tensorrt-rtx]'"


@dataclass(frozen=True, slots=True)
class Package:
    """An imported TensorRT: its module `trt`, and its name and version, which an engine belongs to."""

    name: str
    version: str
    trt: Any

    @property
    def rtx(self) -> bool:
        """Whether it is TensorRT for RTX: it builds for GPUs that are named, and makes kernels when an engine runs."""
        return self.name == "tensorrt_rtx"

    @property
    def capabilities(self) -> tuple[str, ...]:
        """The compute capabilities that can be named, such as "8.9"; none for `tensorrt`, which builds for its GPU."""
        if not self.rtx:
            return ()
        names = (name[2:] for name in dir(self.trt.ComputeCapability) if name[:2] == "SM" and name[2:].isdigit())
        return tuple(f"{name[:-1]}.{name[-1]}" for name in sorted(names, key=int))

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def find_package() -> Package:
    """The TensorRT that is installed; of two, `tensorrt`. Raises `BackendError` when there is none that will do."""
    reasons = []
    for module, name in MODULES.items():
        try:
            trt = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                reasons.append(f"{module}: {error}")
        except (ImportError, OSError, RuntimeError) as error:  # a library that it needs is missing
            reasons.append(f"{module}: {error}")
        else:
            return _checked(Package(name, str(trt.__version__), trt))
    found = f"cannot be imported ({'; '.join(reasons)})" if reasons else "is not installed"
    raise BackendError(f"TensorRT {found}; {_INSTALL}.")


def new_log(trt: Any) -> Any:
    """A logger for one builder or runtime, which must outlive it: keeps the last errors, prints nothing."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: deque[str] = deque(maxlen=4)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

        def reason(self) -> str:
            """What the errors since the last call say."""
            said = "; ".join(self.errors) or "it does not say why"
            self.errors.clear()
            return said[:600]

    return Log()


def _checked(package: Package) -> Package:
    """States are written in place by a layer that older ones lack."""
    if not hasattr(package.trt, "IKVCacheUpdateLayer"):
        raise BackendError(f"{package} is too old: it has no layer that updates a cache in place; {_INSTALL}.")
    return package
