"""TensorFlow bundles: what Saver wrote is read; what is broken is refused in one line, and nothing else happens."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelsnail_infer.checkpoints.crc32c import crc32c, masked_crc32c
from pixelsnail_infer.checkpoints.tf_bundle import bundle_prefix, read_bundle
from pixelsnail_infer.checkpoints.tf_table import read_table
from pixelsnail_infer.errors import CheckpointError

from .bundles import DATA, MAGIC, entry, header, varint, write_bundle
from .write_tf_bundle import known_value


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The prefix of a copy of a committed bundle."""
    for path in DATA.glob("h6.ckpt.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "h6.ckpt"


def refused(prefix: Path, *, part: str) -> None:
    """Reading all of it ends in a CheckpointError of one line that says `part`."""
    with pytest.raises(CheckpointError, match=part) as error:
        dict(read_bundle(prefix))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["h12.ckpt", "h6.ckpt"])
def test_every_tensor_has_the_value_that_the_saver_was_given(name: str) -> None:
    bundle = read_bundle(DATA / name)
    assert len(bundle) == {"h12.ckpt": 815, "h6.ckpt": 461}[name]
    assert list(bundle) == sorted(bundle)
    for variable, values in bundle.items():
        assert values.dtype == np.float32 and values.shape == bundle.shape(variable)
        np.testing.assert_array_equal(values, known_value(variable, values.shape))


def test_what_was_read_belongs_to_the_caller(copy: Path) -> None:
    bundle = read_bundle(copy)
    bundle["model/dense_0/g"][:] = 0
    np.testing.assert_array_equal(bundle["model/dense_0/g"], known_value("model/dense_0/g", (4,)))


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00000-of-00001"])
def test_a_bundle_is_found_by_any_of_its_names(copy: Path, suffix: str) -> None:
    assert bundle_prefix(f"{copy}{suffix}") == copy


def test_other_files_are_no_bundles(tmp_path: Path) -> None:
    (tmp_path / "model.pt").touch()
    assert bundle_prefix(tmp_path / "model.pt") is None
    assert bundle_prefix(tmp_path / "nothing.pt") is None
    assert bundle_prefix("x" * 5000) is None
    (tmp_path / "lightning.ckpt").touch()
    assert bundle_prefix(tmp_path / "lightning.ckpt") is None
    assert bundle_prefix(tmp_path / "nothing.ckpt") == tmp_path / "nothing.ckpt"
    assert bundle_prefix(tmp_path) is None


def test_types_shapes_and_shards(tmp_path: Path) -> None:
    tensors = {
        "a/float64": (2, np.arange(6, dtype="<f8").reshape(2, 3)),
        "b/int64": (9, np.array(7, "<i8")),
        "c/empty": (1, np.zeros((0, 3), "<f4")),
        "d/half": (19, np.arange(3, dtype="<f2")),
    }
    write_bundle(tmp_path / "m", tensors, shards=2)
    bundle = read_bundle(tmp_path / "m")
    for name, (_, values) in tensors.items():
        np.testing.assert_array_equal(bundle[name], values)
        assert bundle[name].dtype == values.dtype and bundle[name].shape == values.shape


@pytest.mark.parametrize("size", [0, 1, 9, 1023, 16384, 16385, 3 * 16384 + 5, 100_001])
def test_crc_of_many_sizes(size: int) -> None:
    data = np.random.RandomState(size).bytes(size)
    slow = 0xFFFFFFFF
    for byte in data:
        slow ^= byte
        for _ in range(8):
            slow = slow >> 1 ^ (0x82F63B78 if slow & 1 else 0)
    assert crc32c(data) == crc32c(np.frombuffer(data, np.uint8)) == slow ^ 0xFFFFFFFF


def test_crc_check_values() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the catalogue's check value
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


def test_files_that_are_missing_or_cut(copy: Path) -> None:
    index, data = Path(f"{copy}.index"), Path(f"{copy}.data-00000-of-00001")
    whole, raw = index.read_bytes(), data.read_bytes()
    data.write_bytes(raw[:-1])
    refused(copy, part="truncated, or files of different checkpoints")
    data.unlink()
    refused(copy, part=r"data-00000-of-00001 does not exist")
    data.mkdir()
    refused(copy, part="expected a regular file")
    index.write_bytes(whole[:-1])
    refused(copy, part="truncated, or another kind of file")
    index.write_bytes(b"")
    refused(copy, part="shorter than the footer")
    index.unlink()
    refused(copy, part=r"\.index does not exist")
    refused(Path(f"{copy}\0"), part="cannot be read")


