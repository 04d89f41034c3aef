"""Caches outside of the module: what a failed trace leaves in them must not reach what verifies the export."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn import functional as F

from pixelsnail_infer.errors import ModelError, UnsupportedOpError
from pixelsnail_infer.export import export_model
from pixelsnail_infer.export.tracing.own_caches import forget_fakes
from pixelsnail_infer.runtime import load

LEVELS, SHAPE = 5, (3, 4)
KEPT: dict[object, Any] = {}
SINGLE: list[Any] = [None]


@functools.lru_cache(maxsize=8)
def triangle(positions: int) -> Tensor:
    return torch.ones(positions, positions).tril(-1)


@functools.lru_cache(maxsize=8)
def resource(name: str) -> object:
    """Something that is not for an exporter to throw away."""
    return object()


class Attentive(nn.Module):
    """A shift and one head of attention whose mask comes from `triangle`; `spoilt`, it ends in an unknown operation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.key, self.out = nn.Conv2d(LEVELS, 6, 1), nn.Conv2d(6, 6, 1), nn.Conv2d(6, LEVELS, 1)
        self.spoilt = False

    def mask(self, y: Tensor) -> Tensor:
        return triangle(y.shape[2] * y.shape[3])

    def forward(self, codes: Tensor) -> Tensor:
        y = self.first(F.pad(F.one_hot(codes, LEVELS).permute(0, 3, 1, 2).float(), [1, 0, 0, 0])[:, :, :, :-1])
        k = self.key(y).flatten(2)
        weights = torch.exp(k.transpose(1, 2) @ k) * self.mask(y)
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
        y = y + (k @ weights.transpose(1, 2)).view_as(y)
        return self.out(torch.erfinv(torch.tanh(y)) if self.spoilt else F.elu(y))


class KeepsInADictionary(Attentive):
    def mask(self, y: Tensor) -> Tensor:
        if y.shape[2:] not in KEPT:
            KEPT[y.shape[2:]] = [torch.ones(12, 12).tril(-1)]
        return KEPT[y.shape[2:]][0]


class KeepsInAList(Attentive):
    """A place that nobody looks into."""

    def mask(self, y: Tensor) -> Tensor:
        if SINGLE[0] is None:
            SINGLE[0] = (torch.ones(12, 12).tril(-1), None)
        return SINGLE[0][0]


class KeepsOneForEachBatch(Attentive):
    """Of the default type, which is another while the network is recorded."""

    def mask(self, y: Tensor) -> Tensor:
        if len(y) not in KEPT:
            KEPT[len(y)] = torch.ones(len(y), 12, 12).tril(-1)
        return KEPT[len(y)]


class Drifts(Attentive):
    """Its mask changes for good when tensors have no numbers, as under any trace."""

    def mask(self, y: Tensor) -> Tensor:
        if isinstance(y, FakeTensor):
            SINGLE[0] = torch.from_numpy(np.arange(12, dtype=np.float32))
        return super().mask(y) * (1 if SINGLE[0] is None else SINGLE[0])


@pytest.fixture(autouse=True)
def fresh() -> None:
    triangle.cache_clear()
    KEPT.clear()
    SINGLE[0] = None


def poison(module: nn.Module) -> None:
    """What a trace by others does: a forward without numbers, on a copy of the module without numbers."""
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        module(torch.zeros(1, *SHAPE, dtype=torch.int64))


def exported(module: nn.Module, target: Path) -> float:
    """Export, and how far the replay is from the module's own forward with an honest mask."""
    export_model(module, target, levels=LEVELS, shape=SHAPE)
    codes = np.random.default_rng(0).integers(0, LEVELS, (3, *SHAPE))
    with torch.no_grad():
        expected = module(torch.from_numpy(codes)).permute(0, 2, 3, 1).numpy()
    with load(target, threads=1) as sampler:
        return float(np.abs(sampler.replay(codes) - expected).max())


def test_a_failed_export_does_not_spoil_the_next(tmp_path: Path) -> None:
    module = Attentive()
    module.spoilt = True
    with pytest.raises(UnsupportedOpError, match="erfinv"):
        export_model(module, tmp_path / "out.onnx", levels=LEVELS, shape=SHAPE)
    mask = triangle(12)
    assert type(mask) is Tensor and mask.dtype == torch.float32 and torch.equal(mask, torch.ones(12, 12).tril(-1))
    module.spoilt = False
    assert exported(module, tmp_path / "out.onnx") < 1e-5


@pytest.mark.parametrize("make", [Attentive, KeepsInADictionary])
def test_a_cache_that_others_poisoned_is_emptied(make: type[Attentive], tmp_path: Path) -> None:
    module = make()
    poison(module)
    kept = triangle(12) if make is Attentive else KEPT[torch.Size(SHAPE)][0]
    assert isinstance(kept, FakeTensor), "the test has poisoned the cache"
    assert exported(module, tmp_path / "out.onnx") < 1e-5


def test_masks_of_each_batch_size(tmp_path: Path) -> None:
    assert exported(KeepsOneForEachBatch(), tmp_path / "out.onnx") < 1e-5


def test_caches_that_hold_no_fakes_are_left_alone() -> None:
    module = Attentive()
    before, mask = resource("a"), triangle(12)
    KEPT["a"] = [mask]
    forget_fakes(module)
    assert resource("a") is before and triangle(12) is mask and KEPT["a"][0] is mask


def test_a_poisoned_place_that_is_not_found_is_refused(tmp_path: Path) -> None:
    module = KeepsInAList()
    poison(module)
    with pytest.raises(ModelError, match="without numbers.*Start Python anew"):
        export_model(module, tmp_path / "out.onnx", levels=LEVELS, shape=SHAPE)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_is_another_after_it_was_recorded_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not the same after it was recorded: its logits differ by"):
        export_model(Drifts(), tmp_path / "out.onnx", levels=LEVELS, shape=SHAPE)
    assert list(tmp_path.iterdir()) == []
