"""bfloat16 in NumPy, which has no such dtype: host arrays hold its bits, the upper half of a float32's, as uint16."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["all_finite", "as_held", "host_dtype"]

_EXPONENT = 0x7F80


def host_dtype(dtype: str) -> np.dtype[Any]:
    """What a host array of this dtype is made of."""
    return np.dtype("uint16" if dtype == "bfloat16" else dtype)


def as_held(number: float, dtype: str) -> NDArray[Any]:
    """A finite number as a host array of this dtype holds it, rounded to the nearest, ties to even; of rank 0."""
    if dtype != "bfloat16":
        return np.array(number, dtype)
    bits = int(np.array(number, np.float32).view(np.uint32))
    return np.array((bits + 0x7FFF + (bits >> 16 & 1)) >> 16, np.uint16)


def all_finite(array: NDArray[Any], dtype: str) -> bool:
    """Whether a host array of this dtype holds finite numbers only."""
    if dtype == "bfloat16":
        return bool(((array & _EXPONENT) != _EXPONENT).all())
    return bool(np.isfinite(array).all())
