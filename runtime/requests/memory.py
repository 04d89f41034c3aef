"""How much memory there is, and the refusal of what cannot fit, before anything is allocated."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pixelsnail_infer.distributions import distribution_of
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.messages import shown

__all__ = ["available_bytes", "check_fits", "check_images_fit", "request_bytes"]

_MEMINFO = Path("/proc/meminfo")
_CONTAINER = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_UNKNOWN = 1 << 40
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def available_bytes() -> int:
    """The memory that this process may still get: what the system has free, and at most the container's limit."""
    return min([_free(), *(int(text) for path in _CONTAINER if (text := _read(path).strip()).isdecimal())])


def check_fits(need: int, what: str, advice: str) -> None:
    """Raise `RequestError` when `what` needs more memory than is free."""
    if need > (free := available_bytes()):
        raise RequestError(f"{what} would take {_size(need)} of memory, and {_size(free)} are free; {advice}.")


def request_bytes(manifest: Manifest) -> int:
    """Bytes that one image of a call takes from the request to the result: what is given, where, and what is drawn."""
    law = distribution_of(manifest)
    pixel = int(np.prod(law.pixel_shape, dtype=int)) * np.dtype(law.dtype).itemsize
    return manifest.height * manifest.width * (2 * pixel + 1) + 40  # keys and settings: 40


def check_images_fit(n: int, per_image: int) -> None:
    """Raise `RequestError` when n images of `per_image` bytes need more memory than is free."""
    check_fits(n * per_image, f"n is {shown(n)}; that many images", "ask for fewer at a time")


def _free() -> int:
    for line in _read(_MEMINFO).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on this platform
        return _UNKNOWN


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
