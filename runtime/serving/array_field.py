"""Arrays in JSON: nested lists of numbers, or `{"npy": BASE64}` with the bytes of a .npy file."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.files.arrays import array_of
from pixelsnail_infer.runtime.serving.problem import Problem

__all__ = ["read_array"]

_KINDS = "biuf"


def read_array(value: Any, field: str, real: bool = False) -> NDArray[Any]:
    """The array that `field` holds; integers of lists become float64 where `real` numbers are wanted. Raises `Problem`
    "invalid"."""
    if isinstance(value, dict):
        return _of_npy(value, field)
    if not isinstance(value, (list, int, float)):
        raise Problem("invalid", f'{field} is {shown(value)}, expected numbers, or {{"npy": BASE64}}.', field=field)
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise Problem("invalid", f"{field} is no regular array; give lists of equal lengths.", field=field) from error
    if array.dtype.kind not in _KINDS:
        raise Problem("invalid", f"{field} holds something else than numbers of 64 bits.", field=field)
    return array.astype(np.float64) if real and array.dtype.kind in "iu" else array


def _of_npy(value: dict[str, Any], field: str) -> NDArray[Any]:
    text = value.get("npy")
    if set(value) != {"npy"} or not isinstance(text, str):
        raise Problem("invalid", f'{field} is an object, expected {{"npy": BASE64}} and nothing else.', field=field)
    try:
        array = array_of(base64.b64decode(text, validate=True), field)
    except (binascii.Error, ValueError) as error:
        reason = str(error) if isinstance(error, RequestError) else f"{field}.npy is not base64."
        raise Problem("invalid", reason, field=field) from error
    if array.dtype.kind not in _KINDS:
        raise Problem("invalid", f"{field} has dtype {array.dtype}, expected real numbers.", field=field)
    return array
