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


def test_codes_drawn_on_cuda_are_those_of_the_cpu(digits_graphs: dict[str, Path]) -> None:
    """In captured graphs, of several batch sizes and with filters; a near-tie may flip, and what follows it."""
    from pixelsnail_infer.runtime import load

    with load(digits_graphs["step"]) as cpu, load(digits_graphs["step"], device="cuda") as cuda:
        for settings in ({"max_batch": 1}, {"max_batch": 4}, {"max_batch": 20}, {"top_k": 5, "top_p": 0.9}):
            one, other = (sampler.sample(20, label=list(range(10)) * 2, **settings) for sampler in (cpu, cuda))
            assert (one == other).all((1, 2)).mean() >= 0.9
