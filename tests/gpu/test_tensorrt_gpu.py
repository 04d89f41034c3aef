"""TensorRT sees what the CPU engine sees. Needs an NVIDIA GPU and one of the TensorRT extras: `make gpu-check`."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.runtime import load
from pixelsnail_infer.runtime.backends.tensorrt_package import find_package

pytestmark = pytest.mark.gpu


def test_tensorrt_sees_what_the_cpu_sees(digits_graphs: dict[str, Path], tmp_path: Path) -> None:
    """Twice: with engines that are built, and with the same ones loaded."""
    try:
        find_package()
    except BackendError as error:
        pytest.skip(str(error))
    for path in digits_graphs.values():
        shutil.copy(path, tmp_path)
    step, label = tmp_path / digits_graphs["step"].name, np.arange(10)
    with load(step) as cpu:
        codes = cpu.sample(10, seed=0, label=label)
        expected, scores = cpu.replay(codes, label=label), cpu.score(codes, label=label)
    for _ in range(2):
        with load(step, device="cuda", backend="tensorrt") as cuda:
            seen = cuda.replay(codes, label=label, twice=True)
            assert np.abs(seen - expected).max() <= 1e-4 * expected.std()
            assert np.abs(cuda.score(codes, label=label) - scores).max() <= 1e-3
            known = cuda.replay(codes, label=label, known_rows=4)[:, 4:]
            assert np.abs(known - expected[:, 4:]).max() <= 1e-4 * expected.std()
            drawn = cuda.sample(10, seed=0, label=label)
            assert (drawn != codes).any(axis=(1, 2)).mean() <= 0.2  # a near-tie may fall the other way
