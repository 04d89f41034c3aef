"""TensorFlow checkpoint bundles (`prefix.index` and `prefix.data-00000-of-0000N`), read without TensorFlow.

The index maps each variable's name to a BundleEntryProto: dtype, shape, shard, offset, size and CRC-32C; the empty
name maps to a BundleHeaderProto. Tensors lie raw in the shards. Nothing in these files can name another file or run
anything.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.checkpoints.crc32c import masked_crc32c
from pixelsnail_infer.checkpoints.tf_proto import fields, shape_of
from pixelsnail_infer.checkpoints.tf_table import read_table
from pixelsnail_infer.checkpoints.tf_variables import Variables
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.plainfile import open_plain

__all__ = ["Bundle", "bundle_prefix", "read_bundle"]

DTYPES = {1: "<f4", 2: "<f8", 19: "<f2", 3: "<i4", 9: "<i8", 5: "<i2", 6: "i1", 4: "u1", 17: "<u2", 22: "<u4"}
"""TensorFlow's numbers of the data types that are read."""
MAX_INDEX_BYTES = 1 << 26
MAX_SHARDS = 99_999


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies."""

    dtype: int
    """TensorFlow's number; DTYPES has those that can be read."""
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    """In bytes."""
    crc: int
    """Masked CRC-32C of the bytes."""
    sliced: bool
    """The tensor is stored in parts under other names."""


