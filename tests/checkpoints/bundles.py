"""Small TensorFlow bundles written by hand, well-formed or not, so that the reader can be lied to."""

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
    first = _block(entries if table is None else table)
    index = _block({b"\xff" * 8: varint(0) + varint(len(first) - 5)})
    footer = (varint(0) + varint(0) + varint(len(first)) + varint(len(index) - 5)).ljust(40, b"\0")
    Path(f"{prefix}.index").write_bytes(first + index + footer + MAGIC)
