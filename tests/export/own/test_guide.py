"""The guide's network, command and leak report are real."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch

from pixelsnail_infer.export import export_checkpoint, export_model
from pixelsnail_infer.export.cli import main
from pixelsnail_infer.export.source.declared import condition_specs, named_condition
from pixelsnail_infer.export.source.user_model import user_model

GUIDE = (Path(__file__).parents[3] / "docs" / "own-model.md").read_text()
NET = re.findall(r"`my_net.py`:\n```python\n(.*?)```", GUIDE, re.S)[0]
COMMAND = re.findall(r"^    export-model (my.pt .*)$", GUIDE, re.M)[0]
REPORT = " ".join(re.findall(r"\n    (export-model: .*?)\n\n", GUIDE, re.S)[0].split())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The guide's file and a checkpoint of it, in the working folder."""
    (tmp_path / "my_net.py").write_text(NET)
    torch.manual_seed(0)
    with user_model(f"{tmp_path / 'my_net.py'}:Net", {"shape": [8, 8], "levels": 64}) as module:
        torch.save({"model": module.state_dict()}, tmp_path / "my.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_works(folder: Path) -> None:
    assert main(["-q", *shlex.split(COMMAND)]) == 0
    assert (folder / "my.onnx").is_file()


def test_one_call_works(folder: Path) -> None:
    call = re.findall(r"\n(export_checkpoint\(\"my.*?\))\n```", GUIDE, re.S)[0]
    exec(call, {"export_checkpoint": export_checkpoint})
    written = (folder / "my.onnx").read_bytes()
    assert main(["-q", *shlex.split(COMMAND)]) == 0 and (folder / "my.onnx").read_bytes() == written


def test_the_python_works(folder: Path) -> None:
    with user_model(f"{folder / 'my_net.py'}:Net", {"shape": [8, 8], "levels": 64}) as net:
        call = re.findall(r"\n(export_model\(.*?\)\[0\]\))\n", GUIDE, re.S)[0]
        exec(call, {"export_model": export_model, "net": net})
    assert (folder / "my.onnx").is_file()


def test_the_report_is_what_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (folder / "my_net.py").read_text()
    (folder / "my_net.py").write_text(text.replace("mask[1, 1:]", "mask[1, 2:]"))
    assert main(["-q", *shlex.split(COMMAND)]) == 1

    def masked(line: str) -> str:
        return re.sub(r"by [\d.e-]+ standard", "by X standard", line.strip())

    assert masked(capsys.readouterr().err) == masked(REPORT)


def test_the_declarations_can_be_read() -> None:
    rows = re.findall(r"^\| `(\w+:\w+:[^`]+)` \|", GUIDE, re.M)
    assert len(condition_specs([named_condition(row) for row in rows])) == 4
