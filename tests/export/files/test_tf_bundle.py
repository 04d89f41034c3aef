"""A TensorFlow checkpoint of the original through the command: two filters, so that keys have 16 numbers, values 1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pixelsnail_infer.checkpoints import CheckpointOptions, load_checkpoint
from pixelsnail_infer.export.cli import main
from pixelsnail_infer.runtime import load

BUNDLE = Path(__file__).resolve().parents[2] / "checkpoints" / "data" / "h12.ckpt"
ARCH, SHAPE = "h12_noup_smallkey", (2, 3)


def test_values_of_width_one_from_the_file_to_the_draw(tmp_path: Path) -> None:
    target = tmp_path / "cifar.onnx"
    assert main([str(BUNDLE), str(target), "--arch", ARCH, "--shape", "2x3", "--quiet"]) == 0
    checkpoint = load_checkpoint(BUNDLE, options=CheckpointOptions(arch=ARCH, shape=SHAPE))
    assert checkpoint.config.values == 1
    with load(target) as sampler:
        images = sampler.sample(2, seed=3)
        found = sampler.replay(images)
    with torch.no_grad():
        expected = checkpoint.module(torch.from_numpy(images).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    assert np.abs(found - expected).max() < 1e-4 * expected.std()