def test_a_flipped_bit_in_a_tensor_is_seen(copy: Path) -> None:
    data = Path(f"{copy}.data-00000-of-00001")
    raw = bytearray(data.read_bytes())
    raw[500] ^= 1
    data.write_bytes(raw)
    refused(copy, part="its checksum is wrong")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"dtype": 7}, "data type 7"),
        ({"dtype": 99}, "data type 99"),
        ({"shape": (2, 4)}, "24 bytes: damaged"),
        ({"shape": (1 << 61, 8)}, "impossible size"),
        ({"shape": (0, 1 << 61)}, "impossible size"),
        ({"shape": ((1 << 64) - 1,)}, "impossible size"),
        ({"shape": (1,) * 40}, "more than 32 dimensions"),
        ({"shard": 1}, "1 shards"),
        ({"shard": 1 << 40}, "1 shards"),
        ({"offset": 1}, "truncated, or files of different"),
        ({"offset": (1 << 64) - 8}, "damaged"),
        ({"size": 1 << 40, "shape": (1 << 38,)}, "truncated, or files of different"),
        ({"crc": 0}, "checksum"),
        ({"extra": b"\x3a\x00"}, "slices"),
        ({"extra": b"\x0b"}, "well-formed protocol buffer"),
        ({"extra": b"\x1a\x05\x00"}, "well-formed protocol buffer"),
        ({"extra": b"\x18" + b"\xff" * 10}, "64 bits"),
        ({"extra": b"\x18\xff"}, "within a number"),
        ({"extra": b"\x0a\x00"}, "bytes in field 1"),
    ],
)
def test_entries_that_lie(tmp_path: Path, change: dict[str, object], part: str) -> None:
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    write_bundle(tmp_path / "m", {"x": (1, values)}, change=change)
    refused(tmp_path / "m", part=part)


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ({}, "no header"),
        ({b"": header(0)}, "0 shards"),
        ({b"": header(1 << 40)}, "shards"),
        ({b"": header(1) + b"\x10\x01"}, "big-endian"),
        ({b"": header(1), b"\xff\xfe": entry()}, "not UTF-8"),
        ({b"": header(1), b"x" * 5000: entry()}, "at most 4096"),
    ],
)
def test_indices_that_lie(tmp_path: Path, table: dict[bytes, bytes], part: str) -> None:
    write_bundle(tmp_path / "m", {}, table=table)
    refused(tmp_path / "m", part=part)


def block(content: bytes, compression: int = 0) -> bytes:
    kind = bytes([compression])
    return content + kind + masked_crc32c(content + kind).to_bytes(4, "little")


def test_compressed_and_unsorted_blocks() -> None:
    def table(data: bytes, compression: int = 0) -> bytes:
        end = b"\0\0\0\0\1\0\0\0"
        first = block(data, compression)
        handle = varint(0) + varint(len(data))
        index = b"\0\1" + bytes([len(handle)]) + b"z" + handle + end
        footer = varint(0) + varint(0) + varint(len(first)) + varint(len(index))
        return first + block(index) + footer.ljust(40, b"\0") + MAGIC

    end = b"\0\0\0\0\1\0\0\0"
    assert read_table(table(b"\0\1\1aA\0\1\1bB" + end)) == {b"a": b"A", b"b": b"B"}
    with pytest.raises(CheckpointError, match="snappy"):
        read_table(table(b"\0\1\1aA" + end, 1))
    with pytest.raises(CheckpointError, match="must be sorted"):
        read_table(table(b"\0\1\1bB\0\1\1aA" + end))
    with pytest.raises(CheckpointError, match="must be sorted"):
        read_table(table(b"\0\1\1aA\0\1\1aA" + end))
    with pytest.raises(CheckpointError, match="out of its block"):
        read_table(table(b"\3\1\1aA" + end))
    with pytest.raises(CheckpointError, match="restarts"):
        read_table(table(b"\0\1\1aA" + b"\xff" * 4))


