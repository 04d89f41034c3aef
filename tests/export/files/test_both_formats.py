"""`--format both`: the ONNX files and the archive from one analysis, each proven, all of them or none."""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.__main__ import main as infer
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export import artifacts, cli, exporting
from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.exported import Exported
from pixelsnail_infer.export.exporting import export_model
from pixelsnail_infer.export.from_checkpoint import export_checkpoint
from pixelsnail_infer.export.writing import torch_spelling
from pixelsnail_infer.runtime import load
from pixelsnail_infer.runtime.backends import torch_cpu
from pixelsnail_infer.runtime.files import archive_code

from . import models

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
DIGITS = EXAMPLES / "digits.pt"
ONE_ROW = ["out.filtered.onnx", "out.onnx", "out.pt", "out.row.onnx", "out.score.onnx"]
Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]


def one_row(target: Path, format: str = "both", **more: Any) -> Exported[Any]:
    config = models.CONFIGS["one_row"]
    return export_model(models.prior("one_row"), target, levels=config.levels, shape=config.shape, format=format,
                        **more)


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def counted(patch: Patch, place: Any, name: str, calls: Counter[str], key: Callable[..., str]) -> None:
    right = getattr(place, name)

    def call(*given: Any, **more: Any) -> Any:
        calls[key(*given)] += 1
        return right(*given, **more)

    patch.setattr(place, name, call)


