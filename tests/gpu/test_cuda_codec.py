"""Decoders and encoders on CUDA see what they see on the CPU. Needs an NVIDIA GPU: `make gpu-check`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pixelsnail_infer.export import export_codec
from pixelsnail_infer.models.first_stage import FirstStage
from pixelsnail_infer.models.first_stage_config import FirstStageConfig
from pixelsnail_infer.models.vqvae import VqVae
from pixelsnail_infer.models.vqvae_config import VqVaeConfig
from pixelsnail_infer.runtime import load_decoder, load_encoder

pytestmark = pytest.mark.gpu
STAGE = FirstStageConfig(shape=(32, 32), levels=20, ch=32, widths=(32, 64), attention=(1,), z_channels=4, embed_dim=4)
NETWORKS: dict[str, Callable[[], VqVae | FirstStage]] = {
    "vq-vae": lambda: VqVae(VqVaeConfig(shape=(32, 64), channel=32, n_res_channel=16, embed_dim=8)),
    "first stage": lambda: FirstStage(STAGE),
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_both_halves_on_cuda_equal_those_on_the_cpu(name: str, tmp_path: Path, device: str = "cuda") -> None:
    torch.manual_seed(0)
    model, random = NETWORKS[name](), np.random.default_rng(0)
    files = {kind: export_codec(model, tmp_path / f"{kind}.onnx", kind=kind).file for kind in ("decoder", "encoder")}
    codes = [random.integers(0, spec.levels, (5, *spec.shape)) for spec in model.config.codes]
    images = random.uniform(-1, 1, (5, *model.config.shape, 3)).astype(np.float32)
    with load_decoder(files["decoder"]) as cpu, load_decoder(files["decoder"], device=device) as other:
        expected, seen = cpu.decode(*codes), other.decode(*codes)
    assert np.abs(seen - expected).max() <= 1e-3 * expected.std()
    with load_encoder(files["encoder"]) as cpu_encoder, load_encoder(files["encoder"], device=device) as other_encoder:
        for level, same in zip(other_encoder.encode(images), cpu_encoder.encode(images), strict=True):
            assert (level == same).mean() >= 0.99  # a near-tie may fall either way
