"""`read_shards` gives every record as it was written, or one error that says which file is wrong and what to do."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import GraphFileError, PixelsnailError, RequestError
from pixelsnail_infer.runtime.bulk.folder import open_folder
from pixelsnail_infer.runtime.bulk.job import JOB_FILE
from pixelsnail_infer.runtime.bulk.reading import read_shards
from pixelsnail_infer.runtime.bulk.shards import ShardName, named, shard_of
from pixelsnail_infer.runtime.files.arrays import npy

from .jobs import KEYS, a_job, fill, images
from .running import records, shards


@pytest.fixture(params=["npy", "parquet"])
def format(request: pytest.FixtureRequest) -> str:
    if request.param == "parquet":
        pytest.importorskip("pyarrow.parquet")
    return str(request.param)


@pytest.fixture
def out(tmp_path: Path, format: str) -> Path:
    return fill(tmp_path / "out", a_job(format=format))


def expected(**options: Any) -> np.ndarray:
    job = a_job(**options)
    return np.concatenate([images(job, shard_of(number, job.n, job.shard)) for number in range(5)])


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(PixelsnailError) as caught:
        list(read_shards(folder, **options))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def renamed(path: Path, data: bytes) -> Path:
    """`data` in place of the file at `path`, under the name that says its sha256."""
    name = ShardName.parse(path.name)
    assert name is not None
    path.unlink()
    other = path.with_name(str(named(name.number, name.total, data, name.format)))
    other.write_bytes(data)
    return other


def test_every_record_comes_in_order(out: Path) -> None:
    assert np.array_equal(records(out), expected())
    assert np.array_equal(np.concatenate([*read_shards(out, digests=False)]), expected())


def test_a_reader_wants_a_whole_job(out: Path, tmp_path: Path) -> None:
    shards(out)[1].unlink()
    assert "4 of 5 shards" in refusal(out)
    assert np.array_equal(np.concatenate([*read_shards(out, partial=True)]), np.delete(expected(), range(5, 10)))
    assert "holds no job.json" in refusal(tmp_path) and "holds no job.json" in refusal(tmp_path / "nowhere")


HARMS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda good: b"", "zip": lambda good: b"PK\3\4" + good, "pickle": lambda good: b"\x80\x04K\x01.",
    "start": lambda good: good[:10], "half": lambda good: good[: len(good) // 2], "short": lambda good: good[:-1],
    "long": lambda good: good + b"xx", "zeros": lambda good: bytes(len(good)),
    "array": lambda good: npy(np.zeros(5, "<u8")),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("digests", [True, False])
def test_a_damaged_shard_is_named(out: Path, harm: str, digests: bool) -> None:
    bad = shards(out)[1]
    bad.write_bytes(HARMS[harm](bad.read_bytes()))
    message = refusal(out, digests=digests)
    assert f"{bad} is damaged" in message and "delete it" in message


@pytest.mark.parametrize("digests", [True, False])
def test_no_flipped_bit_lets_another_error_out(out: Path, digests: bool) -> None:
    bad, chance = shards(out)[1], random.Random(0)
    good = bad.read_bytes()
    for _ in range(200):
        data = bytearray(good)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        bad.write_bytes(data)
        if digests:
            assert "is damaged" in refusal(out)
        else:
            try:
                list(read_shards(out, digests=False))
            except GraphFileError:
                pass


@pytest.mark.parametrize("digests", [True, False])
def test_whole_files_of_other_images_are_refused(out: Path, tmp_path: Path, format: str, digests: bool) -> None:
    job = a_job(format=format)
    one, other = shards(out)[:2]
    kept = one.read_bytes(), other.read_bytes()
    swapped = renamed(one, kept[1])
    assert f"{swapped} has the sha256 of its name" in (told := refusal(out, digests=digests))
    assert "it holds image 5 of seed 7, expected image 0 of seed 7; move it away" in told
    with pytest.raises(GraphFileError, match="image 5 of seed 7, expected image 0"), open_folder(out, job):
        pass
    swapped = renamed(swapped, shards(fill(tmp_path / "other", a_job(seed=8, format=format)))[0].read_bytes())
    assert "it holds image 0 of seed 8, expected image 0 of seed 7" in refusal(out, digests=digests)
    with pytest.raises(GraphFileError, match="of seed 8, expected image 0 of seed 7"), open_folder(out, job):
        pass
    swapped.unlink()
    fill(out, job)  # as the message says
    assert np.array_equal(records(out), expected())


def test_every_record_is_checked_when_it_is_read(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", a_job())
    found = np.load(shards(out)[2])
    found["index"][2] = 99
    renamed(shards(out)[2], npy(found))
    assert "it holds image 99 of seed 7, expected image 12" in refusal(out)
    with open_folder(out, a_job()) as folder:  # only the first and the last: the sha256 is right
        assert folder.missing() == []


@pytest.mark.parametrize("name", ["fifo", "folder", "nowhere"])
def test_only_a_plain_file_is_opened(out: Path, name: str) -> None:
    bad = shards(out)[1]
    bad.unlink()
    {"fifo": os.mkfifo, "folder": os.mkdir, "nowhere": lambda path: os.symlink("/nowhere/x", path)}[name](bad)
    assert f"{bad} cannot be read" in refusal(out)
    (out / JOB_FILE).unlink()
    os.mkfifo(out / JOB_FILE)
    assert "it is a named pipe" in refusal(out)


FIELD = {"name": "seed", "dtype": "<u8", "shape": []}
GOOD = [{"name": field.name, "dtype": field.dtype, "shape": []} for field in KEYS]


@pytest.mark.parametrize("key, value", [
    ("shard", 0), ("shard", -1), ("n", 0), ("n", -5), ("n", 2**62), ("format", "csv"), ("fields", []),
    ("seed", "x"), ("seed", "-1"), ("seed", "٣"), ("seed", str(2**64)), ("seed", "9" * 5000), ("fields", [FIELD]),
    *(("fields", [*GOOD, {"name": name, "dtype": dtype, "shape": shape}]) for name, dtype, shape in (
        ("a", "O", []), ("a", "nonsense", []), ("a", "<u8", [-1]), ("a", "<u8", [2**40, 2**40]), ("", "<u8", []),
        ("a", "V999999999", []), ("seed", "<u8", []), ("a", "<i4,<i4", []), ("a", "<u8", [2**62]))),
    ("fields", [*GOOD[::-1]]), ("fields", [FIELD, {"name": "index", "dtype": "<u4", "shape": []}]),
])  # fmt: skip
def test_a_job_file_that_no_job_has_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    out = fill(tmp_path / "out", a_job())
    held = json.loads((out / JOB_FILE).read_text())
    (out / JOB_FILE).write_text(json.dumps({**held, key: value}))
    with pytest.raises(RequestError, match=JOB_FILE):
        list(read_shards(out))


def test_a_job_file_without_an_end_is_refused(tmp_path: Path) -> None:
    out = fill(tmp_path / "out", a_job())
    with (out / JOB_FILE).open("ab") as file:
        file.truncate(1 << 40)  # sparse
    assert "is not valid JSON" in refusal(out)


@pytest.mark.parametrize("folder", ["label=3", "file:x", "s3:", os.fsdecode(b"x\xff"), "ünï"])
def test_the_name_of_the_folder_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Path(folder), a_job(format=format))
    assert np.array_equal(records(Path(folder)), expected())


@pytest.mark.filterwarnings("ignore:Stored array in format 3.0")
@pytest.mark.parametrize("name", ["größe", "клас"])
def test_the_name_of_a_field_may_be_of_any_letters(tmp_path: Path, format: str, name: str) -> None:
    out = fill(tmp_path / "out", a_job(format=format, name=name))
    assert np.array_equal(records(out)[name], expected()["codes"])


def test_a_parquet_file_is_read_in_as_many_parts_as_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    out, read = fill(tmp_path / "out", a_job(format="parquet")), pq.ParquetFile.read
    with monkeypatch.context() as patch:
        parts = (slice(0, 2), slice(2, 4), slice(4, None))
        patch.setattr(pq.ParquetFile, "read", lambda self, columns: pa.concat_tables(
            [read(self, columns)[part] for part in parts]))  # fmt: skip
        assert np.array_equal(records(out), expected())


def test_a_column_of_another_type_is_refused(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    out = fill(tmp_path / "out", a_job(format="parquet"))
    table = pq.read_table(shards(out)[0])
    pq.write_table(table.set_column(2, "label", [table["seed"]]), tmp_path / "parts")
    renamed(shards(out)[0], (tmp_path / "parts").read_bytes())
    assert "label is uint64 [], expected int32" in refusal(out)
