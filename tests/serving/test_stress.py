"""The quick form of `benchmarks/stress`, which says what it finds wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("part", ["engine", "server"])
def test_mixed_requests_while_the_backend_fails(part: str, digits_graphs: dict[str, Path]) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "stress"), str(digits_graphs["step"]), "--parts", part]
    done = subprocess.run([*command, "--requests", "200", "--pool", "25", "--clients", "12", "--threads", "1"],
                          capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0 and "nothing wrong" in done.stdout, done.stdout + done.stderr
