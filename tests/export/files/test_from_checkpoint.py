"""`export_checkpoint` and `verify_export`: the commands' options by name, their files to the byte, and no printing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import onnx
import pytest

from pixelsnail_infer.__main__ import main as infer
from pixelsnail_infer.checkpoints.option import option_of
from pixelsnail_infer.errors import PixelsnailError, RequestError, VerificationError
from pixelsnail_infer.export import Exported, cli, export_checkpoint, verify_command, verify_export
from pixelsnail_infer.export.source.options import ExportOptions, SourceOptions
from pixelsnail_infer.manifest import METADATA_KEY, ConditionSpec

from ..own.models import CASES
from ..own.models import checkpoint as own_checkpoint
from . import families as f

EXAMPLES = Path(__file__).parents[3] / "examples"
DIGITS = EXAMPLES / "digits.pt"
BESIDE = {"export": {"checkpoint", "output", "quiet", "traceback", "version", "help"},
          "verify": {"exported", "checkpoint", "device", "backend", "help"}}
Capture = pytest.CaptureFixture[str]


def bytes_of(folder: Path) -> dict[str, tuple[bytes, dict[str, Any]]]:
    """Every file: its graph, and its metadata without how many rows the float64 proof had time for."""
    return {path.name: contents(path) for path in folder.iterdir()}


def contents(path: Path) -> tuple[bytes, dict[str, Any]]:
    model = onnx.load(path)
    metadata: dict[str, Any] = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA_KEY in metadata:
        metadata[METADATA_KEY] = manifest = json.loads(metadata[METADATA_KEY])
        for batch in (1, 3):
            manifest["verification"].pop(f"float64 interpreter, batch {batch}", None)
    del model.metadata_props[:]
    return model.SerializeToString(deterministic=True), metadata


class Parsed(Exception):
    """Ends a command where it would begin."""


def actions(run: Callable[[list[str]], Any], arguments: list[str], patch: pytest.MonkeyPatch) -> list[argparse.Action]:
    """Of the parser that a command makes."""
    found: list[argparse.Action] = []

    def stop(parser: argparse.ArgumentParser, *_: Any) -> None:
        found.extend(parser._actions)
        raise Parsed

    with patch.context() as patched, pytest.raises(Parsed):
        patched.setattr(argparse.ArgumentParser, "parse_args", stop)
        run(arguments)
    return found


@pytest.mark.parametrize("command, run, kind, call", [
    ("export", cli.main, ExportOptions, export_checkpoint),
    ("verify", lambda _: infer(["verify"]), SourceOptions, verify_export),
])
def test_the_same_options(
    command: str, run: Any, kind: type[SourceOptions], call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {action.dest: action for action in actions(run, [], monkeypatch)}
    places = {place.name: place for place in fields(kind)}
    assert found.keys() - BESIDE[command] == places.keys()
    lines = [line.strip() for line in call.__doc__.splitlines()]
    for name, place in places.items():
        action = found[name]
        assert action.option_strings == [f"--{name.replace('_', '-')}"]
        assert action.default == place.default and action.help == option_of(place).meaning
        start = lines.index(f"{name}: {place.type} = {place.default!r}") + 1
        assert option_of(place).meaning.startswith(lines[start]), "the docstring has its meaning"
    assert sum(" = " in line for line in lines) == len(places)


# The same files -------------------------------------------------------------------------------------------------------


def test_the_files_are_the_commands(digits_graphs: dict[str, Path], tmp_path: Path, capsys: Capture) -> None:
    said, found = list[str](), list[str]()
    done = export_checkpoint(DIGITS, tmp_path / "digits.onnx", say=said.append, found=found.append)
    assert bytes_of(tmp_path) == bytes_of(digits_graphs["step"].parent)
    assert done.file == tmp_path / "digits.onnx" and sorted(done.files) == sorted(tmp_path.iterdir())
    assert found[0].startswith("recognised a vq-prior of 8x8 codes, 17 levels") and "ELU not in place" in found[-1]
    assert said[0] == f"reading {DIGITS}" and "writing the graphs" in said
    assert capsys.readouterr() == ("", "")


BOTH: list[tuple[str, list[str], dict[str, Any]]] = [
    ("vqvae", ["--shape", "64x64", "--relu-inplace", "no"], {"shape": (64, 64), "relu_inplace": False}),
    ("vqvae", ["--shape", "64x64", "--part", "encoder"], {"shape": "64x64", "part": "encoder"}),
    ("kamen", ["--approximate", "first-position", "--bits", "8", "--round"],
     {"approximate": "first-position", "bits": 8, "round": True}),
]


@pytest.mark.parametrize("name, arguments, options", BOTH)
def test_options_make_the_same_files(
    name: str, arguments: list[str], options: dict[str, Any], tmp_path: Path, capsys: Capture
) -> None:
    path = f.kamen_files(tmp_path)[0] if name == "kamen" else EXAMPLES / f"{name}.pt"
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    assert cli.main(["-q", str(path), str(one / "out.onnx"), *arguments]) == 0
    done = export_checkpoint(str(path), str(other / "out.onnx"), **options)
    assert bytes_of(one) == bytes_of(other) and len(done.files) == len(bytes_of(other))
    checks = verify_export(done.file, path, **{k: v for k, v in options.items() if k not in ("part", "round")})
    assert checks and all(check.passed for check in checks)
    assert capsys.readouterr() == ("", "")


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    case = CASES["alone"]
    path, one, other = tmp_path / "net.pt", tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    own_checkpoint(case, path)
    given = case.options()
    assert cli.main(["-q", str(path), str(one / "out.onnx"), *given]) == 0
    pairs = dict(zip(given[::2], given[1::2], strict=True))
    options = {"model": pairs["--model"], "model_args": json.loads(pairs["--model-args"]),
               "shape": pairs["--shape"], "levels": int(pairs["--levels"])}
    done = export_checkpoint(path, other / "out.onnx", **options)
    assert bytes_of(one) == bytes_of(other)
    assert verify_export(done.file, path, model=options["model"], model_args=options["model_args"])
    with pytest.raises(PixelsnailError, match="--shape says .*; leave it out"):
        verify_export(done.file, path, **{**options, "shape": (3, 3)})
    with pytest.raises(VerificationError, match="was made from another checkpoint"):
        verify_export(done.file, DIGITS)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options, says", [
    ({"n_heads": 4}, "'n_heads' is no option of export_checkpoint; did you mean n_head?"),
    ({"elu_in_place": True}, "did you mean elu_inplace?"), ({"qqqq": 1}, "there are shape, n_head, "),
    ({"own_model": "x"}, "is no option of export_checkpoint"),
    ({"n_head": "4"}, "--n-head is '4', expected an integer"), ({"n_head": True}, "expected an integer"),
    ({"shape": (8,)}, "--shape is (8,), expected rows x columns"), ({"shape": (8, 0)}, "expected rows x columns"),
    ({"shape": 8}, "expected rows x columns"), ({"shape": "8x" + "9" * 5000}, "expected rows x columns"),
    ({"elu_inplace": "yes"}, "expected True or False"),
    ({"elu_inplace": None}, "expected True or False"), ({"relu_inplace": "ja"}, "expected True or False (yes or no)"),
    ({"relu_inplace": 1}, "--relu-inplace is 1, expected True or False (yes or no)"),
    ({"condition_kind": "labels"}, "--condition-kind is 'labels', expected 'label' or 'vector'"),
    ({"part": "head"}, "expected 'decoder' or 'encoder'"), ({"ema": 3}, "expected the path of a file"),
    ({"levels": 0}, "expected the number of codes, 1 or more"), ({"mixture": (10, 2)}, "or 10x1 for grey"),
    ({"model_args": {"shape": (8, 8)}}, "lists (no tuples)"), ({"model_args": {"f": len}}, "a dict of what JSON has"),
    ({"model_args": 3}, "a dict of what JSON has"), ({"condition": 3}, "expected a dict by name, or a list, of "),
    ({"condition": {"label": "klass:3"}}, "'klass:3' is of no known kind"),
    ({"model": 3}, "--model is 3, expected text"),
    ({"schedule": "spiral"}, "--schedule is 'spiral', expected 'raster' or 'auto' or 'both' or 'wavefront'"),
    ({"precision": "float64"}, "--precision is 'float64', expected 'float32'"),
    ({"target": "tensorrt"}, "--target is 'tensorrt', expected 'generic'"),
    ({"arch": "h6_shift"}, f"--arch has no meaning for a vq-prior, as {DIGITS} is: it is for pixelsnail. Leave it out"),
    ({"relu_inplace": False}, "--relu-inplace has no meaning for a vq-prior"),
    ({"condition": ["label:class:3"]}, "--condition goes with a class of your own"),
    ({"condition": ConditionSpec("label", "class", (), "int64", 3)}, "--condition goes with a class of your own"),
    ({"model": "net.py:Net", "n_head": 2}, "--n-head is for checkpoints of known families"),
    ({"model": "net.py:Net"}, "--model needs --levels N (codes) or --mixture"),
])  # fmt: skip
def test_refusals(options: dict[str, Any], says: str, tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(PixelsnailError) as caught:
        export_checkpoint(DIGITS, tmp_path / "out.onnx", **options)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [] and capsys.readouterr() == ("", "")


def test_more_refusals(tmp_path: Path) -> None:
    with pytest.raises(PixelsnailError, match="'out.pt'; in the format onnx its name must end in .onnx, or ask"):
        export_checkpoint(DIGITS, "out.pt")
    with pytest.raises(RequestError, match="'schedule' is no option of verify_export"):
        verify_export(tmp_path / "out.onnx", DIGITS, schedule="raster")


@pytest.mark.parametrize("name", ["schedule", "precision", "target"])
def test_the_command_offers_what_the_writers_have(name: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([str(DIGITS), "out.onnx", f"--{name}", "other"])
    assert stop.value.code == 2 and f"argument --{name}: invalid choice: 'other'" in capsys.readouterr().err


# The commands print ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_the_command_only_prints(
    quiet: list[str], digits_graphs: dict[str, Path], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = export_checkpoint(DIGITS, tmp_path / "done.onnx")
    before, calls = bytes_of(tmp_path), list[tuple[Any, ...]]()

    def call(path: str, output: str, *, say: Any, found: Any, **options: Any) -> Exported[Any]:
        calls.append((path, output, options))
        found("recognised")
        say("working")
        return done

    monkeypatch.setattr(cli, "export_checkpoint", call)
    assert cli.main(["a.pt", "b.onnx", "--n-head", "3", "--shape", "2x3", "--condition", "a:class:2", *quiet]) == 0
    ((path, output, options),) = calls
    plain = {place.name: place.default for place in fields(ExportOptions)}
    assert (path, output) == ("a.pt", "b.onnx")
    assert options == {**plain, "n_head": 3, "shape": "2x3", "condition": ["a:class:2"]}
    printed = capsys.readouterr()
    if quiet:
        assert printed == ("", "")
    else:
        assert printed.out.startswith("recognised\nstages (") and "  done.score.onnx" in printed.out
        assert [line.partition("] ")[2] for line in printed.err.splitlines()] == ["working", "done"]
    assert bytes_of(tmp_path) == before


def test_verify_only_prints(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    done = export_checkpoint(DIGITS, tmp_path / "done.onnx")
    calls = list[tuple[Any, ...]]()

    def call(exported: str, checkpoint: str, *, device: str, backend: str, say: Any, **options: Any) -> Any:
        calls.append((exported, checkpoint, device, backend, options))
        return done.checks

    monkeypatch.setattr(verify_command, "verify_export", call)
    assert infer(["verify", "a.onnx", "a.pt", "--device", "cuda", "--backend", "torch", "--no-ema"]) == 0
    plain = {place.name: place.default for place in fields(SourceOptions)}
    assert calls == [("a.onnx", "a.pt", "cuda", "torch", {**plain, "no_ema": True})]
    assert capsys.readouterr().out.startswith("verification against PyTorch\n")


@pytest.mark.parametrize("name", ["own.pt", "link.pt"])
def test_a_checkpoint_is_never_written_over(name: str, tmp_path: Path, capsys: Capture) -> None:
    own = tmp_path / "own.pt"
    own.write_bytes(DIGITS.read_bytes())
    (tmp_path / "link.pt").symlink_to(own)
    with pytest.raises(PixelsnailError, match="the checkpoint itself"):
        export_checkpoint(own, tmp_path / name, format="torchscript")
    with pytest.raises(SystemExit, match="2"):
        cli.main([str(own), str(tmp_path / name), "--format", "torchscript"])
    assert "the checkpoint itself" in capsys.readouterr().err and own.read_bytes() == DIGITS.read_bytes()


@pytest.mark.parametrize("name, format", [(".onnx", "onnx"), ("out.pt", "onnx"), ("out.onnx", "torchscript")])
def test_a_name_that_the_format_does_not_have(name: str, format: str, tmp_path: Path) -> None:
    with pytest.raises(PixelsnailError, match=f"in the format {format} its name must end in"):
        export_checkpoint(DIGITS, tmp_path / name, format=format)
    assert list(tmp_path.iterdir()) == []
