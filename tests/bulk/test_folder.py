"""A folder that others move, empty or change while it is filled; what is removed from it, and what is tried first."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.runtime import load_pipeline
from pixelsnail_infer.runtime.bulk.drawer import ShardDrawer
from pixelsnail_infer.runtime.bulk.filling import drawn_here
from pixelsnail_infer.runtime.bulk.folder import FolderChanged, open_folder
from pixelsnail_infer.runtime.bulk.job import JOB_FILE, job_text, read_job
from pixelsnail_infer.runtime.bulk.plan import Models, Plan, make_plan
from pixelsnail_infer.runtime.bulk.shards import ShardName, shard_of
from pixelsnail_infer.runtime.commands import bulk_command
from pixelsnail_infer.runtime.files import saving

from .jobs import a_job, file_of, fill
from .running import ARGUMENTS, SHARDS, bulk, contents, drawn_shards, shards

Capture = pytest.CaptureFixture[str]


def test_what_is_drawn_never_reaches_a_folder_of_another_job(tmp_path: Path) -> None:
    """The first job's folder is moved away, and another job begins where it was."""
    out, first, second = tmp_path / "out", a_job(seed=1), a_job(seed=2)
    with open_folder(out, first) as folder:
        one, two = folder.missing()[:2]
        folder.keep(one, file_of(first, one))
        out.rename(tmp_path / "moved")
        with open_folder(out, second):
            with pytest.raises(FolderChanged, match="no longer the folder that was opened: somebody moved or deleted"):
                folder.keep(two, file_of(first, two))
            assert [path.name for path in out.iterdir()] == [JOB_FILE]
    assert len(shards(tmp_path / "moved")) == 1
    assert contents(fill(tmp_path / "moved", first)) == contents(fill(tmp_path / "undisturbed", first))


def emptied(out: Path) -> None:
    for path in out.iterdir():
        path.unlink()


@pytest.mark.parametrize("harm, says", [
    (shutil.rmtree, "no longer the folder that was opened"), (emptied, "has lost its job.json while it was filled"),
    (lambda out: out.rename(out.with_name("moved")), "no longer the folder"),
    (lambda out: shards(out)[0].unlink(), "does not hold what was written there"),
    (lambda out: shards(out)[0].rename(out / "mine"), "does not hold what was written there"),
])  # fmt: skip
@pytest.mark.parametrize("after", [2, SHARDS])
def test_complete_is_said_of_what_is_there(
    model: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture,
    harm: Callable[[Path], None], says: str, after: int,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        keep, kept = bulk_command.BulkFolder.keep, list[int]()

        def disturbed(self: Any, shard: Any, data: bytes) -> None:
            keep(self, shard, data)
            kept.append(shard.number)
            if len(kept) == after:
                harm(out)

        patch.setattr(bulk_command.BulkFolder, "keep", disturbed)
        assert bulk(model, *ARGUMENTS, "-o", out) == 1
    printed = capsys.readouterr()
    assert says in printed.err and printed.err.count("\n") == 1 and printed.out == ""
    assert bulk(model, *ARGUMENTS, "-o", out) == 0  # what the message says
    there = {name: data for name, data in contents(out).items() if name != "mine"}
    assert there == contents(whole)


def test_only_temporary_files_of_a_job_of_its_own_are_removed(tmp_path: Path) -> None:
    job, out = a_job(), tmp_path / "out"
    stale = [".job.json.0123abcd.part", ".shard-00001-of-00005.44b7b3e184cf1cac.np.0123abcd.part",
             ".shard-999999-of-1000000.44b7b3e184cf1cac.0123abcd.part"]  # fmt: skip
    mine = [".shard-mine.part", ".shard-00001-of-00005.part", ".job.json.mine.part", "shard-1.part"]
    out.mkdir()
    for name in (*stale[1:], *mine):
        (out / name).write_bytes(b"x")
    with pytest.raises(RequestError, match="and no job.json"), open_folder(out, job):
        pass
    assert {path.name for path in out.iterdir()} == {*stale[1:], *mine}
    (out / JOB_FILE).write_text(job_text(a_job(seed=8)))
    with pytest.raises(RequestError, match="holds another job"), open_folder(out, job):
        pass
    assert {path.name for path in out.iterdir()} == {*stale[1:], *mine, JOB_FILE}
    (out / JOB_FILE).write_text(job_text(job))
    (out / stale[0]).mkdir()
    with open_folder(out, job):
        assert {path.name for path in out.iterdir()} == {stale[0], *mine, JOB_FILE}


def test_the_temporary_files_that_are_written_are_those_that_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, out = replace(a_job(), n=1_000_000, shard=1), tmp_path / "out"
    monkeypatch.setattr(saving, "_remove", lambda path: None)
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "stopped")))
    with pytest.raises(RequestError), open_folder(out, job):
        pass
    assert [path.suffix for path in out.iterdir()] == [".part"]
    monkeypatch.undo()
    with open_folder(out, job) as folder:
        assert [path.name for path in out.iterdir()] == [JOB_FILE]
        with monkeypatch.context() as patch:
            patch.setattr(saving, "_remove", lambda path: None)
            patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "stopped")))
            for number in (3, 999_999):
                with pytest.raises(RequestError):
                    folder.keep(shard_of(number, 1_000_000, 1), b"x")
    assert len(list(out.glob(".*.part"))) == 2
    with open_folder(out, job):
        assert [path.name for path in out.iterdir()] == [JOB_FILE]


