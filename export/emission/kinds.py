"""What graphs hold numbers as."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.export.emission.graph import Kind

__all__ = ["FLOATS", "HALVES", "kind_held", "kind_of"]

FLOATS: tuple[Kind, ...] = ("float", "wide")
HALVES = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def kind_of(dtype: torch.dtype) -> Kind:
    """What graphs hold numbers of a dtype as."""
    return "float" if dtype.is_floating_point else "bool" if dtype == torch.bool else "int"


def kind_held(array: NDArray[Any]) -> Kind:
    """The same for the numbers of an array."""
    return "float" if array.dtype.kind == "f" else "bool" if array.dtype.kind == "b" else "int"
