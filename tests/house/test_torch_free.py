"""The runtime is imported and used with PyTorch and onnx made unimportable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BLOCKED = ("torch", "onnx", "onnxscript", "onnx_ir", "networkx", "sklearn", "scipy")
USE = """
import sys
sys.modules.update(dict.fromkeys({blocked!r}))  # None: importing it fails
import numpy as np
from pixelsnail_infer.runtime import load

label = np.array([3, 4, 5])
with load({path!r}, threads=1) as sampler:
    codes = sampler.sample(3, seed=0, label=label)
    logits = sampler.replay(codes, label=label)
    scores = sampler.score(codes, label=label)
assert codes.shape == scores.shape == logits.shape[:3] == (3, 8, 8)
assert np.isfinite(logits).all() and (scores <= 0).all()
assert not [name for name in {blocked!r} if sys.modules[name] is not None]
"""
COMMAND = """
import sys
sys.modules.update(dict.fromkeys({blocked!r}))
from pixelsnail_infer.__main__ import main
sys.exit(main({arguments!r}))
"""


def run_python(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_sampling_replay_and_score_need_no_torch(digits_graphs: dict[str, Path]) -> None:
    run_python(USE.format(blocked=BLOCKED, path=str(digits_graphs["step"])))


def test_the_info_command_needs_no_torch(digits_graphs: dict[str, Path]) -> None:
    run_python(COMMAND.format(blocked=BLOCKED, arguments=["info", str(digits_graphs["step"])]))


def test_the_sample_command_needs_no_torch(digits_graphs: dict[str, Path], tmp_path: Path) -> None:
    arguments = ["sample", str(digits_graphs["step"]), "--n", "2", "--label", "3", "-o", str(tmp_path / "codes.npy")]
    run_python(COMMAND.format(blocked=BLOCKED, arguments=arguments))
    assert (tmp_path / "codes.npy").is_file()


def test_the_bench_command_needs_no_torch(digits_graphs: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    arguments = ["bench", str(digits_graphs["step"]), "--batch", "2", "--seconds", "0.05", "--json", str(out)]
    run_python(COMMAND.format(blocked=BLOCKED, arguments=arguments))
    assert out.is_file()
