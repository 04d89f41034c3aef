"""Arrays in files: .npy read, .npy and .npz made."""

from __future__ import annotations

import io
import math
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.plainfile import machine_memory, open_plain

__all__ = ["array_of", "load_array", "map_records", "npy", "npz"]

_HEADER = 1 << 14  # more than NumPy reads as a header
_MOST_AXES = 32
# Version 3 differs from 2 in the names of a structure's fields alone, which `_in_utf8` puts right.
_VERSIONS = {
    (1, 0): npy_format.read_array_header_1_0,
    (2, 0): npy_format.read_array_header_2_0,
    (3, 0): npy_format.read_array_header_2_0,
}


def load_array(path: str | Path, what: str) -> NDArray[Any]:
    """An array of numbers or bools from a .npy file, never a pickle; `what` is what messages call it.

    The header is believed only where it promises exactly the bytes that the file has. Byte order and Fortran order are
    as in the file. Raises `RequestError`.
    """
    try:
        with open_plain(path) as file:
            return _read(file)
    except _NotAnArray as error:
        reason = str(error)
    except OSError as error:
        reason = error.strerror or str(error)
    except MemoryError:
        reason = "it does not fit into memory"
    raise RequestError(f"{what}: {path} cannot be read as a .npy array ({reason}).")


def array_of(data: bytes, what: str) -> NDArray[Any]:
    """The array of numbers or bools that the bytes of a .npy file hold, as `load_array` reads them; read-only, and of
    the machine's byte order. Raises `RequestError`."""
    try:
        shape, fortran, dtype, offset = _checked_header(data[:_HEADER], len(data))
    except _NotAnArray as error:
        raise RequestError(f"{what} is not a .npy array ({error}).") from error
    flat = np.frombuffer(data, dtype, math.prod(shape), offset)
    flat = flat.astype(dtype.newbyteorder("="), copy=False)
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def map_records(file: BinaryIO, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """The structured array [count] of `dtype` that an open .npy file holds, mapped, read-only; it outlives the file.
    Raises `ValueError`, and `OSError` where the file cannot be read."""
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    shape, _, found, offset = _header(file.read(_HEADER))
    if (found, shape) != (dtype, (count,)):
        raise _NotAnArray(f"it holds {found} {list(shape)}, expected {dtype} {[count]}")
    if size - offset != count * dtype.itemsize:
        raise _NotAnArray(f"its header promises {count * dtype.itemsize} bytes of records, but {size - offset} follow")
    return np.memmap(file, dtype, "r", offset, shape)


class _NotAnArray(ValueError):
    """Why the bytes are no array, in one line."""


def _read(file: BinaryIO) -> NDArray[Any]:
    size = os.fstat(file.fileno()).st_size
    shape, fortran, dtype, offset = _checked_header(file.read(_HEADER), size)
    promised = size - offset
    if promised > (machine_memory() or promised):
        raise _NotAnArray(f"its {promised} bytes are more than this machine's memory")
    file.seek(offset)
    flat = np.fromfile(file, dtype, math.prod(shape))
    if flat.nbytes != promised:
        raise _NotAnArray("it became shorter while it was read")
    return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)


def _checked_header(start: bytes, size: int) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """What `_header` gives of a file of `size` bytes, which must hold exactly the numbers that are promised."""
    if not start:
        raise _NotAnArray("it is empty")
    if start.startswith(b"PK"):
        raise _NotAnArray("it is an archive of arrays, expected one array saved with numpy.save")
    shape, fortran, dtype, offset = _header(start)
    if dtype.kind not in "biufc":
        raise _NotAnArray(f"it holds {_shown(dtype)}, expected numbers")
    promised, there = math.prod(shape) * dtype.itemsize, size - offset
    if promised != there:
        raise _NotAnArray(f"its header promises {promised} bytes of numbers, but {there} follow")
    return shape, fortran, dtype, offset


def _header(start: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Shape, whether in Fortran order, dtype, and where the numbers begin, of a file's first bytes."""
    stream = io.BytesIO(start)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd literals in the header
            version = npy_format.read_magic(stream)
            shape, fortran, dtype = _VERSIONS[version](stream)
            dtype = _in_utf8(dtype) if version == (3, 0) and dtype.names else dtype
    except Exception as error:  # NumPy evaluates the header's text: nearly anything can be raised
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise _NotAnArray(f"its header is damaged: {reason[:100]}") from error
    if any(type(length) is not int or length < 0 for length in shape) or len(shape) > _MOST_AXES:
        raise _NotAnArray("its header is damaged: it gives an impossible shape")
    if math.prod(max(length, 1) for length in shape) >= 1 << 62:  # also where another length is 0
        raise _NotAnArray("its header is damaged: it gives an impossible shape")
    return shape, bool(fortran), dtype, stream.tell()


def _in_utf8(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A structure whose names were read as Latin-1."""
    return np.dtype([(name.encode("latin-1").decode(), dtype[name]) for name in dtype.names or ()])


def _shown(dtype: np.dtype[Any]) -> str:
    return {"O": "Python objects", "V": "structures", "S": "text", "U": "text"}.get(dtype.kind, "dates or times")


def npy(array: NDArray[Any]) -> bytes:
    """The bytes of a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of a .npz file, compressed; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # numpy.savez takes no array called `file`
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy(array), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
