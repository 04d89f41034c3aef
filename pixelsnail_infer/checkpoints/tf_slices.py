"""TensorFlow's first checkpoint format, a single file, read without TensorFlow.

`tf.train.Saver` wrote it until the end of 2016, and writes it still with `write_version=SaverDef.V1`. The file is a
table. Its empty key maps to the names, types and shapes of all variables; every other key, made of a variable's name
and of a slice of it, to the numbers, as a protocol buffer. Nothing in the file can name another file or run anything.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.checkpoints.tf_proto import fields, shape_of
from pixelsnail_infer.checkpoints.tf_table import FOOTER_SIZE, MAGIC, Table
from pixelsnail_infer.checkpoints.tf_variables import Variables
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.plainfile import open_plain

__all__ = ["SliceFile", "read_slices", "slice_file"]

NUMBERS = {1: (5, "<f4"), 2: (6, "<f8")}
"""For TensorFlow's numbers of the data types that are read: the field that holds the values, and their type."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What the file says of a variable."""

    dtype: int
    shape: tuple[int, ...]
    whole: bool
    """It is stored in one piece."""


class _FileContent:
    """The bytes of a file, which is opened anew for every part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with open_plain(path) as file:
            self._size = os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        with open_plain(self._path) as file:
            file.seek(start)
            content = file.read(stop - start)
        if len(content) != stop - start:
            raise CheckpointError("became shorter while it was read")
        return content


class SliceFile(Variables):
    """The variables of such a file, found by their names when they are asked for."""

    def __init__(self, path: Path, table: Table, saved: dict[str, Saved]) -> None:
        self._path = path
        self._table = table
        self._saved = saved

    def __len__(self) -> int:
        return len(self._saved)

    def __iter__(self) -> Iterator[str]:
        return iter(self._saved)

    def __contains__(self, name: object) -> bool:
        return name in self._saved

    def __getitem__(self, name: str) -> NDArray[Any]:
        saved = self._saved[name]
        try:
            return _values(self._table, name, saved)
        except (CheckpointError, OSError) as error:
            _refuse(self._path, f": tensor {one_line(name)} {list(saved.shape)}", error)

    def shape(self, name: str) -> tuple[int, ...]:
        """A variable's shape. Raises KeyError for a name that is not there."""
        return self._saved[name].shape

    def sha256(self) -> str:
        """In hexadecimal, of the file's bytes. Raises CheckpointError."""
        digest = hashlib.sha256()
        try:
            with open_plain(self._path) as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            _refuse(self._path, "", error)
        return digest.hexdigest()


def slice_file(path: str | os.PathLike[str]) -> Path | None:
    """The path, if it is a file that ends as this format does; a bundle's index does, too."""
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(size - 8, 0))
            return Path(path) if size >= FOOTER_SIZE and int.from_bytes(file.read(8), "little") == MAGIC else None
    except OSError:
        return None


def read_slices(path: str | os.PathLike[str]) -> SliceFile:
    """The variables of the file; their values are read when asked for.

    Raises:
        CheckpointError: the file is missing, truncated, damaged, or not of this format.
    """
    try:
        table = Table(_FileContent(Path(path)))
        key, described = next(table.starting_with(b""), (b"?", b""))
        if key:
            raise CheckpointError("has no list of its variables: it is a table, but not a checkpoint")
        return SliceFile(Path(path), table, _listed(described))
    except (CheckpointError, OSError) as error:
        _refuse(Path(path), "", error)


def _refuse(path: Path, what: str, error: Exception) -> NoReturn:
    reason = error if isinstance(error, CheckpointError) else one_line(getattr(error, "strerror", None) or error)
    raise CheckpointError(f"{one_line(path)}{what} {reason}") from None


def _listed(message: bytes) -> dict[str, Saved]:
    """A SavedTensorSlices with its SavedTensorSliceMeta."""
    saved: dict[str, Saved] = {}
    for tensor in _messages(_only(message, 1), 1):
        name = _only(tensor, 1).decode("utf-8", "replace")
        shape, slices = shape_of(_only(tensor, 2)), list(_messages(tensor, 4))
        dtype = next((value for number, value in fields(tensor) if number == 3 and isinstance(value, int)), 0)
        if name in saved:
            raise CheckpointError(f"lists {one_line(name)} twice: damaged")
        saved[name] = Saved(dtype, shape, len(slices) == 1 and _is_whole(slices[0], shape))
    return dict(sorted(saved.items()))


def _is_whole(message: bytes, shape: tuple[int, ...]) -> bool:
    """Whether a TensorSliceProto is all of a tensor: for each axis no start, and no length or all of it."""
    extents = [dict(fields(extent)) for extent in _messages(message, 1)]
    return len(extents) == len(shape) and all(
        extent.get(1, 0) == 0 and extent.get(2, size) == size for extent, size in zip(extents, shape, strict=True)
    )


def _values(table: Table, name: str, saved: Saved) -> NDArray[Any]:
    if not saved.whole:
        raise CheckpointError("is stored in slices, as partitioned variables are; that is not read")
    if saved.dtype not in NUMBERS:
        raise CheckpointError(f"has TensorFlow's data type {saved.dtype}; only floating-point numbers are read here")
    found = [value for _, value in table.starting_with(_key(name))]
    if len(found) != 1:
        raise CheckpointError(f"is stored {len(found)} times; once is expected: damaged")
    data = _only(found[0], 2)  # a SavedSlice
    if _only(data, 1) != name.encode():
        raise CheckpointError("is stored under another name: damaged")
    field, dtype = NUMBERS[saved.dtype]
    raw = b"".join(_messages(_only(data, 3), field))
    if len(raw) != prod(saved.shape) * np.dtype(dtype).itemsize:
        raise CheckpointError(f"is stored with {len(raw)} bytes: damaged")
    return np.frombuffer(raw, dtype).reshape(saved.shape).copy()


def _key(name: str) -> bytes:
    """What the keys of a variable's slices begin with: 0, then the name with its end marked."""
    return b"\0" + name.encode().replace(b"\0", b"\0\xff") + b"\0\1"


def _messages(message: bytes, wanted: int) -> Iterator[bytes]:
    """The values of the fields of this number, each of which is a message, or bytes."""
    for number, value in fields(message):
        if number == wanted:
            if not isinstance(value, bytes):
                raise CheckpointError(f"has a number in field {number}, where bytes are expected: damaged")
            yield value


def _only(message: bytes, wanted: int) -> bytes:
    """The value of a field that must be there once."""
    values = list(_messages(message, wanted))
    if len(values) != 1:
        raise CheckpointError(f"has {len(values)} fields {wanted} where one is expected: damaged")
    return values[0]
