"""Tensors of the Open Inference Protocol: in JSON, or as bytes behind it (the extension `binary_tensor_data`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.serving.problem import Problem

__all__ = ["DATATYPES", "Binary", "datatype", "read_tensor"]

DATATYPES = {
    "BOOL": "bool", "UINT8": "uint8", "UINT16": "uint16", "UINT32": "uint32", "UINT64": "uint64", "INT8": "int8",
    "INT16": "int16", "INT32": "int32", "INT64": "int64", "FP16": "float16", "FP32": "float32", "FP64": "float64",
}  # fmt: skip
_MOST_AXES, _MOST_NUMBERS = 8, 1 << 31


def datatype(dtype: str) -> str:
    """The protocol's name of a NumPy dtype."""
    return next(name for name, held in DATATYPES.items() if held == dtype)


class Binary:
    """The bytes behind the JSON of a request, which its inputs take in order."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def take(self, size: int, name: str) -> bytes:
        """The next bytes, for the input `name`."""
        if self._at + size > len(self._data):
            what = f"The input {shown(name)} has {size} bytes of binary data, but {len(self._data) - self._at} are left"
            raise Problem("malformed", f"{what}; correct binary_data_size.", field=name[:80])
        self._at += size
        return self._data[self._at - size : self._at]

    def expect_end(self) -> None:
        """Raise `Problem` when bytes are left."""
        if self._at != len(self._data):
            raise Problem("malformed", f"{len(self._data) - self._at} bytes of binary data belong to no input.")


def read_tensor(entry: Any, binary: Binary) -> tuple[str, NDArray[Any]]:
    """Name and array of one of a request's inputs. Raises `Problem`."""
    if not isinstance(entry, dict) or not isinstance(name := entry.get("name"), str):
        raise Problem("malformed", f"An input is {shown(entry)}, expected an object with a name.", field="inputs")
    kind, shape, parameters = entry.get("datatype"), entry.get("shape"), entry.get("parameters", {})
    if not isinstance(kind, str) or kind not in DATATYPES:
        raise _wrong(name, f"has the datatype {shown(kind)}, expected {', '.join(DATATYPES)}")
    if not (isinstance(shape, list) and len(shape) <= _MOST_AXES and all(type(s) is int and s >= 0 for s in shape)):
        raise _wrong(name, f"has the shape {shown(shape)}, expected a list of at most {_MOST_AXES} sizes")
    if math.prod(max(size, 1) for size in shape) >= _MOST_NUMBERS:  # NumPy refuses it even where another size is 0
        raise _wrong(name, f"has the shape {shown(shape)}, expected fewer than {_MOST_NUMBERS} numbers")
    if not isinstance(parameters, dict | None):
        raise _wrong(name, f"has the parameters {shown(parameters)}, expected an object")
    size = (parameters or {}).get("binary_data_size")
    if size is None:
        return name, _of_json(entry.get("data"), name, kind, shape)
    dtype, count = np.dtype(DATATYPES[kind]), math.prod(shape)
    if type(size) is not int or size != count * dtype.itemsize:
        raise _wrong(name, f"has {shown(size)} bytes of binary data, expected {count * dtype.itemsize} for its shape")
    data = binary.take(size, name)
    return name, np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def _of_json(data: Any, name: str, kind: str, shape: list[int]) -> NDArray[Any]:
    """Numbers, flat or nested, of a JSON tensor; what does not fit its datatype is refused."""
    if not isinstance(data, list):
        raise _wrong(name, f"has the data {shown(data)}, expected a list")
    dtype = np.dtype(DATATYPES[kind])
    try:
        array = _numbers(data, dtype) if data else np.zeros(0, dtype)
    except (ValueError, OverflowError) as error:
        raise _wrong(name, "has data that is no regular array") from error
    kinds = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[dtype.kind]
    if array.dtype.kind not in kinds or array.size != math.prod(shape) or array.ndim not in (1, len(shape)):
        raise _wrong(name, f"has data of shape {list(array.shape)} and dtype {array.dtype}, expected {kind} {shape}")
    if dtype.kind in "iu" and array.size:
        bounds = np.iinfo(dtype)
        if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
            raise _wrong(name, f"holds a number beyond {kind}")
    with np.errstate(over="ignore"):
        return array.astype(dtype).reshape(shape)


def _numbers(data: list[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Of small and of large integers beyond int64 together NumPy would make floating-point numbers."""
    if dtype != np.uint64:
        return np.asarray(data)
    objects = np.asarray(data, object)
    if objects.ndim > _MOST_AXES:  # what is nested deeper than NumPy's axes stays a list, and `flat` fails before that
        raise ValueError
    return objects.astype(dtype) if all(type(one) is int and one >= 0 for one in objects.flat) else objects


def _wrong(name: str, what: str) -> Problem:
    return Problem("invalid", f"The input {shown(name)} {what}.", field=name[:80])
