"""The script of all checks that need a GPU, rehearsed on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.full
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu_check"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), "-o", str(folder), "--precisions", "float32", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_rehearsal_on_the_cpu_finds_nothing_wrong(tmp_path: Path) -> None:
    done = run(tmp_path, "--device", "cpu", "--models", "small,small-decoder", "--batches", "2", "--engines",
               "torch,onnxruntime")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert not report["lacking"]
    for engine in ("torch", "onnxruntime"):
        found = report["parts"][f"small, {engine} float32, draws beside the CPU's"]
        assert found["pixels"] == 128
        assert found["pixels_equal"] + found["near_ties"] * 64 >= 128
        assert {"replay, batch 1", "drawn"} <= set(report["parts"][f"small, {engine} float32, proofs"])
        assert report["parts"][f"small, {engine} float32, batch 2"]["step_ms"] > 0
        assert report["parts"][f"small-decoder, {engine} float32, batch 2"]["image_s"] > 0
    assert "small, full canvas, eager" in (tmp_path / "report.md").read_text()


def test_what_is_lacking_is_said(tmp_path: Path) -> None:
    run(tmp_path, "--device", "cuda:7", "--models", "small", "--batches", "1", "--engines", "torch")
    report = json.loads((tmp_path / "report.json").read_text())
    assert "sees" in report["lacking"]["small, torch float32, batch 1"]
