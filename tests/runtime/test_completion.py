"""Completion through an encoder: which codes are kept, that they are kept, and that the rest is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.noise import image_keys
from pixelsnail_infer.runtime import Pipeline, from_uint8, load_encoder, load_pipeline
from pixelsnail_infer.runtime.pipeline.keeping import check_rectangle, kept_cells
from pixelsnail_infer.runtime.pipeline.stage_requests import stage_keys

from .chain import BOTTOM, CODEC, LABEL, TOP

SIZE = (8, 12)
PHOTOS = np.random.default_rng(6).integers(0, 256, (5, *SIZE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def pipeline(chain: dict[str, Path]) -> Iterator[Pipeline]:
    with load_pipeline([chain[name] for name in ("top", "bottom", "decoder")], encoder=chain["encoder"]) as opened:
        yield opened


def test_the_toy_encoder_equals_its_closed_form(pipeline: Pipeline) -> None:
    assert pipeline._encoder is not None
    images = from_uint8(PHOTOS)
    for found, expected in zip(pipeline._encoder.encode(images), CODEC.encode(images), strict=True):
        assert np.array_equal(found, expected) and len(np.unique(expected)) > 2


@pytest.mark.parametrize(
    "keep, top, bottom",
    [
        ((0, 0, 12, 8), (slice(0, 2), slice(0, 3)), (slice(0, 4), slice(0, 6))),
        ((0, 0, 12, 4), (slice(0, 1), slice(0, 3)), (slice(0, 2), slice(0, 6))),  # leading rows
        ((4, 0, 8, 8), (slice(0, 2), slice(1, 2)), (slice(0, 4), slice(2, 4))),
        ((3, 1, 12, 8), (slice(1, 2), slice(1, 3)), (slice(1, 4), slice(2, 6))),  # cells that are cut are drawn
        ((6, 6, 10, 8), (slice(0, 0), slice(0, 0)), (slice(3, 4), slice(3, 5))),  # too small for a cell of the top
    ],
)
@pytest.mark.parametrize("max_batch", [None, 2])
def test_cells_inside_are_kept_and_the_rest_is_drawn(
    pipeline: Pipeline, keep: Any, top: Any, bottom: Any, max_batch: int | None
) -> None:
    masks = np.zeros((2, 3), bool), np.zeros((4, 6), bool)
    masks[0][top], masks[1][bottom] = True, True
    for images in (PHOTOS[:1], PHOTOS):  # one image five times; five images
        codes = [np.broadcast_to(held, (5, *held.shape[1:])) for held in CODEC.encode(from_uint8(images))]
        keys = image_keys(2, 5)
        first = TOP.sample_slowly(keys, label=LABEL, known=codes[0], mask=masks[0])
        second = BOTTOM.sample_slowly(stage_keys(keys, 1), label=LABEL, condition=first, known=codes[1], mask=masks[1])
        given = images[0] if len(images) == 1 else images
        found = pipeline.generate(5, seed=2, label=LABEL, image=given, keep=keep, max_batch=max_batch)
        assert np.array_equal(found.codes[0], first) and np.array_equal(found.codes[1], second)
        assert found.images is not None and np.array_equal(found.images, CODEC.decode(first, second))
        assert np.array_equal(found.codes[1][:, masks[1]], codes[1][:, masks[1]])


def test_one_image_is_encoded_once(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    encoder = pipeline._encoder
    assert encoder is not None
    encode = encoder.encode

    def counted(images: np.ndarray, **given: Any) -> tuple[np.ndarray, ...]:
        sizes.append(len(images))
        return encode(images, **given)

    monkeypatch.setattr(encoder, "encode", counted)
    calls: list[tuple[int, int]] = []
    pipeline.generate(3, label=0, image=PHOTOS[0], keep=(0, 0, 4, 8), progress=lambda *step: calls.append(step))
    assert sizes == [1]
    total = 6 + 3 * (6 + 24 + 6)
    assert calls[0] == (6, total) and calls[-1] == (total, total)


def test_floats_and_grey_levels_are_the_same_image(pipeline: Pipeline) -> None:
    one = pipeline.generate(2, label=0, image=PHOTOS[0], keep=(0, 0, 8, 8))
    other = pipeline.generate(2, label=0, image=from_uint8(PHOTOS[0]), keep=np.array([0, 0, 8, 8]))
    assert np.array_equal(one.codes[1], other.codes[1])


@pytest.mark.parametrize(
    "keep, message",
    [
        ((4, 0, 4, 8), "keep is 4,0,4,8, which is empty; expected x0,y0,x1,y1 with 0 ≤ x0 < x1 ≤ 12 .columns. and"),
        ((0, 5, 12, 2), "which is empty"),
        ((0, 0, 13, 8), "which leaves the image"),
        ((-1, 0, 12, 8), "which leaves the image"),
        ((0, 0, 8), "expected four integers, x0,y0,x1,y1 with"),
        ((0, 0, 8.0, 4), "expected four integers"),
        ((1, 1, 3, 3), "in which no code lies wholly.*smallest cells are 2 rows by 2 columns of pixels"),
    ],
)
def test_a_wrong_rectangle_is_named(pipeline: Pipeline, keep: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        pipeline.generate(1, label=0, image=PHOTOS[0], keep=keep)


@pytest.mark.parametrize(
    "image, message",
    [
        (PHOTOS[:2], "image holds 2 images, expected one, or one for each of 3"),
        (PHOTOS[0, :4], r"images has shape \[4, 12, 3\], expected \[8, 12, 3\]"),
        (PHOTOS[0].astype(np.float32), "expected numbers in"),
        (PHOTOS[0].astype(np.int64), "images has dtype int64"),
    ],
)
def test_a_wrong_image_is_named(pipeline: Pipeline, image: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        pipeline.generate(3, label=0, image=image, keep=(0, 0, 4, 4))


def test_an_encoder_must_be_of_the_same_model(tmp_path: Path, pipeline: Pipeline) -> None:
    stages = [*pipeline._priors, pipeline._decoder]
    other = CODEC.write(tmp_path, "encoder", shape=(16, 24))
    with load_encoder(other, threads=1) as encoder:
        with pytest.raises(RequestError, match="encoder takes images 16×24 of 3 pixels, but the pipeline draws .*8×12"):
            Pipeline(stages, encoder)  # type: ignore[arg-type]
        with pytest.raises(RequestError, match=r"stages\[2\] is an encoder; give it as encoder="):
            Pipeline([*pipeline._priors, encoder])  # type: ignore[list-item]
        with pytest.raises(RequestError, match="encoder is a Decoder, expected what load_encoder returns"):
            Pipeline(pipeline._priors, pipeline._decoder)  # type: ignore[arg-type]
    other = CODEC.write(tmp_path, "encoder", levels=(CODEC.levels[0],))
    with load_encoder(other, threads=1) as encoder, pytest.raises(RequestError, match="encoder gives codes 2×3 of 4"):
        Pipeline(stages, encoder)  # type: ignore[arg-type]


@given(st.data())
def test_a_kept_cell_lies_wholly_inside(data: st.DataObject) -> None:
    (height, width), (h, w) = ((data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))) for _ in range(2))
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    keep = x0, y0, data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    assert check_rectangle(keep, (height, width)) == keep
    mask = kept_cells(keep, (height, width), (h, w))
    for r in range(h):
        for c in range(w):
            rows = Fraction(r * height, h) >= keep[1] and Fraction((r + 1) * height, h) <= keep[3]
            columns = Fraction(c * width, w) >= keep[0] and Fraction((c + 1) * width, w) <= keep[2]
            assert mask[r, c] == (rows and columns)
