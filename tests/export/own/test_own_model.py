"""A user's file through the command: replay and draws are those of its own forward, whatever habits it has."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelsnail_infer.__main__ import main as infer
from pixelsnail_infer.export.cli import main
from pixelsnail_infer.runtime import load

from .models import CASES, LEVELS, USER, checkpoint, export, noise, own_logits, weights

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module", params=list(CASES))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    assert export(CASES[request.param], folder, "-q") == 0
    return request.param, folder


def test_replay_is_the_files_own_forward(exported: tuple[str, Path]) -> None:
    name, folder = exported
    case = CASES[name]
    codes, given = np.random.default_rng(5).integers(0, LEVELS, (4, *case.shape)), case.given(4, 6)
    expected = own_logits(case, codes, given)
    with load(folder / "out.onnx", threads=1) as sampler:
        found = sampler.replay(codes, **given)
        others = sampler.replay(codes, **case.given(4, 7))
    assert np.abs(found - expected).max() < 1e-5 * expected.std() + 1e-5
    assert (np.abs(found - others).max() > 0.01) == bool(given), "every condition reaches the logits, or there is none"


def test_draws_are_confirmed_by_one_forward(exported: tuple[str, Path]) -> None:
    name, folder = exported
    case = CASES[name]
    given = case.given(5, 8)
    with load(folder / "out.onnx", threads=1) as sampler:
        codes = sampler.sample(5, seed=9, **given)
    scores = own_logits(case, codes, given) + noise(case, 5, 9)
    assert np.array_equal(scores.argmax(-1), codes) and len(np.unique(codes)) == LEVELS


def test_verify_takes_the_same_options(exported: tuple[str, Path], capsys: Capture) -> None:
    name, folder = exported
    files = [str(folder / "out.onnx"), str(folder / "net.pt")]
    options = CASES[name].options()
    assert infer(["verify", *files, *options]) == 0
    assert infer(["verify", *files, *options[:4]]) == 0, "canvas, levels and conditions stand in the manifest"
    assert "FAILED" not in capsys.readouterr().out
    options[options.index("--levels") + 1] = "9"
    assert infer(["verify", *files, *options]) == 1
    assert "was exported with" in capsys.readouterr().err


def test_verify_finds_other_weights(tmp_path: Path, capsys: Capture) -> None:
    assert export(CASES["alone"], tmp_path, "-q") == 0
    changed = weights(CASES["alone"])
    changed["join.bias"] += 0.5
    torch.save(changed, tmp_path / "net.pt")
    assert infer(["verify", str(tmp_path / "out.onnx"), str(tmp_path / "net.pt"), *CASES["alone"].options()]) == 1
    assert "made from another checkpoint" in capsys.readouterr().err


def test_what_was_seen_is_said_and_kept(tmp_path: Path, capsys: Capture) -> None:
    case = CASES["coarse"]
    assert export(case, tmp_path) == 0
    out = capsys.readouterr().out
    for part in ("your own net.py:Net, 4x6 codes, 7 levels", "every one of its ", "tuple of 2: its first element"):
        assert part in out
    with load(tmp_path / "out.onnx", threads=1) as sampler:
        manifest = sampler.manifest
    assert any("its first element is taken as the logits" in note for note in manifest.notes)
    assert manifest.model.family == "custom" and manifest.model.config["model"] == "net.py:Net"
    assert manifest.model.config["arguments"] == json.loads(case.made_with)
    (condition,) = manifest.conditions
    assert (condition.name, condition.kind, condition.shape, condition.levels) == ("coarse", "codes", (2, 3), 5)


def test_a_function_may_make_the_module(tmp_path: Path) -> None:
    case = CASES["alone"]
    path = checkpoint(case, tmp_path / "net.pt")
    assert main(["-q", str(path), str(tmp_path / "out.onnx"), *case.options("make")]) == 0


def test_the_file_leaves_python_as_it_was(tmp_path: Path) -> None:
    before, modules, bytecode = list(sys.path), set(sys.modules), sys.dont_write_bytecode
    state = torch.random.get_rng_state()
    case = CASES["alone"]
    path = checkpoint(case, tmp_path / "net.pt")
    torch.random.set_rng_state(state)
    assert main(["-q", str(path), str(tmp_path / "out.onnx"), *case.options()]) == 0
    assert sys.path == before and sys.dont_write_bytecode == bytecode
    assert not {name for name in set(sys.modules) - modules if "masks" in name or "user_model_" in name}
    assert not list(USER.rglob("*.pyc"))
    assert torch.equal(torch.random.get_rng_state(), state) and torch.get_default_dtype() == torch.float32
