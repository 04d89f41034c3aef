"""Files of training code through the commands: `--key`, `--ema`, and what is printed but is no part of the export."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelsnail_infer.__main__ import main as infer
from pixelsnail_infer.export.cli import main
from pixelsnail_infer.runtime import load

from . import families as f

Capture = pytest.CaptureFixture[str]
CODES = np.random.default_rng(1).integers(0, 7, (2, 4, 6))
OWN = """
import torch
from torch.nn import functional as F
class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.out = torch.nn.Conv2d(5, 5, 1)
    def forward(self, codes):
        pixels = F.one_hot(codes, 5).permute(0, 3, 1, 2).float()
        return self.out(F.pad(pixels, (1, 0))[:, :, :, :-1])
"""


def joint(path: Path) -> Path:
    """Two priors, the averages of one, and an optimizer's state."""
    state = f.prior(replace(f.BOTTOM, condition=None)).state_dict()
    small = {name: tensor * 0.9 if name != "background" else tensor for name, tensor in state.items()}
    large = {name: tensor * 1.1 if name != "background" else tensor for name, tensor in state.items()}
    torch.save({"top": state, "other": small, "top_ema": large, "opt": {"state": {0: {"m": torch.ones(3)}}}}, path)
    return path


def replayed(path: Path) -> np.ndarray:
    with load(path, threads=1) as sampler:
        return sampler.replay(CODES)


def test_a_model_of_several_is_named(tmp_path: Path, capsys: Capture) -> None:
    path, out = joint(tmp_path / "joint.pt"), tmp_path / "out.onnx"
    command = [str(path), str(out), "--n-head", "2"]
    assert main(["-q", *command]) == 1
    assert "2 models fit: 'top' (vq-prior, " in capsys.readouterr().err and not out.exists()
    assert main([*command, "--key", "top"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("every tensor of the model has its place") and "  took the weights under 'top'" in lines
    assert any(line.startswith("  left aside 'top_ema' (vq-prior, ") for line in lines)
    assert "  left aside 1 other tensors: opt (1)" in lines
    with load(out, threads=1) as sampler:
        notes = json.dumps(sampler.manifest.notes)
    assert "took the weights under 'top'" in notes and "left aside" not in notes
    bare = replayed(out)
    assert infer(["verify", str(out), *command[:1], *command[2:], "--key", "top"]) == 0
    assert infer(["verify", str(out), *command[:1], *command[2:], "--key", "other"]) == 1
    assert main([*command, "--key", "top_ema", "--ema", "-q"]) == 0
    assert not np.allclose(bare, replayed(out), atol=1e-2)
    assert main([*command, "--key", "top", "--ema", "-q"]) == 1
    assert "no averaged copy of the weights 'top'" in capsys.readouterr().err


def test_a_model_of_ones_own(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "net.py").write_text(OWN)
    path, out = tmp_path / "net.pt", tmp_path / "out.onnx"
    torch.save({name: torch.nn.ModuleDict({"out": torch.nn.Conv2d(5, 5, 1)}).state_dict()
                for name in ("net", "ema", "other")}, path)
    command = [str(path), str(out), "--model", f"{tmp_path / 'net.py'}:Net", "--shape", "4x6", "--levels", "5"]
    assert main(["-q", *command]) == 1
    assert "2 models fit: 'net' (Net, 2 tensors, 30 numbers), 'other' (Net" in capsys.readouterr().err
    assert main([*command, "--ema"]) == 0
    printed = capsys.readouterr().out
    assert "took the averages under 'ema', as asked (--ema)" in printed and "left aside 'net' (Net" in printed
    assert main([*command, "--ema", str(path), "-q"]) == 1
    assert "--ema is for checkpoints of known families" in capsys.readouterr().err


@pytest.mark.parametrize("more, says", [
    (["--key", "a"], "--key chooses among the entries of a PyTorch file"),
    (["--ema", "--no-ema"], "--ema asks for the averages and --no-ema for the bare weights"),
    (["--ema", "x.pt"], "--ema has no meaning for a pixelsnail"),
])
def test_tensorflow_checkpoints(more: list[str], says: str, tmp_path: Path, capsys: Capture) -> None:
    command = [str(f.TF), str(tmp_path / "out.onnx"), "--arch", "h12_noup_smallkey", "--shape", "4x6", "-q"]
    assert main([*command, *more]) == 1
    assert says in capsys.readouterr().err
