"""The exported example: images held still by a golden file, states updated in place without a warning or a copy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelsnail_infer.runtime import Sampler, load

GOLDEN = Path(__file__).with_name("digits_seed_0.npy")
"""Codes uint8 [20, 8, 8] of labels 0-9 twice, seed 0. A change means that the same request gives other images."""

LABELS = list(range(10)) * 2


@pytest.fixture(scope="module")
def digits(digits_graphs: dict[str, Path]) -> Sampler:
    return load(digits_graphs["step"], threads=1)


@pytest.fixture
def golden() -> NDArray[np.int64]:
    return np.load(GOLDEN).astype(np.int64)


@pytest.mark.parametrize("max_batch", [1, 7, 16, 20])
def test_the_images_of_a_seed_stay_the_same(digits: Sampler, golden: NDArray[np.int64], max_batch: int) -> None:
    assert np.array_equal(digits.sample(20, seed=0, label=LABELS, max_batch=max_batch), golden)


def test_completion_gives_the_same_images(digits: Sampler, golden: NDArray[np.int64]) -> None:
    mask = np.arange(8)[:, None].repeat(8, 1) < 5
    known = np.where(mask, golden, 0)
    assert np.array_equal(digits.sample(20, seed=0, label=LABELS, known=known, known_mask=mask), golden)


def test_they_look_like_their_labels(digits: Sampler, golden: NDArray[np.int64]) -> None:
    """The model that drew them finds their own label the likeliest of all ten, nearly always."""
    scores = np.stack([digits.score(golden, label=k).sum((1, 2)) for k in range(10)])
    assert (scores.argmax(0) == LABELS).mean() >= 0.9


USE = """
import sys
import numpy as np
from pixelsnail_infer.runtime import load
from pixelsnail_infer.runtime.drawing import states
states._SHORTEST = {shortest}
sampler = load({path!r}, threads=1)
label = np.arange(4)
codes = sampler.sample(4, label=label, top_k=8)
sampler.replay(codes, label=label, twice=True)
sampler.replay(codes, label=label, known_rows=3)
sampler.score(codes, label=label)
"""


@pytest.mark.parametrize("shortest", [1, 64])
def test_the_engine_warns_of_nothing(digits_graphs: dict[str, Path], shortest: int) -> None:
    """Its warnings are shown, such as that a state is not updated in place, or that a constant is not used. Caches are
    of all lengths, or of one."""
    code = USE.format(path=str(digits_graphs["step"]), shortest=shortest)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_a_write_costs_the_same_however_large_the_state(digits_graphs: dict[str, Path]) -> None:
    """Writing into a state touches one position: the others keep the bytes that were put there, at the same address."""
    with load(digits_graphs["step"], threads=1) as sampler:
        sampler.sample(2, label=[0, 1])
        batch = sampler._work.batch
        assert batch is not None
        addresses = {name: buffer.array.ctypes.data for name, buffer in batch.states.buffers.items()}
        for buffer in batch.states.buffers.values():
            buffer.array[...] = 7.0
        batch.write("row", 3)
        batch.write("col", 5)
        batch.bound("step").run()
        for spec in sampler.manifest.states:
            array = batch.states.buffers[spec.name].array
            assert array.ctypes.data == addresses[spec.name]
            written = (array != 7.0).any((0, 1, 3)).sum()
            assert written == (1 if spec.writer == "step" else 0), spec.name
