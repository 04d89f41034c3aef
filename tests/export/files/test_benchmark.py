"""The benchmark runs: on the small digits model, whose figures mean nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def test_full_size_on_small_graphs(digits_graphs: dict[str, Path], tmp_path: Path) -> None:
    for part, path in digits_graphs.items():
        shutil.copy(path, tmp_path / ("model.onnx" if part == "step" else f"model.{part}.onnx"))
    command = [sys.executable, ROOT / "benchmarks" / "full_size.py", "--checkpoint", ROOT / "examples" / "digits.pt",
               "--work", tmp_path, "--reuse", "--rounds", "1", "--batches", "1", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for line in ("one image, alone:", "parameters: 238,170;", "reference, all rows", "runtime, batch 2:",
                 "batch 2: a row", "state writes:"):
        assert line in done.stdout
    assert "nodes with a result as large: none" in done.stdout
