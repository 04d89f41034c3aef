"""A bulk that was stopped anywhere goes on: nothing is lost, and no finished shard is drawn again."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from pixelsnail_infer.errors import EngineError
from pixelsnail_infer.runtime import Pipeline
from pixelsnail_infer.runtime.bulk import folder as bulk_folder
from pixelsnail_infer.runtime.files import saving

from .running import ARGUMENTS, SHARDS, bulk, contents, drawn_shards, killed, shards

Capture = pytest.CaptureFixture[str]


def resumed(model: Path, out: Path, whole: Path, patch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """What is missing is drawn, nothing else, and then the folder is what it would have been."""
    before = contents(out)
    there = [int(name.split("-")[1]) for name in before if name.startswith("shard-")]
    drawn = drawn_shards(patch)
    assert bulk(model, *ARGUMENTS, "-o", out) == 0
    assert sorted(drawn + there) == list(range(SHARDS)) and drawn
    assert contents(out) == contents(whole)  # no temporary file, either
    assert "is complete: 23 images in 5 files" in capsys.readouterr().out
    changed = [path.name for path in shards(out) if path.name in before and before[path.name] != path.read_bytes()]
    assert changed == []


def failing(patch: pytest.MonkeyPatch, place: Any, name: str, last: int, error: BaseException) -> None:
    act, calls = getattr(place, name), list[str]()

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(name)
        if len(calls) == last:
            raise error
        return act(*arguments, **options)

    patch.setattr(place, name, counted)


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
FAULTS = [
    # each shard is two batches but the last; job.json is the first file that is made, synced and renamed, then the
    # folder and the one around it are synced, and one more file is made to see whether it can be
    (Pipeline, "generate", 4, EngineError("The engine failed."), 1, "The engine failed. 1 of 5 shards are written"),
    (Pipeline, "generate", 1, MemoryError("no more"), 0, "0 of 5 shards are written; the same command draws the rest"),
    (os, "fsync", 7, FULL, 2, "cannot be synced to the disk (No space left on device); check the disk. 1 of 5 shards"),
    (os, "fsync", 6, FULL, 1, "No space left on device); free some space or choose another folder. 1 of 5 shards"),
    (os, "replace", 3, FULL, 1, "No space left on device"),
    (saving, "_create", 5, FULL, 2, "No space left on device"),
    (Pipeline, "generate", 5, KeyboardInterrupt(), 2, "interrupted; 2 of 5 shards are written"),
]


@pytest.mark.parametrize("place, name, last, error, done, says", FAULTS)
def test_an_error_is_told_and_the_next_run_goes_on(
    model: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, place: Any, name: str,
    last: int, error: BaseException, done: int, says: str,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        failing(patch, place, name, last, error)
        assert bulk(model, *ARGUMENTS, "-o", out) == (130 if isinstance(error, KeyboardInterrupt) else 1)
    printed = capsys.readouterr()
    assert says in printed.err and printed.err.count("\n") == 1
    assert len(shards(out)) == done and len(list(out.iterdir())) == done + 1  # and job.json
    resumed(model, out, whole, monkeypatch, capsys)


@pytest.mark.parametrize("place, name, last, done, left", [
    ("drawer.ShardDrawer", "_batch", 4, 1, 0), ("os", "fsync", 1, 0, 1), ("os", "fsync", 6, 1, 1),
    ("os", "replace", 3, 1, 1), ("folder", "_sync", 4, 2, 0),
])  # fmt: skip
def test_a_process_that_is_killed_leaves_a_folder_that_can_be_taken_up(
    model: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, place: str, name: str,
    last: int, done: int, left: int,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    killed(place, name, last, model, *ARGUMENTS, "-o", out)
    assert len(shards(out)) == done and len(list(out.glob(".*.part"))) == left
    resumed(model, out, whole, monkeypatch, capsys)


def test_a_finished_job_says_so_and_draws_nothing(
    model: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    before, drawn = contents(whole), drawn_shards(monkeypatch)
    assert bulk(model, *ARGUMENTS, "-o", whole) == 0
    assert drawn == [] and contents(whole) == before
    assert "is complete: 23 images in 5 files; nothing was left to draw" in capsys.readouterr().out


def test_a_shard_is_there_only_when_its_bytes_and_its_name_are_on_the_disk(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    for name in ("fsync", "replace"):
        act = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, act=act, name=name: (order.append(name), act(*given))[1])
    assert bulk(model, "--n", 2, "--shard", 1, "--label", 0, "-o", tmp_path / "out") == 0
    file = ["fsync", "replace", "fsync"]  # its bytes, its name in the folder
    assert order == [*file, "fsync", *file, *file]  # job.json, the folder in the one around it, two shards


def test_another_batch_or_number_of_threads_is_the_same_job(
    model: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        failing(patch, Pipeline, "generate", 5, EngineError("stopped"))
        assert bulk(model, *ARGUMENTS, "-o", out) == 1
    again = ["--n", 23, "--shard", 5, "--max-batch", 3, "--label", "0-9", "--seed", 7, "--threads", 2]
    assert bulk(model, *again, "-o", out) == 0
    assert contents(out) == contents(whole)


def test_the_folder_is_held_while_it_is_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    out, keep, codes = tmp_path / "out", bulk_folder.BulkFolder.keep, list[int]()

    def and_another(self: bulk_folder.BulkFolder, *given: Any) -> None:
        codes.append(bulk(model, *ARGUMENTS, "-o", out))
        keep(self, *given)

    monkeypatch.setattr(bulk_folder.BulkFolder, "keep", and_another)
    assert bulk(model, *ARGUMENTS, "-o", out) == 0
    assert codes == [1] * SHARDS and f"Another process writes to {out}" in capsys.readouterr().err
