"""An export that fails or is interrupted leaves nothing, and the files of an older one as they were."""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelsnail_infer.errors import PixelsnailError, VerificationError
from pixelsnail_infer.export import artifacts, exporting
from pixelsnail_infer.runtime import load

from . import models

NAME = "one_row"  # the fastest to export
Patch = pytest.MonkeyPatch


@pytest.fixture(params=["empty", "older export"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder to export into, which must be the same afterwards."""
    if request.param == "older export":
        for path in models.exported(NAME).parent.glob(f"{NAME}.*onnx"):
            (tmp_path / path.name.replace(NAME, "out")).write_bytes(path.read_bytes())
        (tmp_path / "out.prologue.onnx").write_bytes(b"of an older export with conditions")
        assert (tmp_path / "out.onnx").is_file()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    yield tmp_path
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def fails(name: str) -> Callable[..., Any]:
    def broken(*_: Any, **__: Any) -> Any:
        raise {
            "disk": OSError(errno.ENOSPC, "No space left on device"),
            "interrupt": KeyboardInterrupt(),
            "bug": RuntimeError("a bug"),
        }[name]

    return broken


def test_verification_fails(folder: Path, monkeypatch: Patch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(exporting, "verify_files", fails("bug"))
        with pytest.raises(RuntimeError):
            models.export(NAME, folder / "out.onnx")
    check = exporting.Check("replay", 1.0, 1e-4, 6, "every position")
    monkeypatch.setattr("pixelsnail_infer.export.proofs.verify._score", lambda *_, **__: check)
    with pytest.raises(VerificationError, match="Nothing was written"):
        models.export(NAME, folder / "out.onnx")


@pytest.mark.parametrize("when, calls", [("fsync", 0), ("fsync", 4), ("replace", 0), ("replace", 1), ("replace", 3)])
@pytest.mark.parametrize("why", ["disk", "interrupt"])
def test_the_disk_is_full_or_the_user_interrupts(
    when: str, calls: int, why: str, folder: Path, monkeypatch: Patch
) -> None:
    """The given call of fsync (while writing) or of replace (while moving into place) fails."""
    function, count = getattr(os, when), iter(range(1000))
    last = 0
    if when == "replace" and (folder / "out.onnx").exists():
        calls *= 2  # the files of the older export are moved away first

    def sometimes(*args: Any) -> Any:
        nonlocal last
        last = next(count)
        return fails(why)() if last == calls else function(*args)

    monkeypatch.setattr(exporting, "verify_before", lambda *_: [])
    monkeypatch.setattr(artifacts.os, when, sometimes)
    with pytest.raises(PixelsnailError if why == "disk" else KeyboardInterrupt) as caught:
        models.export(NAME, folder / "out.onnx")
    assert last >= calls
    if why == "disk":
        assert "out.onnx cannot be written (No space left on device); nothing was written" in str(caught.value)


@pytest.mark.parametrize("folder", ["older export"], indirect=True)
def test_a_real_limit_on_file_size(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("resource")
    checkpoint = tmp_path_factory.mktemp("limit") / "small.pt"
    torch.save({"model": models.prior("label").state_dict(), "args": argparse.Namespace(n_head=2)}, checkpoint)
    code = f"""
import resource, sys
from pixelsnail_infer.export.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000))
sys.exit(main(["-q", {str(checkpoint)!r}, {str(folder / "out.onnx")!r}]))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "cannot be written (File too large); nothing was written" in done.stderr


def test_targets_that_cannot_be(folder: Path, monkeypatch: Patch) -> None:
    with pytest.raises(PixelsnailError, match="there is no folder"):
        models.export(NAME, folder / "no" / "out.onnx")
    monkeypatch.setattr(artifacts.tempfile, "mkdtemp", lambda **_: (_ for _ in ()).throw(PermissionError(13, "no")))
    with pytest.raises(PixelsnailError, match="cannot be written .Permission denied."):
        models.export(NAME, folder / "out.onnx")


@pytest.mark.parametrize("name", ["out.onnx", "out.row.onnx", "out.filtered.onnx"])
def test_a_folder_in_the_place_of_a_file(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.setattr(exporting, "staged", fails("bug"))  # it is found before any work
    with pytest.raises(PixelsnailError, match=f"{name} is not a regular file"):
        models.export(NAME, tmp_path / "out.onnx")
    assert list(tmp_path.iterdir()) == [tmp_path / name]


def test_a_new_export_replaces_an_older_one_wholly(tmp_path: Path) -> None:
    target = tmp_path / "out.onnx"
    models.export("label", target)
    assert (tmp_path / "out.prologue.onnx").is_file()
    models.export(NAME, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.filtered.onnx", "out.onnx", "out.row.onnx", "out.score.onnx",
    ]
    with load(target, threads=1) as sampler:
        assert sampler.sample(2).shape == (2, *models.CONFIGS[NAME].shape)


def test_a_relative_target_in_the_working_folder(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.chdir(tmp_path)
    done = models.export(NAME, Path("a.b.onnx"))
    assert sorted(str(path) for path in done.files) == sorted(path.name for path in tmp_path.iterdir())
    with load("a.b.onnx", threads=1) as sampler:
        assert sampler.manifest.shape == models.CONFIGS[NAME].shape
