"""The digits model as an archive: the same codes as the ONNX files in ONNX Runtime for the same request."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.cli import main as export_main
from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.exporting import export_model
from pixelsnail_infer.export.writing import torch_spelling
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime import Sampler, load
from pixelsnail_infer.runtime.backends import torch_cpu
from pixelsnail_infer.runtime.files import archive_code
from pixelsnail_infer.runtime.files.archive import read_archive

from . import models
from .test_digits import GOLDEN

LABELS = list(range(10)) * 2
DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits.pt"


@pytest.fixture(scope="module")
def both(digits_graphs: dict[str, Path], digits_archive: Path) -> Iterator[tuple[Sampler, Sampler]]:
    """ONNX Runtime's sampler and PyTorch's."""
    with load(digits_graphs["step"], threads=1) as one, load(digits_archive, backend="torch", threads=1) as other:
        yield one, other


def known() -> dict[str, Any]:
    golden = np.load(GOLDEN).astype(np.int64)
    mask = np.arange(8)[:, None].repeat(8, 1) < 5
    mask[6, 3:] = True
    return {"known": golden, "known_mask": mask}


@pytest.mark.parametrize("settings", [
    {}, {"top_k": 5, "top_p": 0.8}, {"temperature": np.linspace(0, 2, 20)}, known(), {**known(), "top_p": 0.5},
    {"seed": list(range(100, 120))},
], ids=["plain", "filters", "temperatures", "known rows", "known rows and filters", "seeds"])
@pytest.mark.parametrize("max_batch", [1, 7, 20])
def test_the_same_codes(both: tuple[Sampler, Sampler], settings: dict[str, Any], max_batch: int) -> None:
    """To the last code: of these draws, none is so near a tie that the engines differ."""
    one, other = (sampler.sample(20, label=LABELS, max_batch=max_batch, **settings) for sampler in both)
    assert np.array_equal(one, other)


def test_the_same_golden_images(both: tuple[Sampler, Sampler]) -> None:
    assert np.array_equal(both[1].sample(20, seed=0, label=LABELS), np.load(GOLDEN).astype(np.int64))


def test_the_same_likelihoods_and_logits_and_every_graph_may_run_twice(both: tuple[Sampler, Sampler]) -> None:
    codes = np.load(GOLDEN).astype(np.int64)[:5]
    one, other = (sampler.score(codes, label=range(5)) for sampler in both)
    assert np.abs(one - other).max() < 1e-4
    for how in ({"twice": True}, {"filtered": True, "twice": True}, {"known_rows": 3, "twice": True}):
        one, other = (sampler.replay(codes, label=range(5), **how) for sampler in both)
        assert np.nanmax(np.abs(one - other)) < 1e-4 * np.nanstd(one)


def test_a_write_touches_one_position_of_the_memory_that_was_bound(both: tuple[Sampler, Sampler]) -> None:
    sampler = both[1]
    sampler.sample(2, label=[0, 1])
    batch = sampler._work.batch
    assert batch is not None
    for buffer in batch.states.buffers.values():
        buffer.array[...] = 7.0
    batch.write("row", 3)
    batch.write("col", 5)
    batch.bound("step").run()
    for spec in sampler.manifest.states:
        written = (batch.states.buffers[spec.name].array != 7.0).any((0, 1, 3)).sum()
        assert written == (1 if spec.writer == "step" else 0), spec.name


# Drives the archive by the contract alone, with PyTorch and NumPy and without this package.
ALONE = """
import json, sys
import numpy as np, torch
sys.modules["pixelsnail_infer"] = None
extra = {"pixelsnail_infer.manifest": ""}
model = torch.jit.load(sys.argv[1], _extra_files=extra)
manifest, noise = json.loads(extra["pixelsnail_infer.manifest"]), torch.from_numpy(np.load(sys.argv[2]))
n, (height, width) = len(noise), manifest["shape"]
held = {spec["name"]: torch.full([n, *spec["shape"]], spec["initial"]) for spec in manifest["states"]}
held |= {"temperature": torch.ones(n), "given": torch.zeros(n, width, dtype=torch.int64),
         "use_given": torch.zeros(n, width, dtype=torch.bool), "label": torch.arange(n)}

def run(part):
    module = getattr(model, part)
    held.update(zip(module.outputs, module(*[held[name] for name in module.inputs])))

codes = torch.zeros(n, height, width, dtype=torch.int64)
with torch.inference_mode():
    run("prologue")
    for i in range(height):
        held["row"], held["noise"] = torch.full([n], i), noise[:, i]
        run("row")
        for j in range(width):
            held["col"] = torch.tensor([j])
            run("step")
            codes[:, i, j] = held["pixel"]
