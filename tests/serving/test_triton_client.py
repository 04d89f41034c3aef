"""The real client of Triton (`make test-full` installs it) draws through the service what `sample` draws."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pixelsnail_infer.runtime import Engine, Sampler
from pixelsnail_infer.runtime.serving.served import ServedPrior

from .running import running

pytestmark = pytest.mark.full
ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("PIXELSNAIL_TRITON_PYTHON", ROOT / ".venv" / "triton" / "bin" / "python"))


@pytest.mark.skipif(not PYTHON.exists(), reason="Triton's client is not here; `make test-full` installs it")
def test_tritons_client_draws_what_sample_draws(digits: Sampler) -> None:
    with running(lambda: {"digits": ServedPrior("digits", ("digits.onnx",), Engine(digits))}) as made:
        done = subprocess.run(
            [PYTHON, Path(__file__).with_name("triton_client.py"), f"127.0.0.1:{made.port}", "digits"],
            capture_output=True, text=True, timeout=120, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    expected = digits.sample(2, label=[3, 4], seed=[7, 2**64 - 1])
    settings = digits.sample(2, label=[3, 4], seed=9, temperature=0.5, top_k=5)
    assert len(found["drawn"]) == 9 and all(np.array_equal(drawn, expected) for drawn in found["drawn"])
    assert np.array_equal(found["settings"], settings)
    assert found["refused"][0] == "422" and found["refused"][1] == "label holds 10, expected values from 0 to 9."
    assert found["metadata"]["outputs"][0]["shape"] == [-1, 8, 8]


@pytest.mark.skipif(
    shutil.which("hadolint", path=PYTHON.parent) is None, reason="hadolint is not here; `make test-full` installs it"
)
def test_the_dockerfile_is_clean() -> None:
    linter = shutil.which("hadolint", path=PYTHON.parent)
    done = subprocess.run([str(linter), ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
