"""What is refused: another job, other files, damaged shards, wrong settings; always before anything changes."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.runtime import load_pipeline
from pixelsnail_infer.runtime.bulk import shards as bulk_shards
from pixelsnail_infer.runtime.bulk.drawer import ShardDrawer, open_drawer
from pixelsnail_infer.runtime.bulk.job import JOB_FILE
from pixelsnail_infer.runtime.bulk.plan import Models, make_plan
from pixelsnail_infer.runtime.bulk.shards import default_size

from .running import ARGUMENTS, LABELS, bulk, contents, drawn_shards, shards

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    """A copy of the finished folder."""
    return Path(shutil.copytree(whole, tmp_path / "out"))


def refused(capsys: Capture, *arguments: object) -> str:
    try:
        code = bulk(*arguments)
    except SystemExit as stop:
        code = stop.code  # type: ignore[assignment]
    printed = capsys.readouterr()
    assert code in (1, 2) and printed.err.count("\n") == code and printed.out == "", printed
    return printed.err


@pytest.mark.parametrize("changed, says", [
    (["--seed", 8], "its seed is '7', and now it is '8'"), (["--n", 24], "its n is 23, and now it is 24"),
    (["--shard", 6], "its shard is 5"), (["--temperature", 0.5], "its temperature is 1.0, and now it is 0.5"),
    (["--top-k", 3], "its top_k is None"), (["--top-p", 0.5], "its top_p is None"),
    (["--label", "0-8"], "its classes is"), (["--backend", "onnxruntime"], "its backend is 'auto'"),
])  # fmt: skip
def test_another_job_is_refused_with_what_differs(
    model: Path, out: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, changed: list[Any], says: str
) -> None:
    before, drawn = contents(out), drawn_shards(monkeypatch)
    message = refused(capsys, model, *ARGUMENTS, *changed, "-o", out)
    assert says in message and "give another folder, or the settings that job.json has" in message
    assert contents(out) == before and drawn == []


@pytest.mark.parametrize("key, value, says", [
    ("models", ["0" * 64], "its models is"), ("format_version", 2, "version 2, expected 1"),
    ("conditions", {"extra": "1"}, "its conditions is"), ("links", {"1.condition": 0}, "its links is"),
    ("fields", [{"name": "seed", "dtype": "<u8", "shape": []}, {"name": "index", "dtype": "<u8", "shape": []}],
     "its fields is"), ("device", "cuda", "its device is"), ("n", "23", "n is the string '23'"),
    ("surplus", 1, "unknown key 'surplus'"),
])  # fmt: skip
def test_a_job_file_that_says_something_else(
    model: Path, out: Path, capsys: Capture, key: str, value: Any, says: str
) -> None:
    held = json.loads((out / JOB_FILE).read_text())
    (out / JOB_FILE).write_text(json.dumps({**held, key: value}))
    assert says in refused(capsys, model, *ARGUMENTS, "-o", out)


def test_what_people_read_is_not_compared(model: Path, out: Path) -> None:
    held = json.loads((out / JOB_FILE).read_text())
    (out / JOB_FILE).write_text(json.dumps({**held, "files": ["renamed.onnx"], "written_by": "pixelsnail-infer 9"}))
    assert bulk(model, *ARGUMENTS, "-o", out) == 0


def test_a_folder_of_other_files_is_refused(model: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "photo.png").write_bytes(b"mine")
    assert f"holds photo.png and no {JOB_FILE}" in refused(capsys, model, *ARGUMENTS, "-o", tmp_path)
    assert contents(tmp_path) == {"photo.png": b"mine"}
    assert "cannot be made a folder" in refused(capsys, model, *ARGUMENTS, "-o", tmp_path / "a" / "b")
    assert "cannot be made a folder" in refused(capsys, model, *ARGUMENTS, "-o", tmp_path / "photo.png")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [flip, lambda path: path.write_bytes(path.read_bytes()[:-1]),
                                  lambda path: path.write_bytes(b"")])  # fmt: skip
def test_a_damaged_shard_is_found_and_drawn_again_when_deleted(
    model: Path, out: Path, whole: Path, capsys: Capture, harm: Any
) -> None:
    bad = shards(out)[2]
    harm(bad)
    message = refused(capsys, model, *ARGUMENTS, "-o", out)
    assert f"{bad} is damaged" in message and "delete it, and the same bulk command draws it again" in message
    bad.unlink()
    assert bulk(model, *ARGUMENTS, "-o", out) == 0
    assert contents(out) == contents(whole)


def test_two_files_of_one_shard_and_files_of_another_job(model: Path, out: Path, capsys: Capture) -> None:
    one = shards(out)[0]
    other = one.with_name(one.name.replace(one.name.split(".")[1], "0" * 16))
    other.write_bytes(b"")
    assert "two files of one shard" in refused(capsys, model, *ARGUMENTS, "-o", out)
    other.rename(one.with_name(one.name.replace("-of-00005", "-of-00009")))
    assert "belongs to no job of 5 npy files" in refused(capsys, model, *ARGUMENTS, "-o", out)


@pytest.mark.parametrize("changed, says", [
    (["--temperature", "-1"], "temperature"), (["--top-k", 1000], "top_k"), (["--label", "0-99"], "label holds 99"),
    (["--seed", 2**64], "2^64 - 1"), (["--n", 10**12], "n is"), (["--n", 2_000_000, "--shard", 1], "2,000,000 files"),
    (["--workers", 2], "--workers needs --ray"), (["--ray", "x.onnx"], "no address of a Ray cluster"),
    (["--ray", "ray://a:1"], "no address of a Ray cluster; write HOST:PORT, or auto"), (["--ray", ":1"], "no address"),
    (["--format", "csv"], "invalid choice"), (["--link", "1.condition=0"], "links has the key"),
    (["--n", 2**31 - 1, "--shard", 2**31 - 1], "bytes of memory, and this machine has"),
    (["--temperature", "1,1"], "temperature has 2 entries"), (["--label", "any"], "not a list of labels"),
])  # fmt: skip
def test_a_wrong_setting_is_refused_before_there_is_a_folder(
    model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, changed: list[Any], says: str
) -> None:
    monkeypatch.setattr(ShardDrawer, "records", None)
    monkeypatch.setattr(bulk_shards, "machine_memory", lambda: 1 << 34)
    assert says in refused(capsys, model, *ARGUMENTS, *changed, "-o", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option, module, says", [
    (["--format", "parquet"], "pyarrow", "Parquet needs pyarrow: install it (pip install 'pixelsnail-infer[ray]')"),
    (["--ray"], "ray", "--ray needs Ray and pyarrow: install it (pip install 'pixelsnail-infer[ray]')"),
])  # fmt: skip
def test_what_is_not_installed_is_named(
    model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, option: list[str], module: str,
    says: str,
) -> None:  # fmt: skip
    for name in [name for name in sys.modules if name.split(".")[0] == module or ".cluster." in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert says in refused(capsys, model, *ARGUMENTS, *option, "-o", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n, record, size", [
    (10, 1, 1024), (10, 1 << 16, 1024), (10, 1 << 17, 512), (10, 1 << 30, 16), (2**31 - 1, 1 << 30, 4096),
])  # fmt: skip
def test_the_size_of_a_shard_that_nobody_gave(n: int, record: int, size: int) -> None:
    assert default_size(n, record) == size


def test_a_process_with_another_model_refuses_the_plan(model: Path) -> None:
    with load_pipeline([model], threads=1) as pipeline:
        models, cycles = Models((str(model),), {}, "cpu", "auto"), {"label": np.array(LABELS)}
        plan = make_plan(models, pipeline, 3, cycles=cycles, values={})
    open_drawer(plan, 1).close()
    with pytest.raises(PixelsnailError, match="is another file here .* every machine needs the same models"):
        open_drawer(replace(plan, job=replace(plan.job, models=("0" * 64,))), 1)
