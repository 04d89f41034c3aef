"""Networks that are refused: each message has the pair of positions, the operation and the line of the user's file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .leaks import blamed, export

Capture = pytest.CaptureFixture[str]
PAIR = r"changing pixel \(row \d+, column \d+\) changes (its own prediction|the prediction of pixel \(row \d+, column "
PAIR += r"\d+\)) by [\d.e+-]+ standard deviations"

LEAKS = {
    "SeesItself": ("convolution in module 'first'", "offset (row +1, column +1)"),
    "PaddedBlock": ("convolution in module 'norm'", "offset (row +1, column +1)"),
    "Unmasked": ("bmm", "mask lets a query see positions that are not drawn yet"),
    "FirstRowMasked": ("query 0 are fully masked", "softmax averages positions"),
    "InstanceNormed": ("native_batch_norm in module 'norm'", "instance norm", "all positions of the canvas"),
    "GroupNormed": ("native_group_norm in module 'norm'", "all positions of the canvas"),
    "NormedOverTheCanvas": ("native_layer_norm in module 'norm'", "all positions of the canvas"),
    "Painted": ("sum in module", "all positions of the canvas"),
    "SqueezedAndExcited": ("mean in module", "all positions of the canvas"),
    "Faint": ("convolution in module 'first'", "offset (row +0, column +1)"),
}
UNSTEADY = {
    "Dropped": ("two forwards on the same image differ", "draws random numbers", "dropout"),
    "MadeInTheForward": ("two forwards on the same image differ", "weights made in the forward"),
    "BatchStatistics": ("with the other images of its batch", "statistics of the batch", "eval mode"),
    "BatchNormWithoutRunning": ("with the other images of its batch", "running statistics"),
    "Branching": ("data-dependent branch",),
    "ReadsANumber": ("with the other images of its batch", "data-dependent branch"),
    "LeaksThroughTheUnknown": ("the model is not causal", "got no further than to: erfinv", "supported operations"),
    "ThroughNumpy": ("forward fails", "not when it is recorded", "PyTorch's operations"),
    "Selecting": ("data-dependent branch or index",),
    "Failing": ("forward fails", "shape '[1, 6, 7, 7]' is invalid"),
}


def refused(name: str, folder: Path, capsys: Capture, *options: str, shape: str = "4x5") -> str:
    """The one line that the command prints; nothing is written."""
    assert export(name, folder, *options, shape=shape) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and printed.err.startswith("export-model: ")
    assert list((folder / "out").iterdir()) == []
    return printed.err


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_named_by_pair_operation_and_line(name: str, tmp_path: Path, capsys: Capture) -> None:
    message = refused(name, tmp_path, capsys)
    assert "the model is not causal" in message and re.search(PAIR, message)
    assert [part for part in (*LEAKS[name], f"({blamed(name)})") if part not in message] == []


@pytest.mark.parametrize("name", UNSTEADY)
def test_what_is_no_function_of_one_image_is_named_by_its_line(name: str, tmp_path: Path, capsys: Capture) -> None:
    message = refused(name, tmp_path, capsys)
    assert [part for part in (*UNSTEADY[name], blamed(name)) if part not in message] == []


@pytest.mark.parametrize("shape, pair", [
    ("12x12", "changing pixel (row 0, column 0) changes its own prediction"),
    ("1x6", "changing pixel (row 0, column 0) changes its own prediction"),
])
def test_the_pair_on_other_canvases(shape: str, pair: str, tmp_path: Path, capsys: Capture) -> None:
    assert pair in refused("SeesItself", tmp_path, capsys, shape=shape)


def test_a_leak_too_faint_for_the_first_look_is_looked_for_again(tmp_path: Path, capsys: Capture) -> None:
    """On a large canvas the probe runs in float32; what it cannot see there, the analysis has it look for."""
    message = refused("Faint", tmp_path, capsys, shape="11x12")
    assert re.search(PAIR, message) and f"({blamed('Faint')})" in message


def test_a_leak_that_no_number_shows_is_refused_for_its_operation(tmp_path: Path, capsys: Capture) -> None:
    message = refused("Fainter", tmp_path, capsys)
    assert "no pixel that was changed shows it" in message and f"({blamed('Fainter')})" in message


def test_a_branch_on_a_condition(tmp_path: Path, capsys: Capture) -> None:
    message = refused("ReadsALabel", tmp_path, capsys, "--condition", "label:class:3")
    assert blamed("ReadsALabel") in message and "other images of its batch" in message


def test_what_pytorch_does_not_see_is_refused_all_the_same(tmp_path: Path, capsys: Capture) -> None:
    """Random numbers of Python, and results kept from the first call."""
    assert "two forwards on the same image differ" in refused("Counting", tmp_path, capsys)
    message = refused("Remembering", tmp_path, capsys)
    assert "gives two random images the same logits" in message and "keeps what it was given first" in message


def test_networks_of_which_nothing_could_be_verified(tmp_path: Path, capsys: Capture) -> None:
    assert "the same numbers for every pixel, as before any training" in refused("Untrained", tmp_path, capsys)
    assert "gives NaN or infinite numbers" in refused("NotANumber", tmp_path, capsys)


def test_the_same_file_without_a_leak_passes(tmp_path: Path) -> None:
    assert export("Causal", tmp_path) == 0
    assert (tmp_path / "out" / "out.onnx").is_file()


def test_a_traceback_only_when_asked(tmp_path: Path, capsys: Capture) -> None:
    assert export("Failing", tmp_path, "--traceback") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("RuntimeError: ") or lines[0].startswith("Traceback")
    assert any('leaky.py", line' in line for line in lines) and lines[-1].startswith("export-model: ")
