"""A prior of images as the last stage: after a prior of codes, and alone; pixels are kept as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.distributions import LogisticMixture
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.export import export_model
from pixelsnail_infer.noise import image_keys
from pixelsnail_infer.runtime import Generated, Pipeline, from_uint8, load, load_encoder, load_pipeline

from .conftest import LEVELS, Trained

SIZE = (8, 8)
LAW = LogisticMixture(n_mix=2, channels=3)
PHOTO = np.random.default_rng(9).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


class Painter(nn.Module):
    """One masked convolution over the pixels before, and the condition's codes at four pixels each."""

    def __init__(self, conditioned: bool) -> None:
        super().__init__()
        self.first, self.out = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, LAW.parameters, 1)
        mask = torch.zeros(3, 3)
        mask[0], mask[1, 0] = 1, 1
        self.register_buffer("mask", mask)
        self.codes = nn.Embedding(LEVELS, 8) if conditioned else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        y = F.conv2d(x, self.first.weight * self.mask, self.first.bias, padding=1)
        if condition is not None and self.codes is not None:
            y = y + F.interpolate(self.codes(condition).permute(0, 3, 1, 2), scale_factor=2)
        parameters: Tensor = self.out(F.elu(y))
        return parameters


@pytest.fixture(scope="module")
def painters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Painter, Path]]:
    torch.manual_seed(0)
    folder, found = tmp_path_factory.mktemp("painters"), {}
    for name, conditions in (("alone", {}), ("after", {"condition": f"codes:4x4:{LEVELS}"})):
        painter, path = Painter(bool(conditions)).eval(), folder / f"{name}.onnx"
        export_model(painter, path, distribution=LAW, shape=SIZE, conditions=conditions)
        found[name] = painter, path
    return found


@pytest.fixture(scope="module")
def chained(painters: dict[str, Any], trained: Trained) -> Iterator[Pipeline]:
    with load_pipeline([trained.stages[0], painters["after"][1]], threads=1) as opened:
        yield opened


def confirmed(painter: Painter, images: np.ndarray, stage: int, seed: int, **given: np.ndarray) -> np.ndarray:
    """bool [n, H, W]: where one forward of the network, under the noise of that stage, draws about what was drawn."""
    keys = image_keys(seed, len(images)) + np.array([0, stage << 32], np.uint64)
    noise = np.stack([LAW.noise_row(keys, i, SIZE[1]) for i in range(SIZE[0])], axis=1)
    with torch.no_grad():
        held = {name: torch.from_numpy(value) for name, value in given.items()}
        parameters = painter(torch.from_numpy(images).permute(0, 3, 1, 2), **held).permute(0, 2, 3, 1)
    drawn = LAW.draw(parameters.numpy(), noise, np.ones(images.shape[:3]))
    return np.abs(drawn - images).max(-1) < 1e-4


@pytest.mark.parametrize("max_batch", [None, 2])
def test_images_are_drawn_after_codes(chained: Pipeline, painters: dict[str, Any], max_batch: int | None) -> None:
    found = chained.generate(5, seed=8, label=1, max_batch=max_batch, top_k=[4, None])
    assert found.images is not None and found.images.shape == (5, *SIZE, 3) and found.images.dtype == np.float32
    assert found.names == ("codes0",) and len(found.codes) == 1
    assert confirmed(painters["after"][0], found.images, 1, 8, condition=found.codes[0]).all()
    again = chained.generate(5, seed=8, label=1, top_k=4)  # one value counts for stages of codes
    assert np.array_equal(again.images, found.images)


def test_a_stop_leaves_what_was_drawn(chained: Pipeline) -> None:
    whole = chained.generate(2, label=0)
    part: Generated = chained.generate(2, label=0, on_row=lambda stage, row, pixels, first: (stage, row) == (1, 3))
    assert part.images is not None and whole.images is not None
    assert np.array_equal(part.images[:, :4], whole.images[:, :4]) and np.isnan(part.images[:, 4:]).all()


def test_alone_it_keeps_the_pixels_themselves(painters: dict[str, Any], tmp_path: Path) -> None:
    painter, path = painters["alone"]
    keep, mask = (2, 1, 7, 5), np.zeros(SIZE, bool)
    mask[1:5, 2:7] = True
    with load(path, threads=1) as sampler:
        found = Pipeline([sampler]).generate(3, seed=4, image=PHOTO, keep=keep)
        assert found.images is not None and found.codes == ()
        assert np.array_equal(found.images[:, mask], np.tile(from_uint8(PHOTO)[mask], (3, 1, 1)))
        assert confirmed(painter, found.images, 0, 4)[:, ~mask].all()
        known = sampler.sample(3, seed=4, known=from_uint8(PHOTO), known_mask=mask)
        assert np.array_equal(found.images, known)
        with pytest.raises(RequestError, match="top_k is for models of codes"):
            Pipeline([sampler]).generate(1, top_k=3)
    image = pytest.importorskip("PIL.Image")
    image.fromarray(PHOTO).save(tmp_path / "photo.png")
    completing = ["--image", str(tmp_path / "photo.png"), "--keep", "2,1,7,5", "--threads", "1"]
    out = ["-o", str(tmp_path / "images.npy")]
    assert main(["generate", str(path), "--n", "3", "--seed", "4", *completing, *out]) == 0
    assert np.array_equal(np.load(tmp_path / "images.npy"), found.images)


def test_what_it_cannot_be_combined_with(painters: dict[str, Any], trained: Trained) -> None:
    with pytest.raises(RequestError, match="Stage 0 draws images, so nothing can follow it"):
        load_pipeline([painters["alone"][1], trained.stages[0]], threads=1)
    with pytest.raises(RequestError, match="Stage 1 draws images, which no decoder can follow"):
        load_pipeline([trained.stages[0], painters["after"][1], trained.stages[2]], threads=1)
    with load_encoder(trained.encoder, threads=1) as encoder, load(painters["alone"][1], threads=1) as sampler:
        with pytest.raises(RequestError, match="encoder gives codes 4×4 .* but the priors draw no codes"):
            Pipeline([sampler], encoder)
