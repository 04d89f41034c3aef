"""The published configurations of the original PixelSNAIL, small and after a training step, through the exporter."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelsnail_infer.distributions import LogisticMixture
from pixelsnail_infer.export import export_model
from pixelsnail_infer.manifest import ConditionSpec
from pixelsnail_infer.models.mixture import log_likelihood
from pixelsnail_infer.models.snail import Snail, initialise
from pixelsnail_infer.models.snail_config import NAMED
from pixelsnail_infer.runtime import load

SHAPE, MIX, CLASSES = (4, 6), 3, 4


def trained(name: str) -> Snail:
    """Two blocks of two, data-dependent initialisation and one real optimiser step."""
    torch.manual_seed(sum(map(ord, name)))
    config = dataclasses.replace(NAMED[name], shape=SHAPE, attn_rep=2, nr_resnet=2, nr_filters=12, nr_mix=MIX,
                                 condition="vector", n_class=CLASSES)
    model = Snail(config)
    images, classes = torch.rand(8, 3, *SHAPE) * 2 - 1, torch.softmax(torch.randn(8, CLASSES), -1)
    initialise(model, images, h=classes)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    (-log_likelihood(model(images, h=classes), images)).mean().backward()
    optimiser.step()
    return model.eval()


@pytest.mark.parametrize("name", NAMED)
def test_exports_replays_draws_and_scores(name: str, tmp_path: Path) -> None:
    model = trained(name)
    soft = ConditionSpec("h", "vector", (CLASSES,), "float32")
    exported = export_model(model, tmp_path / "out.onnx", distribution=LogisticMixture(MIX, 3), shape=SHAPE,
                            conditions=[soft])
    names = {check.name for check in exported.checks if check.passed}
    assert {"float64 interpreter, batch 1", "float64 interpreter, batch 3", "replay, batch 1", "replay, batch 3",
            "score, batch 3", "drawn"} <= names
    classes = np.array([[1, 0, 0, 0], [0.5, 0.5, 0, 0]], np.float32)
    with load(tmp_path / "out.onnx", threads=1) as sampler:
        images = sampler.sample(2, seed=3, h=classes)
        bits = sampler.bits_per_dim(images, h=classes)
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).double()
        with torch.no_grad():
            logprob = log_likelihood(model.double()(pixels, h=torch.from_numpy(classes).double()), pixels)
        expected = -logprob.reshape(2, -1).sum(1).numpy() / (np.log(2) * pixels[0].numel())
        assert np.abs(bits - expected).max() < 1e-5