@pytest.mark.parametrize("name", ["out.onnx", "out.pt"])
def test_one_analysis_gives_both_each_with_its_proofs(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    calls, said = Counter[str](), list[str]()
    counted(monkeypatch, exporting, "staged", calls, lambda *_: "staged")
    counted(monkeypatch, exporting, "verify_before", calls, lambda *_: "float64")
    counted(monkeypatch, artifacts, "build_part", calls, lambda compiled, part: part)
    done = one_row(tmp_path / name, say=said.append)
    assert calls == dict.fromkeys(["staged", "float64", "step", "row", "score", "filtered"], 1)
    assert sorted(bytes_of(tmp_path)) == ONE_ROW
    assert sorted(path.name for path in done.files) == ONE_ROW and done.file.name == "out.onnx"
    assert done.manifest.archive is None and done.manifest.files
    with load(tmp_path / "out.onnx", threads=1) as one, load(tmp_path / "out.pt", threads=1) as other:
        assert one.manifest == done.manifest and other.manifest.archive is not None
        assert list(one.manifest.verification) == list(other.manifest.verification)
        assert {"oracle", "replay, batch 3", "drawn, filtered"} < set(one.manifest.verification)
        assert np.array_equal(one.sample(3, top_k=3), other.sample(3, top_k=3))
    names = [check.name for check in done.checks]
    assert names.count("oracle") == 1 and len(names) == len(set(names))
    assert {"onnx: drawn", "torchscript: drawn"} < set(names) and "torchscript: score graph, batch 1" in said


def test_the_files_are_those_of_two_exports(tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("both", "onnx", "torchscript")}
    for name, folder in folders.items():
        folder.mkdir()
        one_row(folder / ("out.pt" if name == "torchscript" else "out.onnx"), name)
    held = bytes_of(folders["both"])
    archive = held.pop("out.pt")
    assert held == bytes_of(folders["onnx"])
    with load(archive, threads=1) as one, load(folders["torchscript"] / "out.pt", threads=1) as other:
        # PyTorch numbers the classes of a process, so that the digest is another at every export.
        assert one.manifest == replace(other.manifest, archive=one.manifest.archive)
        assert np.array_equal(one.sample(2, seed=1), other.sample(2, seed=1))


def test_the_commands(tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "digits.onnx"
    assert cli.main([str(DIGITS), str(target), "--format", "both"]) == 0
    printed = capsys.readouterr()
    assert "  digits.pt  " in printed.out and "  onnx: drawn" in printed.out
    for path in (target, target.with_suffix(".pt")):
        assert infer(["verify", str(path), str(DIGITS)]) == 0
        assert "drawn, filtered" in capsys.readouterr().out
    names = sorted(bytes_of(tmp_path))
    done = export_checkpoint(DIGITS, target.with_suffix(".pt"), format="both")  # over the older one
    assert sorted(bytes_of(tmp_path)) == names and done.file == target
    with load(target.with_suffix(".pt"), threads=1) as sampler:
        assert sampler.sample(1, label=3).shape == (1, 8, 8)


# Nothing half-written -------------------------------------------------------------------------------------------------


@pytest.fixture(params=["empty", "older export"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "older export":
        one_row(tmp_path / "out.onnx")
        (tmp_path / "out.prologue.onnx").write_bytes(b"of an older export with conditions")
    return tmp_path


def test_a_wrong_archive_takes_the_onnx_files_with_it(folder: Path, monkeypatch: Patch) -> None:
    """ONNX Runtime's are proven by then; the archive's draw is another."""
    before = bytes_of(folder)
    monkeypatch.setitem(torch_spelling.SPELLINGS, v.ArgMax,
                        lambda w, op: w.call(torch_spelling.torch.argmin, w[op.value], op.axis, op.keep))
    monkeypatch.setattr(archive_code, "OPERATORS", archive_code.OPERATORS | {"argmin"})
    monkeypatch.setattr(torch_cpu, "KINDS", archive_code.KINDS | {"aten::argmin"})
    said = list[str]()
    with pytest.raises(PixelsnailError, match="verification failed"):
        one_row(folder / "out.onnx", say=said.append)
    assert any(line.startswith("onnx: drawing") for line in said) and said[-1].startswith("torchscript: ")
    assert bytes_of(folder) == before


@pytest.mark.parametrize("call", range(5))
@pytest.mark.parametrize("why", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_move_that_fails_takes_all_back(call: int, why: BaseException, folder: Path, monkeypatch: Patch) -> None:
    before, right, calls = bytes_of(folder), os.replace, iter(range(100))
    older = len(before)

    def sometimes(*given: Any) -> None:
        if next(calls) == older + call:  # the older files are moved away first
            raise why
        right(*given)

    monkeypatch.setattr(artifacts.os, "replace", sometimes)
    with pytest.raises(PixelsnailError if isinstance(why, OSError) else KeyboardInterrupt):
        one_row(folder / "out.pt")
    assert bytes_of(folder) == before


# Refused before the work ----------------------------------------------------------------------------------------------


def refused(checkpoint: Path, target: Path, says: str, capsys: Capture, **options: Any) -> None:
    before = bytes_of(target.parent)
    with pytest.raises(PixelsnailError, match=says) as caught:
        export_checkpoint(checkpoint, target, format="both", **options)
    assert "\n" not in str(caught.value)
    if not options:
        with pytest.raises(SystemExit, match="2"):
            cli.main([str(checkpoint), str(target), "--format", "both"])
        assert re.search(says, capsys.readouterr().err)
    assert bytes_of(target.parent) == before


@pytest.mark.parametrize(("name", "what"), [("own.onnx", "a file"), ("own.pt", "the file"), ("link.onnx", "a file")])
def test_never_over_the_checkpoint(name: str, what: str, tmp_path: Path, capsys: Capture) -> None:
    own = tmp_path / "own.pt"
    own.write_bytes(DIGITS.read_bytes())
    (tmp_path / "link.pt").symlink_to(own)
    says = f"{what} to write is '.*/{name.replace('.onnx', '.pt')}', the checkpoint itself; name another"
    refused(own, tmp_path / name, says, capsys)


def test_never_over_the_averages_beside_it(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "ema.pt").write_bytes(DIGITS.read_bytes())
    refused(DIGITS, tmp_path / "ema.onnx", "ema.pt', the checkpoint itself", capsys, ema=tmp_path / "ema.pt")


@pytest.mark.parametrize(("given", "other"), [("out.onnx", "out.pt"), ("out.pt", "out.onnx")])
def test_what_was_not_named_and_is_no_export_stays(given: str, other: str, tmp_path: Path, capsys: Capture,
                                                   monkeypatch: Patch) -> None:
    """As another checkpoint of the folder; what was named is written over, as ever."""
    (tmp_path / given).write_bytes(b"named")
    says = f"--format both with '.*/{given}' would also write '.*/{other}', which is there and is no export"
    for held in (DIGITS.read_bytes(), b"", b"PK\x03\x04", b"text"):
        (tmp_path / other).write_bytes(held)
        refused(DIGITS, tmp_path / given, says, capsys)
        monkeypatch.setattr(exporting, "staged", lambda *_: pytest.fail("it worked"))
        with pytest.raises(PixelsnailError, match=says):
            one_row(tmp_path / given)
    (tmp_path / other).unlink()
    monkeypatch.undo()
    one_row(tmp_path / given)
    assert sorted(bytes_of(tmp_path)) == ONE_ROW


def test_a_folder_in_the_place_of_the_other(tmp_path: Path, monkeypatch: Patch) -> None:
    (tmp_path / "out.pt").mkdir()
    monkeypatch.setattr(exporting, "staged", lambda *_: pytest.fail("it worked"))
    with pytest.raises(PixelsnailError, match=r"out.pt is not a regular file"):
        one_row(tmp_path / "out.onnx")


def test_other_names(tmp_path: Path, capsys: Capture) -> None:
    refused(DIGITS, tmp_path / "out.txt", "in the format both its name must end in .onnx or .pt", capsys)
    refused(DIGITS, tmp_path / ".onnx", "in the format both its name must end in .onnx or .pt", capsys)


def test_codecs_have_one_format(tmp_path: Path) -> None:
    with pytest.raises(PixelsnailError, match="are written in one format at a time: leave out --format both"):
        export_checkpoint(EXAMPLES / "vqvae.pt", tmp_path / "decoder.onnx", format="both")
    assert not list(tmp_path.iterdir())
