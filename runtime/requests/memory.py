"""How much memory there is, the refusal of what cannot fit before anything is allocated, and what is said when it runs
out all the same."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from pixelsnail_infer.distributions import image_bytes
from pixelsnail_infer.errors import BackendError, EngineError, RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.messages import shown
from pixelsnail_infer.plainfile import machine_memory

__all__ = ["available_bytes", "check_fits", "check_images_fit", "expect_room", "memory_told", "request_bytes"]

P = ParamSpec("P")
T = TypeVar("T")
_MEMINFO = Path("/proc/meminfo")
_CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_LITTLE = 1 << 24  # bytes that are not worth a look at the system, which takes a quarter of a millisecond
_UNKNOWN = 1 << 40
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def available_bytes() -> int:
    """The memory that this process may still get: what the system has free, and at most the container's limit."""
    return min([_free(), *(int(text) for path in _CONTAINER if (text := _read(path).strip()).isdecimal())])


def check_fits(need: int, what: str, advice: str) -> None:
    """Raise `RequestError` when `what` needs more memory than is free. Little is taken to be there."""
    if need > _LITTLE and need > (free := available_bytes()):
        raise RequestError(f"{what} would take {_size(need)} of memory, and {_size(free)} are free; {advice}.")


def request_bytes(manifest: Manifest) -> int:
    """Bytes that one image of a call takes from the request to the result: what is given, where, and what is drawn."""
    return 2 * image_bytes(manifest) + manifest.height * manifest.width + 40  # keys and settings: 40


def check_images_fit(n: int, per_image: int) -> None:
    """Raise `RequestError` when n images of `per_image` bytes need more memory than is free."""
    check_fits(n * per_image, f"n is {shown(n)}; that many images", "ask for fewer at a time")


def memory_told(call: Callable[P, T]) -> Callable[P, T]:
    """A public call whose `MemoryError` becomes an `EngineError`; the object can be called again."""

    @functools.wraps(call)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except MemoryError as error:
            raise EngineError(
                f"{call.__name__} ran out of memory ({error or 'no more is given'}); ask for fewer images at once."
            ) from error

    return told


def expect_room(needed: int, name: str) -> None:
    """Raise `BackendError` when the buffers of one image, `needed` bytes, are more than this machine's memory."""
    memory = machine_memory()
    if memory is not None and needed > memory:
        raise BackendError(
            f"{name} needs {_size(needed)} for one image, but this machine has {_size(memory)}; use a larger one, or "
            "export the checkpoint again if the manifest was altered."
        )


def _free() -> int:
    for line in _read(_MEMINFO).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return machine_memory() or _UNKNOWN


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def _size(count: int) -> str:
    power = min((count.bit_length() - 1) // 10, len(_UNITS) - 1) if count else 0
    if count >> 60:
        return "more than a million TiB"
    return f"{count / (1 << 10 * power):.{1 if power else 0}f} {_UNITS[power]}"
