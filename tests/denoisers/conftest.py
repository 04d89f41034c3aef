from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pixelsnail_infer.export.from_checkpoint import export_checkpoint
from pixelsnail_infer.runtime import Denoiser, load

from .networks import network


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A super-resolution model of classes, with a learned variance."""
    path = tmp_path_factory.mktemp("denoiser") / "ema_0.9999_500000.pt"
    torch.save(network().state_dict(), path)
    return path


@pytest.fixture(scope="session")
def exported(checkpoint: Path) -> Path:
    """Its export."""
    path = checkpoint.with_name("unet.onnx")
    export_checkpoint(checkpoint, path, shape="8x8", low_res="4x4", n_head=2, diffusion_steps=40,
                      noise_schedule="cosine")
    return path


@pytest.fixture(scope="session")
def denoiser(exported: Path) -> Iterator[Denoiser]:
    with load(exported, threads=1) as loaded:
        yield loaded
