"""The benchmarks run: on small models, whose figures mean nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pixelsnail_infer.runtime import load

ROOT = Path(__file__).resolve().parents[3]


def test_full_size_on_small_graphs(digits_graphs: dict[str, Path], tmp_path: Path) -> None:
    for part, path in digits_graphs.items():
        shutil.copy(path, tmp_path / ("model.onnx" if part == "step" else f"model.{part}.onnx"))
    command = [sys.executable, ROOT / "benchmarks" / "full_size.py", "--checkpoint", ROOT / "examples" / "digits.pt",
               "--work", tmp_path, "--reuse"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for line in ("one image, alone:", "state writes:"):
        assert line in done.stdout
    assert "nodes with a result as large: none" in done.stdout


def test_every_way_draws_an_image(tmp_path: Path) -> None:
    """And the step in which nothing is hoisted draws the same ones as ours."""
    small = "--levels 16 --channel 32 --res-channel 32 --n-block 1"
    command = [sys.executable, ROOT / "benchmarks" / "compare", "-o", tmp_path, "--model", "small", "--batches", "1,2",
               "--sides", "8", "--canvas-options", small, "--turns", "1", "--threads", "1", "--no-compile"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["lacking"] == {}
    ways = {(one["way"], one["batch"]) for one in found["parts"]["ways"]["times"]}
    assert len(ways) == 7 and {batch for _, batch in ways} == {1, 2}
    assert [one["shape"] for one in found["parts"]["canvas"]["times"]] == [[8, 8]] * 3
    assert all(one["seconds_per_image"] > 0 for part in found["parts"].values() for one in part["times"])
    text = (tmp_path / "bench.md").read_text()
    assert "| public sampler |" in text and "| 8x8 |" in text
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    hoisted, plain = (load(folder / "small.float32.onnx", threads=1) for folder in (tmp_path, tmp_path / "unhoisted"))
    assert plain.manifest.parameters.per_step > 5 * hoisted.manifest.parameters.per_step
    assert np.array_equal(hoisted.sample(4, seed=0), plain.sample(4, seed=0))


@pytest.mark.full
def test_what_a_network_with_strides_reads_by_row_and_column(tmp_path: Path) -> None:
    """All of it where both are multiples of 4, and at every one of a row less than that."""
    script = ROOT / "examples" / "make_stock_pixelcnnpp.py"
    sizes = ["--shape", "8", "8", "--nr-filters", "4", "--nr-resnet", "1"]
    subprocess.run([sys.executable, script, tmp_path / "made-pixelcnnpp.pt", *sizes], check=True, cwd=ROOT)
    command = [sys.executable, ROOT / "benchmarks" / "compare", "-o", tmp_path, "--parts", "ways", "--model",
               "pixelcnnpp", "--only", "public,ours", "--batches", "1,2", "--public-batches", "2", "--turns", "1",
               "--threads", "1"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text())["parts"]["ways"]
    assert {(one["way"], one["batch"]) for one in found["times"]} == {
        ("public sampler", 2), ("staged, ONNX Runtime", 1), ("staged, ONNX Runtime", 2)}  # fmt: skip
    assert {row % 4 for row in found["rows_timed"]} == {0, 1, 2, 3}
    with load(tmp_path / "pixelcnnpp.float32.onnx", threads=1) as sampler:
        parameters = sampler.manifest.parameters
    rows, steps = found["reads"]["rows"], found["reads"]["steps"]
    for read, every in ((rows[0], parameters.per_row), (steps[0][0], parameters.per_step)):
        assert 0.99 * every < read <= every  # which counts what no operation came to read, too
    assert rows[0] > rows[2] > rows[1] == rows[3] > 0 and steps[0][0] > steps[2][2] > steps[1][1] > 0
    assert steps[1] == steps[3] and len({*steps[1]}) == 1 and steps[2][1] == steps[1][1] == steps[0][3]
    assert "times faster, batch 2" in (tmp_path / "bench.md").read_text()
