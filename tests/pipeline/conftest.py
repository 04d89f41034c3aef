"""A small two-level VQ-VAE and the two priors over its codes, with random weights, exported once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from pixelsnail_infer.export import export_model
from pixelsnail_infer.export.codecs.exporting import export_codec
from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.models.vqvae import VqVae
from pixelsnail_infer.models.vqvae_config import VqVaeConfig
from pixelsnail_infer.runtime import Pipeline, load_pipeline

LEVELS, LABELS = 9, 3
TOP = PriorConfig(
    shape=(4, 4), levels=LEVELS, channel=8, kernel_size=3, n_block=1, n_res_block=1, res_channel=6, n_head=2,
    condition="label", n_label=LABELS, label_hidden=(4, 4),
)  # fmt: skip
BOTTOM = PriorConfig(
    shape=(8, 8), levels=LEVELS, channel=8, kernel_size=3, n_block=1, n_res_block=1, res_channel=6, attention=False,
    condition="codes", cond_res_block=1, cond_res_channel=5,
)  # fmt: skip
CODEC = VqVaeConfig(
    shape=(16, 16), levels=(LEVELS, LEVELS), channel=8, n_res_block=1, n_res_channel=4, embed_dim=4, factor=2
)


@dataclass(frozen=True)
class Trained:
    """The modules, and the files that were exported from them."""

    top: Prior
    bottom: Prior
    codec: VqVae
    stages: tuple[Path, Path, Path]
    encoder: Path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    torch.manual_seed(3)
    top, bottom, codec = Prior(TOP).eval(), Prior(BOTTOM).eval(), VqVae(CODEC).eval()
    with torch.no_grad():
        for prior in (top, bottom):
            for name, parameter in prior.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(std=0.3)
                elif name.endswith("weight_g"):
                    parameter.mul_(1.7)  # a spread of logits that makes draws depend on what was drawn
    folder = tmp_path_factory.mktemp("trained")
    files = {name: folder / f"{name}.onnx" for name in ("top", "bottom", "decoder", "encoder")}
    export_model(top, files["top"], levels=LEVELS, shape=TOP.shape, conditions={"label": f"class:{LABELS}"})
    condition = {"condition": f"codes:4x4:{LEVELS}"}
    export_model(bottom, files["bottom"], levels=LEVELS, shape=BOTTOM.shape, conditions=condition)
    for kind in ("decoder", "encoder"):
        export_codec(codec, files[kind], kind=kind)
    return Trained(top, bottom, codec, (files["top"], files["bottom"], files["decoder"]), files["encoder"])


@pytest.fixture(scope="session")
def pipeline(trained: Trained) -> Iterator[Pipeline]:
    with load_pipeline(trained.stages, encoder=trained.encoder, threads=1) as opened:
        yield opened
