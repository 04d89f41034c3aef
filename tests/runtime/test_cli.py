"""The commands, in process: what they print and write, their exit codes, and one clear line for bad input."""

from __future__ import annotations

import csv
import errno
import importlib
import io
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime import Sampler
from pixelsnail_infer.runtime.commands.labels import parse_condition, parse_labels
from pixelsnail_infer.runtime.files.images import grey, grid_columns, png_grid
from pixelsnail_infer.runtime.files.saving import check_writable, write_whole

from .synthetic import H, L, W, logits_of, write


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def codes(sampler: Sampler, tmp_path: Path) -> Path:
    path = tmp_path / "codes.npy"
    np.save(path, sampler.sample(4, label=[0, 1, 2, 0]))
    return path


def test_sample_writes_codes(toy: Path, sampler: Sampler, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "codes.npy"
    assert run("sample", toy, "--n", 5, "--label", "0-2", "--seed", 3, "--threads", 1, "-o", out) == 0
    assert np.array_equal(np.load(out), sampler.sample(5, seed=3, label=[0, 1, 2, 0, 1]))
    printed = capsys.readouterr()
    assert "5 images of 4×5 in " in printed.out and "pixels per second" in printed.out
    assert printed.err == "", "no progress bar where stderr is no terminal"


def test_sample_settings_reach_the_sampler(toy: Path, sampler: Sampler, codes: Path, tmp_path: Path) -> None:
    mask, out = tmp_path / "mask.npy", tmp_path / "out.npy"
    np.save(mask, np.arange(H)[:, None].repeat(W, 1) < 2)
    settings = ["--temperature", 0.5, "--top-k", 3, "--top-p", 0.9, "--known", codes, "--known-mask", mask]
    assert run("sample", toy, "--n", 4, "--condition", "label=1,2", *settings, "--max-batch", 3, "-o", out) == 0
    expected = sampler.sample(
        4, label=[1, 2, 1, 2], temperature=0.5, top_k=3, top_p=0.9, known=np.load(codes), known_mask=np.load(mask)
    )
    assert np.array_equal(np.load(out), expected)


def test_any_byte_but_zero_of_a_masks_file_is_true(toy: Path, sampler: Sampler, codes: Path, tmp_path: Path) -> None:
    mask = np.arange(H * W).reshape(H, W) % 2 == 0
    np.save(tmp_path / "mask.npy", (mask.astype(np.uint8) * 255).view(bool))
    command = ["sample", str(toy), "--n", "4", "--label", "1", "--known", str(codes), "--known-mask"]
    assert main([*command, str(tmp_path / "mask.npy"), "-o", str(tmp_path / "o.npy")]) == 0
    expected = sampler.sample(4, label=1, known=np.load(codes), known_mask=mask)
    assert np.array_equal(np.load(tmp_path / "o.npy"), expected)


def test_sample_writes_a_picture(toy: Path, sampler: Sampler, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    out = tmp_path / "grid.png"
    assert run("sample", toy, "--label", "0-2", "--n", 6, "--scale", 4, "-o", out) == 0
    with image.open(out) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (4 + 2 * (4 * H + 14 + 4), 4 + 3 * (4 * W + 4))
    first = pixels[18 : 18 + 4 * H, 4 : 4 + 4 * W]
    assert np.array_equal(first[::4, ::4], grey(sampler.sample(6, label=[0, 1, 2] * 2), L)[0])


def test_score_prints_bits_and_writes_log_probabilities(
    toy: Path, codes: Path, sampler: Sampler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "logprob.npy"
    assert run("score", toy, codes, "--label", "0-2", "-o", out) == 0
    bits = sampler.bits_per_dim(np.load(codes), label=[0, 1, 2, 0])
    nats = sampler.log_likelihood(np.load(codes), label=[0, 1, 2, 0])
    printed = capsys.readouterr().out.splitlines()
    assert printed[:5] == [
        *(f"image {k}: {value:.4f} bits per dimension" for k, value in enumerate(bits)),
        f"mean of 4: {bits.mean():.4f} bits per dimension, log-likelihood {nats.mean():.4f} nats",
    ]
    assert np.load(out).shape == (4, H, W)
    assert np.abs(np.load(out) - sampler.score(np.load(codes), label=[0, 1, 2, 0])).max() == 0
    assert logits_of(np.load(codes), 0).shape == (4, H, W, L)


def test_score_writes_a_row_per_image(
    toy: Path, codes: Path, sampler: Sampler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, out = tmp_path / "one, more.npy", tmp_path / "scores.csv"
    np.save(one, np.load(codes)[1])
    assert run("score", toy, codes, one, "--label", "0-2", "--csv", out) == 0
    printed = capsys.readouterr()
    assert [line.split(":")[0] for line in printed.out.splitlines()] == ["mean of 5", f"wrote {out}"]
    assert printed.err == "", "no progress bar where stderr is no terminal"
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["index"]) for row in rows] == [*((str(codes), str(k)) for k in range(4)), (str(one), "0")]
    images, label = np.concatenate([np.load(codes), np.load(one)[None]]), [0, 1, 2, 0, 1]
    assert [float(row["log_likelihood"]) for row in rows] == sampler.log_likelihood(images, label=label).tolist()
    assert [float(row["bits_per_dim"]) for row in rows] == sampler.bits_per_dim(images, label=label).tolist()
    text = out.read_text()
    out.unlink()
    assert run("score", toy, codes, one, "--label", "0-2", "--csv", "-") == 0
    again = capsys.readouterr()
    assert again.out == text and again.err.startswith("mean of 5: ") and not out.exists()


def test_score_refuses_an_unwritable_csv_before_the_work(
    toy: Path, codes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sampler, "score", None)  # must not be reached
    assert run("score", toy, codes, "--label", 0, "--csv", tmp_path / "no" / "a.csv") == 1
    assert "there is no folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("score", toy, codes, "--label", 0, "--csv", tmp_path / "a.txt")
    assert "should end in .csv" in capsys.readouterr().err


def test_info(toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", toy) == 0
    text = capsys.readouterr().out
    for part in (
        "family toy",
        "4×5, codes 0…5",
        "class 0…2",
        "state.ring",
        "toy.score.onnx",
        "intact",
        "1 image: states",
    ):
        assert part in text
    assert run("info", toy, "--json") == 0
    assert Manifest.from_json(capsys.readouterr().out).levels == L


def test_info_sees_missing_and_altered_files(
    parts: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    step = write(tmp_path, {**parts, "score": parts["row"]})
    (tmp_path / "toy.filtered.onnx").unlink()
    assert run("info", step) == 1
    text = capsys.readouterr().out
    assert "score.onnx is not the file" in text and "filtered.onnx does not exist" in text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--label", "3"], "label holds 3, expected values from 0 to 2"),
        ([], "This model needs a condition: label=<class 0…2>"),
        (["--condition", "size=3", "--label", "0"], "'size' is not a condition of this model, which takes label"),
        (["--condition", "label=3", "--label", "0"], "'label' was given twice"),
        (["--condition", "label=x"], "--condition label: 'x' is not a list of labels"),
        (["--label", "0", "--top-k", "7"], "top_k holds 7, expected integers from 1 to 6"),
        (["--label", "0", "--known", "no.npy"], "--known: no.npy cannot be read as a .npy array"),
        (["--label", "0", "--seed", str(2**64)], "seed is 18446744073709551616"),
        (["--label", "0", "--device", "cuda"], "device is 'cuda', but this ONNX Runtime has only"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run("sample", toy, *arguments, "-o", tmp_path / "out.npy") == 1
    error = capsys.readouterr().err
    assert message in error and error.startswith("pixelsnail-infer: ") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((2, 8, 8), int), "takes no other canvas"),
        (np.full((1, H, W), L), "codes[0, 0, 0] is 6, expected codes from 0 to 5"),
        (np.zeros((1, H, W)), "expected integers"),
        (np.array([{}]), "cannot be read as a .npy array"),
    ],
)
def test_bad_codes_are_one_line(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], array: Any, message: str
) -> None:
    path = tmp_path / "bad.npy"
    np.save(path, array, allow_pickle=True)
    assert run("score", toy, path, "--label", 0, "-o", tmp_path / "out.npy") == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["paint"], ["sample", "x.onnx"], ["sample", "x.onnx", "-o", "x.gif"],
        ["sample", "x.onnx", "-o", "x.png", "--n", "0"], ["sample", "x.onnx", "-o", "x.png", "--label", "a"],
        ["sample", "x.onnx", "-o", "x.png", "--label", "5-2"],
        ["sample", "x.onnx", "-o", "x.png", "--condition", "label"], ["info"], ["score", "x.onnx"],
    ],
)  # fmt: skip
def test_wrong_usage_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and error.startswith("pixelsnail-infer") and error.count("\n") == 2
    assert error.splitlines()[1].startswith("Try 'pixelsnail-infer") and error.endswith(" --help'.\n")


