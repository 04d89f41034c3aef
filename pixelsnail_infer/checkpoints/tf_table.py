"""What TensorFlow's checkpoints are kept in: a LevelDB table (SSTable) of sorted keys, without compression.

Layout, from the file's end: a footer of 48 bytes (two block handles as varints, zeros, the magic number) points to a
block of block handles; each of these points to a block of entries. A block's entries are (bytes shared with the last
key, new key bytes, value bytes) with the lengths as varints, then the positions at which nothing is shared, as uint32,
and their number; after the block come one byte for the compression and the masked CRC-32C of block and byte.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Protocol

from pixelsnail_infer.checkpoints.crc32c import masked_crc32c
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.messages import one_line

__all__ = ["FOOTER_SIZE", "MAGIC", "Content", "Table", "read_table", "read_varint"]

FOOTER_SIZE = 48
MAGIC = 0xDB4775248B80FB57
TRAILER_SIZE = 5
COMPRESSIONS = {1: "snappy", 2: "zstandard"}
MAX_KEY = 4096
"""Longer than any variable's name."""
MAX_KEY_BYTES = 1 << 25
"""Of all keys. Keys share their beginnings: without limits few bytes could ask for much memory."""


class Content(Protocol):
    """The bytes of a file, read where they are asked for; `bytes` is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


class Table:
    """The blocks of a table, of which only those are read whose keys are asked for.

    The blocks are expected one after the other, their keys in order. What is damaged raises CheckpointError: here for
    the table's own list of blocks, and by the other methods for what they read.
    """

    def __init__(self, content: Content) -> None:
        if len(content) < FOOTER_SIZE:
            raise CheckpointError(f"is {len(content)} bytes long, shorter than the footer of an index: truncated?")
        footer = content[len(content) - FOOTER_SIZE : len(content)]
        if int.from_bytes(footer[-8:], "little") != MAGIC:
            raise CheckpointError("does not end as a TensorFlow checkpoint index does: truncated, or another kind of "
                                  "file")
        self._content = content
        at = 0
        for _ in range(2):  # the block of meta data, always empty, whose handle is passed over
            _, at = read_varint(footer[:-8], at)
        listed = list(_entries(_block(content, footer[at:-8])))
        self._last = [key for key, _ in listed]  # at or after the last key of each block, before the next one's first
        self._handles = [handle for _, handle in listed]
        self._kept: tuple[int, list[tuple[bytes, bytes]]] = (-1, [])

    def starting_with(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The keys that begin with `prefix`, in order, and their values. Only blocks that may hold one are read."""
        for number in range(bisect_left(self._last, prefix), len(self._handles)):
            found = [(key, value) for key, value in self._read(number) if key.startswith(prefix)]
            yield from found
            if not found or not self._last[number].startswith(prefix):  # what follows comes after all such keys
                return

    def _read(self, number: int) -> list[tuple[bytes, bytes]]:
        """A block's entries. The last one is kept: keys that follow each other are asked for one after the other."""
        known, found = self._kept
        if known != number:
            found = list(_entries(_block(self._content, self._handles[number])))
            self._kept = (number, found)
        return found

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """All keys and values, in the order of the keys."""
        read = taken = 0
        last: bytes | None = None
        for handle in self._handles:
            offset, _ = read_varint(handle, 0)
            if offset < read:
                raise CheckpointError(f"has a block at {offset}, before the end of the last one at {read}: damaged")
            block = _block(self._content, handle)
            read = offset + len(block) + TRAILER_SIZE
            for key, value in _entries(block):
                taken += len(key)
                if taken > MAX_KEY_BYTES:
                    raise CheckpointError(f"has more than {MAX_KEY_BYTES} bytes of names; is it a checkpoint?")
                if last is not None and key <= last:
                    raise CheckpointError(f"has the key {_shown(key)} after {_shown(last)}: keys must be sorted")
                yield key, value
                last = key


def read_table(content: Content) -> dict[bytes, bytes]:
    """All keys and values of a table, in the order of the keys.

    Raises:
        CheckpointError: truncated, damaged, compressed, or not a table.
    """
    return dict(Table(content).entries())


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned integer of at most 64 bits, seven bits in a byte, and where the next thing starts."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise CheckpointError("ends within a number: truncated or damaged")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, at
    raise CheckpointError("has a number of more than 64 bits: damaged")


def _block(content: Content, handle: bytes) -> bytes:
    """The bytes of one block, checked against its CRC."""
    offset, at = read_varint(handle, 0)
    size, _ = read_varint(handle, at)
    end = offset + size
    if end + TRAILER_SIZE > len(content) - FOOTER_SIZE:
        raise CheckpointError(f"points to a block of {size} bytes at {offset}, beyond its {len(content)} bytes")
    stored = content[offset : end + TRAILER_SIZE]
    if masked_crc32c(stored[: size + 1]) != int.from_bytes(stored[size + 1 :], "little"):
        raise CheckpointError(f"is damaged: the checksum of its block at {offset} is wrong")
    if compression := stored[size]:
        kind = COMPRESSIONS.get(compression, f"method {compression}")
        raise CheckpointError(f"is compressed ({kind}); TensorFlow writes an index uncompressed: save it anew")
    return stored[:size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of one block."""
    restarts = int.from_bytes(block[-4:], "little") if len(block) >= 4 else -1
    end = len(block) - 4 - 4 * restarts
    if restarts < 0 or end < 0:
        raise CheckpointError("has a block without room for its list of restarts: damaged")
    at, key = 0, b""
    while at < end:
        shared, at = read_varint(block, at)
        added, at = read_varint(block, at)
        length, at = read_varint(block, at)
        if shared > len(key) or at + added + length > end:
            raise CheckpointError("has an entry that reaches out of its block: damaged")
        if shared + added > MAX_KEY:
            raise CheckpointError(f"has a key of {shared + added} bytes; at most {MAX_KEY} are accepted")
        key = key[:shared] + block[at : at + added]
        at += added
        yield key, block[at : at + length]
        at += length


def _shown(key: bytes) -> str:
    return repr(one_line(key.decode("utf-8", "replace"), 60))