np.save(sys.argv[3], codes.numpy())
"""


def test_a_program_without_this_package_draws_the_same(digits_archive: Path, tmp_path: Path) -> None:
    noise = models.noise(_config(), 0, 10)
    np.save(tmp_path / "noise.npy", noise)
    paths = [str(digits_archive), str(tmp_path / "noise.npy"), str(tmp_path / "codes.npy")]
    done = subprocess.run([sys.executable, "-I", "-c", ALONE, *paths], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "codes.npy"), np.load(GOLDEN)[:10])


def _config() -> Any:
    return models.replace(models.SMALL, shape=(8, 8), levels=17)


def test_the_commands_take_archives(digits_archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(digits_archive)
    assert main(["info", path]) == 0
    assert "intact: an archive of step, row, prologue, score, filtered" in capsys.readouterr().out
    assert main(["info", path, "--json"]) == 0
    assert Manifest.from_json(capsys.readouterr().out) == Manifest.from_json(read_archive(path).manifest)
    codes = str(tmp_path / "codes.npy")
    assert main(["sample", path, "--n", "20", "--label", "0-9", "--backend", "torch", "-o", codes]) == 0
    assert np.array_equal(np.load(codes), np.load(GOLDEN))
    assert main(["score", path, codes, "--label", "0-9"]) == 0
    assert main(["verify", path, str(DIGITS)]) == 0
    assert "drawn, filtered" in capsys.readouterr().out
    assert main(["generate", path, "--n", "20", "--label", "0-9", "--codes", str(tmp_path / "c.npz")]) == 0
    assert np.array_equal(next(iter(np.load(tmp_path / "c.npz").values())), np.load(GOLDEN))
    assert main(["sample", path, "--backend", "onnxruntime", "--label", "1", "-o", codes]) == 1
    assert "which runs ONNX files, but " in capsys.readouterr().err


@pytest.mark.parametrize(("name", "format", "says"), [
    ("out.onnx", "torchscript", "in the format torchscript its name must end in .pt, or ask for --format onnx"),
    ("out.pt", "onnx", "in the format onnx its name must end in .onnx, or ask for --format torchscript"),
    ("out.txt", "torchscript", "in the format torchscript its name must end in .pt"),
])
def test_names_and_formats_agree(name: str, format: str, says: str, tmp_path: Path,
                                 capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        export_main([str(DIGITS), str(tmp_path / name), "--format", format])
    assert says in capsys.readouterr().err
    with pytest.raises(PixelsnailError, match=says):
        export_model(models.prior("one_row"), tmp_path / name, levels=7, shape=(1, 6), format=format)
    with pytest.raises(PixelsnailError, match="format is 'pt2', expected 'onnx', 'torchscript' or 'both'"):
        export_model(models.prior("one_row"), tmp_path / name, levels=7, shape=(1, 6), format="pt2")
    assert not list(tmp_path.iterdir())


def one_row(target: Path) -> None:
    config = models.CONFIGS["one_row"]
    export_model(models.prior("one_row"), target, levels=config.levels, shape=config.shape, format="torchscript")


def test_an_archive_is_one_file_and_leaves_others_alone(tmp_path: Path) -> None:
    beside = tmp_path / "out.row.onnx"
    beside.write_bytes(b"of another export")
    (tmp_path / "out.pt").write_bytes(b"of an older one")
    one_row(tmp_path / "out.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.pt", "out.row.onnx"]
    assert beside.read_bytes() == b"of another export"
    with load(tmp_path / "out.pt") as sampler, load((tmp_path / "out.pt").read_bytes()) as held:
        assert np.array_equal(sampler.sample(2), held.sample(2))


def test_a_wrong_archive_is_seen_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proofs run on the archive: one whose draw is another is not published."""
    (tmp_path / "out.pt").write_bytes(b"of an older one")
    monkeypatch.setitem(torch_spelling.SPELLINGS, v.ArgMax,
                        lambda w, op: w.call(torch.argmin, w[op.value], op.axis, op.keep))
    monkeypatch.setattr(archive_code, "OPERATORS", archive_code.OPERATORS | {"argmin"})
    monkeypatch.setattr(torch_cpu, "KINDS", archive_code.KINDS | {"aten::argmin"})
    with pytest.raises(PixelsnailError, match="verification failed"):
        one_row(tmp_path / "out.pt")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"out.pt": b"of an older one"}