class Bundle(Variables):
    """The tensors of a checkpoint by name, in the order of their names; immutable.

    Only the index is read at first. `bundle[name]` reads that tensor into a new array, which the caller owns, and
    checks its CRC, each time anew. It raises CheckpointError for a tensor that is not stored in full, damaged, or of a
    type that is not read; KeyError for a name that the bundle does not have.
    """

    def __init__(self, prefix: Path, shards: int, entries: dict[str, Entry]) -> None:
        self._prefix = prefix
        self._shards = shards
        self._entries = entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:  # the mapping's own would read the tensor
        return name in self._entries

    def __getitem__(self, name: str) -> NDArray[Any]:
        entry = self._entries[name]
        path = _shard(self._prefix, entry.shard, self._shards)
        short = f"tensor {one_line(name)} {list(entry.shape)}"
        try:
            with _open(path) as file:
                return _read(file, entry)
        except CheckpointError as error:
            raise CheckpointError(f"{one_line(path)}: {short} {error}") from None

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, from the index alone. Raises KeyError for a name that is not there."""
        return self._entries[name].shape

    def sha256(self) -> str:
        """In hexadecimal, of the bytes of the index and then of every shard. Raises CheckpointError."""
        digest = hashlib.sha256()
        shards = [_shard(self._prefix, shard, self._shards) for shard in range(self._shards)]
        for path in [_index(self._prefix), *shards]:
            try:
                with _open(path) as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
            except (CheckpointError, OSError) as error:
                raise CheckpointError(f"{one_line(path)}: {_reason(error)}") from None
        return digest.hexdigest()


def bundle_prefix(path: str | os.PathLike[str]) -> Path | None:
    """The prefix that `path` means if it names a bundle: the prefix itself, its `.index` or one of its shards.

    None for other files. A `.ckpt` that is not there is taken for a prefix, too, though its `.index` is missing.
    """
    given = Path(path)
    stem, dot, suffix = given.name.rpartition(".")
    if dot and stem and (suffix == "index" or (suffix.startswith("data-") and "-of-" in suffix)):
        return given.with_name(stem)
    if suffix == "ckpt" and not os.path.lexists(given):
        return given
    return given if os.path.isfile(_index(given)) else None


def read_bundle(prefix: str | os.PathLike[str]) -> Bundle:
    """The tensors of `prefix.index` and its shards; they are read when asked for.

    Every shard must be there and every tensor lie within its shard.

    Raises:
        CheckpointError: a file is missing, truncated, damaged, or not of this format.
    """
    start = Path(prefix)
    path = _index(start)
    try:
        with _open(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_INDEX_BYTES:
                raise CheckpointError(f"is {size} bytes long; an index has at most {MAX_INDEX_BYTES}")
            table = read_table(file.read(MAX_INDEX_BYTES + 1))
        shards = _header(table)
        entries = {_name(key): _entry(key, value) for key, value in table.items() if key}
    except (CheckpointError, OSError) as error:
        raise CheckpointError(f"{one_line(path)} {_reason(error)}") from None
    _expect_apart(path, entries)
    sizes = [_size(_shard(start, shard, shards)) for shard in range(shards)]
    for name, entry in entries.items():
        if entry.shard >= shards or entry.offset + entry.size > sizes[entry.shard]:
            have = f"{sizes[entry.shard]} bytes there" if entry.shard < shards else f"{shards} shards"
            raise CheckpointError(
                f"{one_line(path)} puts tensor {one_line(name)} at bytes {entry.offset} to {entry.offset + entry.size} "
                f"of shard {entry.shard}, but there are {have}: truncated, or files of different checkpoints"
            )
    return Bundle(start, shards, entries)


def _expect_apart(path: Path, entries: Mapping[str, Entry]) -> None:
    """No two tensors share bytes: else a small file could ask for any amount of memory."""
    held = sorted((entry.shard, entry.offset, entry.size, name) for name, entry in entries.items() if entry.size)
    for (shard, offset, size, name), (next_shard, next_offset, _, other) in pairwise(held):
        if shard == next_shard and offset + size > next_offset:
            raise CheckpointError(f"{one_line(path)} puts tensors {one_line(name)} and {one_line(other)} at the same "
                                  f"bytes of shard {shard}: damaged")


def _index(prefix: Path) -> Path:
    return Path(f"{prefix}.index")


def _shard(prefix: Path, shard: int, shards: int) -> Path:
    return Path(f"{prefix}.data-{shard:05d}-of-{shards:05d}")


def _open(path: Path) -> BinaryIO:
    try:
        return open_plain(path)
    except OSError as error:
        raise CheckpointError(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "does not exist; a checkpoint needs its .index and all of its .data-… files, under one prefix"
    if isinstance(error, OSError):
        return f"cannot be read: {one_line(error.strerror or error)}"
    return one_line(error, 400) if isinstance(error, CheckpointError) else f"cannot be read: {one_line(error)}"


def _size(path: Path) -> int:
    try:
        with _open(path) as file:
            return os.fstat(file.fileno()).st_size
    except CheckpointError as error:
        raise CheckpointError(f"{one_line(path)} {error}") from None


def _read(file: BinaryIO, entry: Entry) -> NDArray[Any]:
    if entry.sliced:
        raise CheckpointError("is stored in slices, as partitioned variables are; that is not read")
    if entry.dtype not in DTYPES:
        raise CheckpointError(f"has TensorFlow's data type {entry.dtype}, which is not a plain number")
    if os.fstat(file.fileno()).st_size < entry.offset + entry.size:  # before memory is asked for
        raise CheckpointError("is not stored in full: truncated?")
    try:
        file.seek(entry.offset)
        raw = np.fromfile(file, np.uint8, entry.size)
    except OSError as error:
        raise CheckpointError(_reason(error)) from None
    if len(raw) != entry.size:
        raise CheckpointError("is not stored in full: truncated?")
    if masked_crc32c(raw) != entry.crc:
        raise CheckpointError("is damaged: its checksum is wrong")
    return raw.view(DTYPES[entry.dtype]).reshape(entry.shape)


def _name(key: bytes) -> str:
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError:
        raise CheckpointError(f"has the name {one_line(repr(key), 80)}, which is not UTF-8") from None


def _header(table: dict[bytes, bytes]) -> int:
    """The number of shards."""
    if b"" not in table:
        raise CheckpointError("has no header entry: it is a table, but not a checkpoint index")
    values = dict(fields(table[b""]))
    shards, endianness = values.get(1, 0), values.get(2, 0)
    if not isinstance(shards, int) or not 1 <= shards <= MAX_SHARDS:
        raise CheckpointError(f"says that there are {one_line(shards)} shards; 1 to {MAX_SHARDS} are possible")
    if endianness != 0:
        raise CheckpointError("was written on a big-endian machine; that is not read")
    return shards


def _entry(key: bytes, value: bytes) -> Entry:
    """A BundleEntryProto."""
    found: dict[int, int] = {}
    shape: tuple[int, ...] = ()
    sliced = False
    for number, field in fields(value):
        if number == 2 and isinstance(field, bytes):
            shape = shape_of(field)
        elif number == 7:
            sliced = True
        elif isinstance(field, int):
            found[number] = field
        else:
            raise CheckpointError(f"describes {one_line(repr(key), 80)} with bytes in field {number}: damaged")
    dtype, shard, offset, size, crc = (found.get(number, 0) for number in (1, 3, 4, 5, 6))
    if max(offset, size) >= 1 << 62:
        raise CheckpointError(f"describes {one_line(repr(key), 80)} as {size} bytes at {offset}: damaged")
    if dtype in DTYPES and not sliced and prod(shape) * np.dtype(DTYPES[dtype]).itemsize != size:
        raise CheckpointError(f"gives {one_line(repr(key), 80)} of shape {list(shape)} {size} bytes: damaged")
    return Entry(dtype, shape, shard, offset, size, crc, sliced)