def read_only(patch: pytest.MonkeyPatch) -> None:
    """As a read-only file system is, where even removing what is not there is an error of its own."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    patch.setattr(saving, "_create", refuse)
    patch.setattr(Path, "unlink", refuse)
    patch.setattr(os, "unlink", refuse)


def test_a_folder_that_cannot_be_written_is_noticed_before_anything_is_drawn(
    model: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    (out / ".job.json.0123abcd.part").write_bytes(b"")
    drawn = drawn_shards(monkeypatch)
    with monkeypatch.context() as patch:
        read_only(patch)
        assert bulk(model, *ARGUMENTS, "-o", out) == 0  # complete
    shards(out)[1].unlink()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        read_only(patch)
        assert bulk(model, *ARGUMENTS, "-o", out) == 1
    assert "cannot be written (Read-only file system)" in capsys.readouterr().err and drawn == []


def test_a_file_that_cannot_be_written_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_only(monkeypatch)
    for write in (saving.check_writable, lambda path: saving.write_whole(path, b"")):
        with pytest.raises(RequestError, match="cannot be written .Read-only file system"):
            write(tmp_path / "x")


def test_a_folder_with_a_zero_byte_is_refused(model: Path, capsys: Capture) -> None:
    assert bulk(model, *ARGUMENTS, "-o", "a\0b") == 1
    assert "cannot be made a folder" in capsys.readouterr().err


def test_shards_that_are_checked_are_counted(model: Path, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int, int]] = []

    class Bar(bulk_command.ProgressBar):
        def __call__(self, done: int, total: int) -> None:
            calls.append((self._unit, done, total))

    monkeypatch.setattr(bulk_command, "ProgressBar", Bar)
    assert bulk(model, *ARGUMENTS, "-o", whole) == 0
    assert calls == [("shards checked", done, SHARDS) for done in range(1, SHARDS + 1)]


@pytest.mark.parametrize("name", ["shard-٠٠٠٠١-of-00005.0123456789abcdef.npy", "shard-1-of-5.0123456789abcdef.npy",
                                  "shard-000001-of-000005.0123456789abcdef.npy"])  # fmt: skip
def test_a_name_that_is_spelled_otherwise_is_no_shard(name: str) -> None:
    assert ShardName.parse(name) is None
    good = "shard-00001-of-00005.0123456789abcdef.npy"
    assert str(ShardName.parse(good)) == good


def test_a_model_with_a_control_character_in_its_name(model: Path, tmp_path: Path) -> None:
    odd = tmp_path / "x\x01\udcff.onnx"
    odd.symlink_to(model)
    with load_pipeline([model], threads=1) as pipeline:
        plan = make_plan(Models((str(odd),), {}, "cpu", "auto"), pipeline, 3, cycles={"label": np.arange(3)}, values={})
    with open_folder(tmp_path / "out", plan.job):
        found = read_job(tmp_path / "out")
    assert found is not None and found.files == ("x\\x01\\xff.onnx",)


def test_workers_are_given_whole_paths(
    model: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a cluster that is there work in another folder."""
    plans: list[Plan] = []

    def elsewhere(args: Any, plan: Plan, missing: Any) -> Any:
        plans.append(plan)
        with plan.models.load(1) as pipeline:
            yield from drawn_here(ShardDrawer(plan, pipeline), missing, lambda count: None)

    monkeypatch.setattr(bulk_command, "_require_ray", lambda: None)
    monkeypatch.setattr(bulk_command, "_elsewhere", elsewhere)
    monkeypatch.chdir(model.parent)
    assert bulk(model.name, *ARGUMENTS, "--ray", "-o", tmp_path / "out") == 0
    assert [plan.models.paths for plan in plans] == [(str(model),)] and contents(tmp_path / "out") == contents(whole)
