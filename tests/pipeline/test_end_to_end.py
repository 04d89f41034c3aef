"""Real networks from random weights to pictures: what a pipeline draws is confirmed by PyTorch under the same noise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixelsnail_infer.noise import gumbel_row, image_keys
from pixelsnail_infer.runtime import Generated, Pipeline, to_uint8

from .conftest import BOTTOM, LEVELS, TOP, Trained

LABEL = np.array([0, 1, 2, 0, 1, 1, 2])
BLOCKED = ("torch", "onnx", "onnxscript", "onnx_ir", "networkx", "sklearn", "scipy")
COMMAND = """
import sys
sys.modules.update(dict.fromkeys({blocked!r}))
from pixelsnail_infer.__main__ import main
sys.exit(main({arguments!r}))
"""


def confirmed(model: Any, codes: np.ndarray, stage: int, seed: int, **given: np.ndarray) -> np.ndarray:
    """bool [n, H, W]: where one forward of the network, under the noise of that stage, draws what was drawn."""
    n, height, width = codes.shape
    keys = image_keys(seed, n) + np.array([0, stage << 32], np.uint64)
    noise = np.stack([gumbel_row(keys, i, width, LEVELS) for i in range(height)], axis=1)
    with torch.no_grad():
        logits = model(torch.from_numpy(codes), **{name: torch.from_numpy(held) for name, held in given.items()})
    scores = logits.permute(0, 2, 3, 1).numpy() + noise  # [n, L, H, W] → [n, H, W, L]
    return scores.argmax(-1) == codes


def pictures(trained: Trained, found: Generated) -> np.ndarray:
    with torch.no_grad():
        images = trained.codec.decode(*(torch.from_numpy(codes) for codes in found.codes))
    return images.permute(0, 2, 3, 1).numpy()


def near(found: np.ndarray | None, expected: np.ndarray) -> bool:
    return found is not None and bool(np.abs(found - expected).max() <= 1e-4 * expected.std())


@pytest.mark.parametrize("max_batch", [None, 3])
def test_every_stage_is_confirmed_by_pytorch(pipeline: Pipeline, trained: Trained, max_batch: int | None) -> None:
    found = pipeline.generate(7, seed=5, label=LABEL, max_batch=max_batch)
    top, bottom = found.codes
    assert top.shape == (7, *TOP.shape) and bottom.shape == (7, *BOTTOM.shape) and found.names == ("top", "bottom")
    assert confirmed(trained.top, top, 0, 5, label=LABEL).all()
    assert confirmed(trained.bottom, bottom, 1, 5, condition=top).all()
    assert not confirmed(trained.bottom, bottom, 0, 5, condition=top).all(), "the first stage's noise must be seen here"
    assert near(found.images, pictures(trained, found))
    assert len(np.unique(top)) > 3 and len(np.unique(bottom)) > 3


@pytest.mark.parametrize(
    "keep, top, bottom",
    [
        ((0, 0, 8, 16), (slice(0, 4), slice(0, 2)), (slice(0, 8), slice(0, 4))),  # the left half
        ((0, 0, 16, 8), (slice(0, 2), slice(0, 4)), (slice(0, 4), slice(0, 8))),  # rows, which the score graph fills in
        ((5, 3, 16, 16), (slice(1, 4), slice(2, 4)), (slice(2, 8), slice(3, 8))),
    ],
)
def test_what_is_not_kept_is_confirmed_by_pytorch(
    pipeline: Pipeline, trained: Trained, keep: Any, top: Any, bottom: Any
) -> None:
    photo = np.random.default_rng(9).uniform(-1, 1, (16, 16, 3)).astype(np.float32)
    with torch.no_grad():
        codes, _ = trained.codec.encode(torch.from_numpy(photo).permute(2, 0, 1)[None])
    found = pipeline.generate(4, seed=1, label=2, image=photo, keep=keep)
    label = np.full(4, 2)
    drawn = (confirmed(trained.top, found.codes[0], 0, 1, label=label),
             confirmed(trained.bottom, found.codes[1], 1, 1, condition=found.codes[0]))
    for held, known, right, inside in zip(found.codes, codes, drawn, (top, bottom), strict=True):
        mask = np.zeros(held.shape[1:], bool)
        mask[inside] = True
        assert (held[:, mask] == known.numpy()[:, mask]).all()
        assert right[:, ~mask].all() and not right[:, mask].all(), "kept codes are not those that would be drawn"
    assert near(found.images, pictures(trained, found))


def test_the_command_needs_no_torch(trained: Trained, pipeline: Pipeline, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    photo = np.random.default_rng(2).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    image.fromarray(photo).save(tmp_path / "photo.png")
    out = tmp_path / "images.npy"
    arguments = ["generate", *map(str, trained.stages), "--encoder", str(trained.encoder), "--n", "3", "--label", "1"]
    arguments += ["--image", str(tmp_path / "photo.png"), "--keep", "0,0,8,16", "--threads", "1", "-o", str(out)]
    code = COMMAND.format(blocked=BLOCKED, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    expected = pipeline.generate(3, label=1, image=photo, keep=(0, 0, 8, 16))
    assert np.array_equal(np.load(out), expected.images) and to_uint8(np.load(out)).std() > 0
