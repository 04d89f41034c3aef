"""TensorFlow's first checkpoint format: what its own Saver wrote, what nobody should have written, and large files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelsnail_infer.checkpoints.tf_bundle import read_bundle
from pixelsnail_infer.checkpoints.tf_checkpoint import open_variables, tensorflow_path
from pixelsnail_infer.checkpoints.tf_slices import read_slices, slice_file
from pixelsnail_infer.errors import CheckpointError

from .bundles import DATA, field, write_bundle, write_slices
from .write_tf_bundle import known_value

SINGLE = DATA / "cpp1.ckpt"
Tensors = dict[str, tuple[int, NDArray[Any]]]


def refused(path: Path, part: str, name: str | None = None) -> None:
    with pytest.raises(CheckpointError, match=part) as error:
        variables = read_slices(path)
        for one in [name] if name else variables:
            _ = variables[one]
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


def test_what_the_saver_wrote() -> None:
    """A file of TensorFlow's own; every variable has the value that the script derives from its name."""
    held = read_slices(SINGLE)
    assert len(held) == 379 and list(held) == sorted(held) and "model/dense_0/V" in held and "nothing" not in held
    for name in held:
        np.testing.assert_array_equal(held[name], known_value(name, held.shape(name)))
    assert len(held.sha256()) == 64
    with pytest.raises(KeyError):
        _ = held["nothing"]


def test_either_format_by_its_path(tmp_path: Path) -> None:
    write_bundle(tmp_path / "m.ckpt", {"a": (1, np.ones(2, "<f4"))})
    (tmp_path / "other.ckpt").write_bytes(b"PK" + bytes(100))
    assert tensorflow_path(SINGLE) == SINGLE == slice_file(SINGLE)
    assert tensorflow_path(tmp_path / "m.ckpt.index") == tmp_path / "m.ckpt"
    assert slice_file(tmp_path / "other.ckpt") is slice_file(tmp_path) is slice_file(tmp_path / "none") is None
    assert len(open_variables(SINGLE)) == 379 and list(open_variables(tmp_path / "m.ckpt")) == ["a"]
    with pytest.raises(CheckpointError, match=r"none\.ckpt\.index does not exist"):
        open_variables(tmp_path / "none.ckpt")


@pytest.mark.parametrize("each", [1, 2, 3, 9])
def test_types_shapes_and_blocks(each: int, tmp_path: Path) -> None:
    tensors: Tensors = {
        "a": (2, np.arange(6, dtype="<f8").reshape(2, 3)),
        "a/b": (1, np.array(7, "<f4")),
        "c/empty": (1, np.zeros((0, 3), "<f4")),
        "c/emptyer": (1, np.ones((1, 0), "<f4")),
    }
    write_slices(tmp_path / "m", tensors, each=each)
    held = read_slices(tmp_path / "m")
    for name, (_, values) in tensors.items():
        np.testing.assert_array_equal(held[name], values)
        assert held[name].dtype == values.dtype and held.shape(name) == values.shape
    assert held["a"].flags.writeable


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"dtype": 3}, "data type 3; only floating"),
        ({"slices": []}, "stored in slices"),
        ({"slices": [field(1, b""), field(1, b"")]}, "stored in slices"),
        ({"slices": [field(1, b"\x08\x01")]}, "stored in slices"),
        ({"slices": [field(1, b"\x10\x01")]}, "stored in slices"),
        ({"slices": [b""]}, "stored in slices"),
        ({"shape": (3,)}, "stored with 8 bytes"),
        ({"shape": (1 << 61,)}, "unknown or impossible size"),
        ({"data": b""}, "stored with 0 bytes"),
        ({"data": field(5, bytes(4)) * 2}, None),
        ({"data": b"\x28\x01"}, "number in field 5"),
        ({"data": field(5, bytes(8))[:-1]}, "well-formed"),
        ({"name": b"b"}, "under another name"),
    ],
)
def test_what_does_not_fit(change: dict[str, Any], part: str | None, tmp_path: Path) -> None:
    write_slices(tmp_path / "m", {"a": (1, np.zeros(2, "<f4"))}, change={"a": change})
    if part is None:
        assert not read_slices(tmp_path / "m")["a"].any()
    else:
        refused(tmp_path / "m", part)


def test_an_axis_may_say_its_whole_length(tmp_path: Path) -> None:
    change = {"a": {"slices": [field(1, b"\x10\x02")]}}
    write_slices(tmp_path / "m", {"a": (1, np.ones(2, "<f4"))}, change=change)
    assert read_slices(tmp_path / "m")["a"].all()


def test_files_that_are_missing_cut_or_damaged(tmp_path: Path) -> None:
    whole = SINGLE.read_bytes()
    path = tmp_path / "m"
    refused(path, "No such file")
    for content, part in (
        (whole[:-1], "truncated, or another kind of file"),
        (whole[100:], "checksum|beyond|truncated"),
        (b"", "shorter than the footer"),
    ):
        path.write_bytes(content)
        refused(path, part)
    for at in (40, 30_000):  # in the list of variables, which comes first, and in some variable
        spoilt = bytearray(whole)
        spoilt[at] ^= 1
        path.write_bytes(spoilt)
        refused(path, "its checksum|is damaged: the checksum of its block")
    write_bundle(tmp_path / "b", {"a": (1, np.ones(2, "<f4"))})
    refused(Path(f"{tmp_path / 'b'}.index"), "damaged|number in field|fields 1")
    assert list(read_bundle(tmp_path / "b")) == ["a"]


def test_a_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m"
    write_slices(path, {"a": (1, np.ones(9, "<f4")), "b": (1, np.ones(9, "<f4"))}, each=1)
    held = read_slices(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="became shorter"):
        _ = held["b"]