Patch = tuple[int, int, bytes]
PATCHES = st.tuples(st.integers(0, 1 << 20), st.integers(0, 12), st.binary(max_size=12))
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def patched(data: bytes, patch: Patch) -> bytes:
    """Some bytes at a position replaced by others."""
    start = patch[0] % (len(data) + 1)
    return data[:start] + patch[2] + data[start + patch[1] :]


def read_or_refuse(prefix: Path) -> dict[str, NDArray[Any]] | None:
    """All tensors, or None after a CheckpointError of one line."""
    try:
        return dict(read_bundle(prefix))
    except CheckpointError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return None


@FUZZ
@given(patch=PATCHES)
def test_a_damaged_index_is_refused_or_means_the_same(copy: Path, patch: Patch) -> None:
    path = Path(f"{copy}.index")
    whole = dict(read_bundle(DATA / "h6.ckpt"))
    path.write_bytes(patched((DATA / "h6.ckpt.index").read_bytes(), patch))
    read = read_or_refuse(copy)
    assert read is None or (read.keys() == whole.keys() and all((read[n] == whole[n]).all() for n in whole))


@FUZZ
@given(patch=PATCHES)
def test_a_damaged_shard_is_refused_or_means_the_same(copy: Path, patch: Patch) -> None:
    path = Path(f"{copy}.data-00000-of-00001")
    raw = Path(DATA / path.name).read_bytes()
    path.write_bytes(patched(raw, patch))
    assert (read_or_refuse(copy) is None) == (path.read_bytes()[: len(raw)] != raw)


@FUZZ
@given(content=st.binary(max_size=200), patch=PATCHES)
def test_garbage_behind_good_checksums_is_refused(tmp_path: Path, content: bytes, patch: Patch) -> None:
    index = block(content)
    footer = (varint(0) + varint(0) + varint(0) + varint(len(content))).ljust(40, b"\0")
    (tmp_path / "m.index").write_bytes(index + footer + MAGIC)
    (tmp_path / "m.data-00000-of-00001").write_bytes(b"\0" * 64)
    read_or_refuse(tmp_path / "m")
    table = {b"": patched(header(1), (patch[0], 0, b"")), b"x": patched(entry(), patch)}
    write_bundle(tmp_path / "m", {}, table=table)
    read_or_refuse(tmp_path / "m")


def test_few_bytes_cannot_ask_for_much(tmp_path: Path) -> None:
    """Tensors at the same bytes, a block read again and again, names that share their beginnings by the million."""
    tensors = {name: (1, np.zeros(2, np.float32)) for name in "xy"}
    write_bundle(tmp_path / "a", tensors, change={"offset": 0})
    refused(tmp_path / "a", part="puts tensors x and y at the same bytes of shard 0")

    block, handle = sealed(b"", 0), varint(0) + varint(4)
    index = sealed(b"".join(b"\0\2" + varint(len(handle)) + k.to_bytes(2, "big") + handle for k in range(3)), 0)
    write_index(tmp_path / "b", block, index)
    refused(tmp_path / "b", part="has a block at 0, before the end of the last one at 9")

    long = b"\0" + varint(4000) + b"\0" + b"\0" * 4000
    many = b"".join(varint(4000) + b"\2\0" + k.to_bytes(2, "big") for k in range(1, 9000))
    block = sealed(long + many, 0)
    handle = varint(0) + varint(len(block) - 5)
    index = sealed(b"\0\1" + varint(len(handle)) + b"\xff" + handle, 0)
    write_index(tmp_path / "c", block, index)
    refused(tmp_path / "c", part="has more than 33554432 bytes of names")


def sealed(entries: bytes, restarts: int) -> bytes:
    """A block with its trailer."""
    content = entries + restarts.to_bytes(4, "little") + b"\0"
    return content + masked_crc32c(content).to_bytes(4, "little")


def write_index(prefix: Path, block: bytes, index: bytes) -> None:
    footer = (varint(0) + varint(0) + varint(len(block)) + varint(len(index) - 5)).ljust(40, b"\0")
    Path(f"{prefix}.index").write_bytes(block + index + footer + MAGIC)
