"""The CUDA engine sees what the CPU engine sees. Needs an NVIDIA GPU: `make gpu-check`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.gpu


def test_replay_on_cuda_equals_replay_on_the_cpu(digits_graphs: dict[str, Path]) -> None:
    from pixelsnail_infer.runtime import load

    with load(digits_graphs["step"]) as cpu, load(digits_graphs["step"], device="cuda") as cuda:
        label = np.arange(10)
        codes = cpu.sample(10, seed=0, label=label)
        expected = cpu.replay(codes, label=label)
        seen = cuda.replay(codes, label=label)
    assert np.abs(seen - expected).max() <= 1e-4 * expected.std()
