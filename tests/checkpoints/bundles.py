"""Small TensorFlow checkpoints written by hand, well-formed or not, so that the readers can be lied to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.checkpoints.crc32c import masked_crc32c

DATA = Path(__file__).parent / "data"
MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")


def varint(value: int) -> bytes:
    """Seven bits in a byte, the lowest first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def header(shards: int) -> bytes:
    """A BundleHeaderProto."""
    return b"\x08" + varint(shards) + b"\x1a\x02\x08\x01"


def entry(
    dtype: int = 1,
    shape: tuple[int, ...] = (2,),
    shard: int = 0,
    offset: int = 0,
    size: int = 8,
    crc: int = 0,
    extra: bytes = b"",
) -> bytes:
    """A BundleEntryProto, with `extra` bytes at its end."""
    dims = b"".join(b"\x12" + varint(len(d)) + d for d in (b"\x08" + varint(n) for n in shape))
    numbers = b"\x18" + varint(shard) + b"\x20" + varint(offset) + b"\x28" + varint(size)
    return (
        b"\x08" + varint(dtype) + b"\x12" + varint(len(dims)) + dims + numbers + b"\x35" + crc.to_bytes(4, "little")
    ) + extra


def _block(entries: dict[bytes, bytes]) -> bytes:
    """A block that shares nothing between keys, with its trailer."""
    content = b"".join(b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, v in entries.items())
    content += b"\0\0\0\0\1\0\0\0" + b"\0"  # one restart, at 0; no compression
    return content + masked_crc32c(content).to_bytes(4, "little")


def _file(path: Path, entries: dict[bytes, bytes], each: int = 1 << 30) -> None:
    """A table of blocks of `each` entries."""
    content, handles, items = b"", {}, list(entries.items())
    for start in range(0, len(items), each):
        block = _block(dict(items[start : start + each]))
        last = items[start + each - 1][0] if start + each < len(items) else b"\xff" * 8
        handles[last] = varint(len(content)) + varint(len(block) - 5)
        content += block
    index = _block(handles)
    footer = (varint(0) + varint(0) + varint(len(content)) + varint(len(index) - 5)).ljust(40, b"\0")
    path.write_bytes(content + index + footer + MAGIC)


def field(number: int, message: bytes) -> bytes:
    """A field of bytes."""
    return varint(number << 3 | 2) + varint(len(message)) + message


def write_slices(
    path: Path,
    tensors: dict[str, tuple[int, NDArray[Any]]],
    *,
    change: dict[str, dict[str, Any]] | None = None,
    each: int = 2,
) -> None:
    """Write tensors in TensorFlow's first format, `each` to a block of the table.

    `change` replaces, for a name, what the file says of it: its `name`, `dtype`, `shape`, `slices` (a message for each)
    or `data` (a TensorProto).
    """
    listed, stored = b"", {}
    for name, (dtype, values) in sorted(tensors.items()):
        whole = b"".join(field(1, b"") for _ in values.shape)
        given: dict[str, Any] = {"name": name.encode(), "dtype": dtype, "shape": values.shape, "slices": [whole]}
        given |= {"data": field({1: 5, 2: 6}.get(dtype, 7), values.tobytes())} | (change or {}).get(name, {})
        sizes = b"".join(field(2, b"\x08" + varint(size)) for size in given["shape"])
        slices = b"".join(field(4, part) for part in given["slices"])
        listed += field(1, field(1, name.encode()) + field(2, sizes) + b"\x18" + varint(given["dtype"]) + slices)
        saved = field(1, given["name"]) + field(2, whole) + field(3, given["data"])
        stored[b"\0" + name.encode() + b"\0\1" + varint(len(values.shape))] = field(2, saved)
    _file(path, {b"": field(1, listed)} | stored, each)


def write_bundle(
    prefix: Path,
    tensors: dict[str, tuple[int, NDArray[Any]]],
    *,
    shards: int = 1,
    change: dict[str, Any] | None = None,
    table: dict[bytes, bytes] | None = None,
) -> None:
    """Write tensors, given as TensorFlow's number of their type and their values, dealt out to shards in turn.

    `change` replaces fields of every entry; `table` stands instead of all entries, the header included.
    """
    data = [bytearray() for _ in range(shards)]
    entries = {b"": header(shards)}
    for i, (name, (dtype, values)) in enumerate(sorted(tensors.items())):
        raw = values.tobytes()
        fields: dict[str, Any] = {
            "dtype": dtype,
            "shape": values.shape,
            "shard": i % shards,
            "offset": len(data[i % shards]),
            "size": len(raw),
            "crc": masked_crc32c(np.frombuffer(raw, np.uint8)),
        }
        entries[name.encode()] = entry(**fields | (change or {}))
        data[i % shards] += raw
    for i, content in enumerate(data):
        Path(f"{prefix}.data-{i:05d}-of-{shards:05d}").write_bytes(content)
    _file(Path(f"{prefix}.index"), entries if table is None else table)
