"""`.npy` files: headers that lie, and valid ones of every kind."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.runtime.commands.labels import parse_labels, read_conditions
from pixelsnail_infer.runtime.files import arrays
from pixelsnail_infer.runtime.files.arrays import load_array, npz

from .cases import SPECS


def raw(text: str, data: bytes = b"", version: int = 1, size: int | None = None) -> bytes:
    length = (len(text) if size is None else size).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes((version, 0)) + length + text.encode() + data


def header(descr: Any = "<f4", shape: Any = (2,), order: Any = False) -> str:
    return repr({"descr": descr, "fortran_order": order, "shape": shape})


@pytest.mark.parametrize("data, message", [
    (b"", "it is empty"),
    (b"hello", "header is damaged"),
    (raw(header(shape=(1 << 60,))), "promises 4611686018427387904 bytes of numbers, but 0 follow|impossible shape"),
    (raw(header(shape=(10**30,))), "impossible shape"),
    (raw(header(shape=(10**30, 0))), "impossible shape"),
    (raw(header(shape=(-1, -8)), bytes(32)), "impossible shape"),
    (raw(header(shape=(True,)), bytes(4)), "impossible shape"),
    (raw(header(shape=(1,) * 33), bytes(4)), "impossible shape"),
    (raw(header(shape=(2.0,)), bytes(8)), "header is damaged"),
    (raw(header(shape=2), bytes(8)), "header is damaged"),
    (raw(header(order=3), bytes(8)), "header is damaged"),
    (raw(header()), "promises 8 bytes of numbers, but 0 follow"),
    (raw(header(), bytes(9)), "promises 8 bytes of numbers, but 9 follow"),
    (raw(header("|O"), bytes(16)), "it holds Python objects"),
    (raw(header("|V8"), bytes(16)), "it holds structures"),
    (raw(header([("a", "<f4"), ("b", "<i8")]), bytes(24)), "it holds structures"),
    (raw(header("<U3"), bytes(24)), "it holds text"),
    (raw(header("<M8[s]"), bytes(16)), "it holds dates or times"),
    (raw(header("no such type"), bytes(16)), "header is damaged"),
    (raw(header(7), bytes(16)), "header is damaged"),
    (raw("(" * 9000), "header is damaged"),
    (raw("{'descr': '<f4', 'shape': (2L"), "header is damaged"),
    (raw("[" * 400 + "]" * 400), "header is damaged"),
    (raw("-" * 5000 + "1"), "header is damaged"),
    (raw("9" * 5000), "header is damaged"),
    (raw("'\\d'"), "header is damaged"),
    (raw(header(), bytes(8), 2, (1 << 32) - 1), "header is damaged"),
    (raw(header(), bytes(8), 9), "header is damaged"),
    (npz({"a": np.zeros(3)}), "an archive of arrays"),
    (npz({"a": np.zeros(3)})[:40], "an archive of arrays"),
    (b"PK\3\4", "an archive of arrays"),
])  # fmt: skip
def test_a_header_that_lies_is_refused_in_one_line(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RequestError, match=message) as error:
            load_array(tmp_path / "a.npy", "codes")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("descr", ["<f4", ">f4", "<i8", ">i8", ">f2", "|u1", "|b1"])
def test_valid_arrays_are_read_in_any_byte_order_and_layout(descr: str, version: int, tmp_path: Path) -> None:
    values = (np.arange(24) % 2).astype(descr).reshape(2, 3, 4)
    for array in (values, np.asfortranarray(values), values[:1, 0, 0].reshape(()), values[:0]):
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.asanyarray(array), version=(version, 0), allow_pickle=False)
        (tmp_path / "a.npy").write_bytes(buffer.getvalue())
        held = load_array(tmp_path / "a.npy", "codes")
        assert held.dtype == np.dtype(descr) and held.shape == array.shape and np.array_equal(held, array)


def test_an_array_larger_than_the_machine_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.zeros(100))
    monkeypatch.setattr(arrays, "machine_memory", lambda: 799)
    with pytest.raises(RequestError, match="its 800 bytes are more than this machine's memory"):
        load_array(tmp_path / "a.npy", "codes")


def test_labels_and_numbers_beyond_reason_are_refused() -> None:
    with pytest.raises(ValueError, match="more than 100,000 labels"):
        parse_labels("0-99998,5,5")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_conditions(SPECS[1:2], None, [("v", "1,1e39,0")], 1)["v"][1] == 1e39  # refused later
