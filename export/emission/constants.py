"""Numbers as the constants of a graph hold them, and the digests by which equal ones are one."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.emission.graph import Kind
from pixelsnail_infer.export.emission.kinds import FLOATS, HALVES, kind_held

__all__ = ["MOST", "grid_constant", "made_constant"]

MOST = 63  # of a weight: two products with activations then fit into the 16 bits in which processors add them


def made_constant(numbers: Any, like: Kind, precision: str, graph: str) -> tuple[v.Constant, Kind]:
    """The constant and its kind; of floating-point numbers that is `like`, if that is one of floats. `graph` is named
    where a number of half precision becomes infinite: `ModelError`."""
    array = numbers.detach().cpu().numpy() if isinstance(numbers, torch.Tensor) else np.asarray(numbers)
    kind = like if kind_held(array) == "float" and like in FLOATS else kind_held(array)
    dtype = {"float": precision, "wide": "float32", "int": "int64", "bool": "bool"}[kind]
    array = _rounded(array, dtype, graph) if dtype in HALVES else array
    array = np.ascontiguousarray(array, HALVES.get(dtype, dtype))
    digest = hashlib.sha256(f"{dtype} {array.shape} ".encode())
    digest.update(array.tobytes() if dtype in HALVES else array.data)
    return v.Constant(digest.hexdigest(), array), kind


def grid_constant(numbers: torch.Tensor, scales: torch.Tensor) -> v.GridConstant:
    """`numbers [in, out]` rounded to a grid of int8 for each column, or `[out]` to one of int32 for each place;
    `scales [out]`."""
    steps, held = scales.double().cpu().numpy(), numbers.detach().double().cpu().numpy()
    most, dtype = (MOST, np.int8) if held.ndim == 2 else (2**31 - 1, np.int32)
    whole = np.ascontiguousarray(np.clip(np.rint(held / steps), -most, most), dtype)
    given = np.ascontiguousarray(steps, np.float32)
    told = f"{whole.dtype} {whole.shape} ".encode()
    return v.GridConstant(hashlib.sha256(told + whole.tobytes() + given.tobytes()).hexdigest(), whole, given)


def _rounded(array: NDArray[Any], dtype: str, graph: str) -> NDArray[Any]:
    """Numbers of half precision. Raises `ModelError` for a finite one that becomes infinite."""
    with np.errstate(over="ignore"):
        rounded = array.astype(HALVES[dtype])
    if (np.isinf(rounded.astype(np.float64)) & np.isfinite(array)).any():
        most = float(np.abs(array[np.isfinite(array)]).max())
        raise ModelError(f"the {graph} graph has a weight of {most:.3g}, which {dtype} cannot hold; "
                         "choose another --precision: bfloat16 or float32.")
    return rounded
