"""`export-model` and `pixelsnail-infer verify`: exit codes, one clear line for bad input, nothing written."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelsnail_infer.__main__ import main as infer
from pixelsnail_infer.export import exporting
from pixelsnail_infer.export.cli import main as export_model

from . import models

DIGITS = Path(__file__).parents[3] / "examples" / "digits.pt"
Capture = pytest.CaptureFixture[str]


class Payload:
    """Unpickling this in full would create a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.target,)


def damaged(kind: str, folder: Path) -> Path:
    """A checkpoint that must be refused."""
    path = folder / "bad.pt"
    content = torch.load(DIGITS, weights_only=False)
    weights = content["model"]
    if kind == "missing":
        return path
    if kind == "folder":
        path.mkdir()
        return path
    if kind == "truncated":
        path.write_bytes(DIGITS.read_bytes()[:200_000])
        return path
    if kind == "malicious":
        content = {"model": weights, "args": Payload(folder / "owned")}
    elif kind == "unknown":
        content = {"encoder.weight": torch.zeros(3, 4)}
    elif kind == "nan":
        weights["out.2.conv.bias"][3] = float("nan")
    elif kind == "incomplete":
        del weights["out.2.conv.bias"]
    torch.save(content, path)
    return path


BAD = {
    "missing": "does not exist", "folder": "is a folder", "truncated": "truncated", "malicious": "refused",
    "unknown": "a model that is not known: 1 tensors (encoder.weight [3, 4])", "nan": "out.2.conv.bias",
    "incomplete": "without out.2.conv.bias",
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_bad_checkpoints(kind: str, tmp_path: Path, capsys: Capture) -> None:
    path = damaged(kind, tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    assert export_model(["-q", str(path), str(out / "out.onnx")]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and printed.err.startswith("export-model: ")
    assert BAD[kind] in printed.err and "Traceback" not in printed.err
    assert list(out.iterdir()) == [] and not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "options, says",
    [
        (["--shape", "32x32"], "8x8"), (["--shape", "8"], "expected rows x columns"), (["--shape", "0x8"], "--shape"),
        (["--n-head", "3"], "heads"), (["--n-head", "0"], "n_head"), (["--n-head", "-4"], "n_head"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(options: list[str], says: str, tmp_path: Path, capsys: Capture) -> None:
    assert export_model([str(DIGITS), str(tmp_path / "out.onnx"), *options]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert says in lines[-1] and lines[-1].startswith("export-model: ") and not any("Traceback" in s for s in lines)
    assert list(tmp_path.iterdir()) == []


def test_a_target_without_a_folder(tmp_path: Path, capsys: Capture) -> None:
    assert export_model(["-q", str(DIGITS), str(tmp_path / "no" / "out.onnx")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_an_interrupt_is_one_line(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "staged", interrupted)
    assert export_model(["-q", str(DIGITS), str(tmp_path / "out.onnx")]) == 130
    assert capsys.readouterr().err == "export-model: interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "run, arguments",
    [
        (export_model, []), (export_model, ["a.pt"]), (export_model, ["a.pt", "out.pt"]),
        (export_model, ["a.pt", "o.onnx", "--n-head", "four"]), (export_model, ["a.pt", "o.onnx", "--fast"]),
        (infer, ["verify"]), (infer, ["verify", "o.onnx"]), (infer, ["verify", "o.onnx", "a.pt", "--device", "tpu"]),
    ],
)  # fmt: skip
def test_wrong_usage_exits_with_2(run: Callable[[list[str]], int], arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        run(arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.count("\n") == 2 and error.endswith(" --help'.\n")


@pytest.mark.parametrize("run, arguments, teaches", [
    (export_model, [], ["export-model top.pt top.onnx", "OUT.row.onnx", "--n-head", "Exit codes"]),
    (infer, ["verify"], ["OUT.onnx", "CKPT", "PyTorch", "--n-head", "--elu-inplace"]),
])
def test_help_teaches(
    run: Callable[[list[str]], int], arguments: list[str], teaches: list[str], capsys: Capture
) -> None:
    with pytest.raises(SystemExit) as stop:
        run([*arguments, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and [part for part in teaches if part not in text] == []


def checkpoint(name: str, path: Path) -> Path:
    """A small prior as a file, with the number of heads that only its args tell."""
    torch.save({"model": models.prior(name).state_dict(), "args": argparse.Namespace(n_head=2)}, path)
    return path


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint and its export through the command."""
    folder = tmp_path_factory.mktemp("command")
    ckpt = checkpoint("label", folder / "label.pt")
    assert export_model(["-q", str(ckpt), str(folder / "label.onnx")]) == 0
    return folder


def test_the_command_says_what_it_did(tmp_path: Path, capsys: Capture) -> None:
    ckpt = checkpoint("label", tmp_path / "label.pt")
    assert export_model([str(ckpt), str(tmp_path / "out.onnx"), "--n-head", "2", "--shape", "4x4"]) == 0
    out = capsys.readouterr().out
    for part in (
        "4x4 codes, 7 levels", "conditioned on a label of 3", "read per image", "read per row", "read per step",
        "float64 interpreter, batch 3", "replay, batch 3", "drawn", "out.prologue.onnx", "MiB",
    ):  # fmt: skip
        assert part in out


def test_verify_agrees(export: Path, capsys: Capture) -> None:
    assert infer(["verify", str(export / "label.onnx"), str(export / "label.pt")]) == 0
    assert "replay, batch 3" in (out := capsys.readouterr().out) and "FAILED" not in out


def broken(kind: str, export: Path, folder: Path) -> list[str]:
    """Arguments of `verify` that must give exit code 1."""
    shutil.copytree(export, folder / "copy")
    model, ckpt = folder / "copy" / "label.onnx", folder / "copy" / "label.pt"
    row = folder / "copy" / "label.row.onnx"
    if kind == "missing sibling":
        row.unlink()
    elif kind == "altered sibling":
        data = bytearray(row.read_bytes())
        data[len(data) // 2] ^= 1
        row.write_bytes(data)
    elif kind == "exchanged sibling":
        shutil.copy(folder / "copy" / "label.score.onnx", row)
    elif kind == "other checkpoint":
        checkpoint("attention", ckpt)
    elif kind == "missing checkpoint":
        ckpt.unlink()
    elif kind == "missing model":
        model.unlink()
    elif kind == "sibling as model":
        model = row
    elif kind == "truncated model":
        model.write_bytes(model.read_bytes()[:-1000])
    return [str(model), str(ckpt), *(["--n-head", "1"] if kind == "other heads" else [])]


@pytest.mark.parametrize(
    "kind, says",
    [
        ("missing sibling", "label.row.onnx"), ("altered sibling", "label.row.onnx"),
        ("exchanged sibling", "label.row.onnx"), ("other checkpoint", "was made from another checkpoint"),
        ("missing checkpoint", "does not exist"), ("missing model", "label.onnx"),
        ("sibling as model", "is the row part of an export"), ("truncated model", "label.onnx"),
        ("other heads", "verification failed: "),
    ],
)  # fmt: skip
def test_verify_refuses(kind: str, says: str, export: Path, tmp_path: Path, capsys: Capture) -> None:
    assert infer(["verify", *broken(kind, export, tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert says in lines[-1] and lines[-1].startswith("pixelsnail-infer: ")
    assert not any("Traceback" in line for line in lines)