@pytest.mark.parametrize("command", [[], ["sample"], ["score"], ["info"]])
def test_help_teaches(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*command, "--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "  pixelsnail-infer " in text and "onnx" in text


def _verify_command(needs: str | None) -> types.ModuleType:
    """A stand-in for the exporter's side of `verify`."""
    module = types.ModuleType("verify_command", "Compare an export with its checkpoint.")
    vars(module).update(
        add_arguments=lambda parser: parser.add_argument("model"),
        run=lambda args: importlib.import_module(needs) and 1 if needs else 0 if args.model == "a.onnx" else 3,
    )
    return module


def test_verify_runs_the_exporters_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pixelsnail_infer.export.verify_command", _verify_command(None))
    assert run("verify", "a.onnx") == 0
    with pytest.raises(SystemExit) as stop:
        run("verify")
    assert stop.value.code == 2


def test_verify_without_torch_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pixelsnail_infer.export.verify_command", _verify_command("torch"))
    monkeypatch.setitem(sys.modules, "torch", None)
    assert run("verify", "a.onnx") == 1
    assert "verify needs torch" in (error := capsys.readouterr().err)
    assert "pip install 'pixelsnail-infer[export,cpu]'" in error
    monkeypatch.setitem(sys.modules, "pixelsnail_infer.export.verify_command", _verify_command("no_such_module"))
    with pytest.raises(ModuleNotFoundError):
        run("verify", "a.onnx")


def test_the_command_runs_as_a_module(toy: Path) -> None:
    command = [sys.executable, "-m", "pixelsnail_infer", "info", str(toy), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and json.loads(done.stdout)["kind"] == "prior" and done.stderr == ""


def test_labels_and_conditions_are_parsed() -> None:
    assert parse_labels("0-3") == [0, 1, 2, 3] and parse_labels("7") == [7] and parse_labels("0, 1,5-6") == [0, 1, 5, 6]
    for text in ("", "a", "1-", "-1", "3-1", "1,,2", "0-999999999", "1.5"):
        with pytest.raises(ValueError, match="write|label"):
            parse_labels(text)
    assert parse_condition("a=b=c") == ("a", "b=c")
    for text in ("a", "=b", "a="):
        with pytest.raises(ValueError, match="is not NAME="):
            parse_condition(text)


def test_grids() -> None:
    assert grid_columns(40, list(range(10))) == 10 and grid_columns(3, list(range(10))) == 3
    assert grid_columns(10) == 4 and grid_columns(1) == 1 and grid_columns(9, [5]) == 3
    assert grey(np.array([-1, 0, 1, 2]), 3).tolist() == [0, 0, 128, 255] and grey(np.array([0]), 1).tolist() == [0]
    image = pytest.importorskip("PIL.Image")
    with image.open(io.BytesIO(png_grid(np.zeros((3, 2, 2), np.int64), 2, columns=2, scale=3))) as picture:
        assert picture.size == (4 + 2 * 10, 4 + 2 * 10)


def test_files_are_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npy"
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RequestError, match="a.npy cannot be written .No space left on device.; free some space"):
        write_whole(path, b"newer")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, b"newer")
    assert list(tmp_path.iterdir()) == [path]


def test_a_real_limit_on_file_size_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    assert resource is not None
    path = tmp_path / "big.npy"
    code = f"""
import resource
from pixelsnail_infer.runtime.files.saving import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_whole({str(path)!r}, bytes(5000))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "cannot be written (File too large)" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_unwritable_targets_are_found_before_the_work(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("sample", toy, "--label", 0, "-o", tmp_path / "no" / "a.npy") == 1
    assert "there is no folder" in capsys.readouterr().err
    (tmp_path / "folder.npy").mkdir()
    assert run("sample", toy, "--label", 0, "-o", tmp_path / "folder.npy") == 1
    assert "is not a regular file" in capsys.readouterr().err

    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(RequestError, match="cannot be written .Permission denied."):
        check_writable(tmp_path / "a.npy")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.npy").symlink_to(tmp_path / "real.npy")
    write_whole(tmp_path / "link.npy", b"x")
    assert (tmp_path / "link.npy").is_symlink() and (tmp_path / "real.npy").read_bytes() == b"x"


def test_an_interrupt_is_one_line(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Sampler, "sample", interrupted)
    assert run("sample", toy, "--label", 0, "-o", tmp_path / "a.npy") == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err and list(tmp_path.iterdir()) == []
