"""Both graphs of a denoiser build a TensorRT engine; no GPU is needed, and engines are not run here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from pixelsnail_infer.denoiser import DiffusionSpec
from pixelsnail_infer.export.codecs.graph import written
from pixelsnail_infer.export.denoisers.forms import graph_form
from pixelsnail_infer.export.denoisers.parts import part_of
from pixelsnail_infer.models.unet import UNet
from pixelsnail_infer.models.unet_config import UNetConfig

from .building import build_engine

pytestmark = pytest.mark.full
pytest.importorskip("tensorrt_rtx_bindings", reason="needs the tensorrt-rtx extra (make test-full)")

SPEC = DiffusionSpec(4000, "cosine", "eps", "learned-range", True)
CONFIG = UNetConfig(shape=(16, 16), channels=3, width=32, mult=(1, 2), n_res_block=1, attention=(1,), n_head=4,
                    classes=None, low_res=None, learn_sigma=True, scale_shift=True, diffusion=SPEC)
MODELS: dict[str, Any] = {
    "learned": {}, "super_resolution": {"classes": 5, "low_res": (4, 4)},
    "fixed": {"learn_sigma": False, "scale_shift": False, "diffusion": replace(SPEC, variance="fixed-large")}}


@pytest.mark.parametrize("part", ["step", "times"])
@pytest.mark.parametrize("name", list(MODELS))
def test_both_parts_build_an_engine(name: str, part: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    form = graph_form(UNet(replace(CONFIG, **MODELS[name])))
    assert build_engine(written(part_of(form, part), part).SerializeToString(), tmp_path)[0] > 0
