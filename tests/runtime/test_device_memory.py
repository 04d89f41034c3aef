"""An engine whose buffers are not the host's memory, as on a GPU: everything must be pushed and pulled where needed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pixelsnail_infer.runtime import Sampler
from pixelsnail_infer.runtime.backends.graphs import GraphSet
from pixelsnail_infer.runtime.backends.onnxruntime_cpu import CpuBackend, CpuBuffer
from pixelsnail_infer.runtime.files.model_files import ModelFiles

from .synthetic import H, L, W, logits_of, sample_slowly

LABEL = np.array([0, 1, 2, 0, 1, 1])
CODES = np.random.default_rng(4).integers(0, L, (6, H, W))


class ApartBuffer:
    """Graphs see `value`; the host sees `array`, which `push` and `pull` copy from and to."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self._device = CpuBuffer(shape, dtype)
        self.value, self.array = self._device.value, self._device.array.copy()

    def push(self) -> None:
        self._device.array[...] = self.array

    def pull(self) -> None:
        self.array[...] = self._device.array


class ApartBackend(CpuBackend):
    def allocate(self, shape: tuple[int, ...], dtype: str) -> ApartBuffer:
        return ApartBuffer(shape, dtype)


@pytest.fixture
def apart(toy: Path) -> Iterator[Sampler]:
    files, backend = ModelFiles(toy), ApartBackend(1)
    with Sampler(files.manifest, backend, GraphSet(files, backend)) as sampler:
        yield sampler


@pytest.mark.parametrize("max_batch", [1, 2, 4, 6])
def test_every_call_sees_what_it_should(apart: Sampler, sampler: Sampler, max_batch: int) -> None:
    for label in (LABEL, np.zeros(6, np.int64), 2):
        for settings in ({}, {"top_k": 2}):
            drawn = apart.sample(6, label=label, max_batch=max_batch, **settings)
            assert np.array_equal(drawn, sample_slowly(6, label, **settings))
        assert np.array_equal(apart.replay(CODES, label=label, max_batch=max_batch), logits_of(CODES, label))
        assert np.array_equal(apart.score(CODES, label=label, max_batch=max_batch), sampler.score(CODES, label=label))


@pytest.mark.parametrize("max_batch", [2, 6])
def test_known_rows_take_the_prologue_tensors_of_the_batch(apart: Sampler, max_batch: int) -> None:
    mask = np.zeros((6, H, W), bool)
    mask[:, :2] = True
    drawn = apart.sample(6, label=LABEL, known=CODES, known_mask=mask, max_batch=max_batch)
    assert np.array_equal(drawn, sample_slowly(6, LABEL, known=CODES, mask=mask))
