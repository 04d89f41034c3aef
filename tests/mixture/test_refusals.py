"""What is refused for images, what the commands do with them, and exports that must not pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.distributions import LogisticMixture, from_uint8, to_uint8
from pixelsnail_infer.errors import ModelError, NotCausalError, RequestError, VerificationError
from pixelsnail_infer.export import export_model
from pixelsnail_infer.export.emission import mixture
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Value
from pixelsnail_infer.export.proofs.closeness import draw_distance, score_slack
from pixelsnail_infer.runtime import Sampler, load

from .networks import CASES, Masked, exported, network
from .test_likelihood import images, parameters

CASE = CASES["rgb"]
HEIGHT, WIDTH = CASE.shape
BLANK = np.zeros((2, HEIGHT, WIDTH, 3), np.float32)
MASK = np.ones((HEIGHT, WIDTH), bool)


@pytest.fixture(scope="module")
def rgb() -> Iterator[Sampler]:
    with load(exported("rgb"), threads=1) as opened:
        yield opened


def with_one(value: float) -> np.ndarray:
    changed = BLANK.copy()
    changed[1, 2, 3, 1] = value
    return changed


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"top_k": 3}, "top_k is for models of codes, but this one's pixels are channels; leave it out"),
        ({"top_p": 0.5}, "top_p is for models of codes"),
        ({"known": BLANK[..., 0], "known_mask": MASK}, r"known has shape \[2, 5, 6\], expected \[5, 6, 3\] or \[2, 5,"),
        ({"known": BLANK, "known_mask": MASK[..., None]}, r"known_mask has shape \[5, 6, 1\], expected \[5, 6\]"),
        ({"known": BLANK.astype(np.uint8), "known_mask": MASK}, "dtype uint8, expected floating-point.*from_uint8"),
        ({"known": with_one(1.5), "known_mask": MASK}, r"known\[1, 2, 3, 1\] is 1.5, expected numbers in \[-1, 1\]"),
        ({"known": with_one(np.nan), "known_mask": MASK}, r"known\[1, 2, 3, 1\] is nan"),
    ],
)
def test_wrong_requests_are_refused(rgb: Sampler, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        rgb.sample(2, **settings)


@pytest.mark.parametrize("call", ["replay", "score", "bits_per_dim"])
def test_wrong_images_are_refused(rgb: Sampler, call: str) -> None:
    for wrong, message in (
        (np.zeros((2, HEIGHT, WIDTH), np.int64), "images has dtype int64, expected floating-point numbers"),
        (BLANK[:, :, 1:], "images has shape .* takes no other canvas"),
        (BLANK[:0], "images has shape"),
        (with_one(-1.01), r"images\[1, 2, 3, 1\] is -1.01"),
    ):
        with pytest.raises(RequestError, match=message):
            getattr(rgb, call)(wrong)
    assert np.array_equal(getattr(rgb, call)(BLANK[0]), getattr(rgb, call)(BLANK[:1])), "one image alone"


def test_the_filtered_replay_is_refused(rgb: Sampler) -> None:
    with pytest.raises(RequestError, match="filtered is for models of codes"):
        rgb.replay(BLANK, filtered=True)


# Commands -------------------------------------------------------------------------------------------------------------


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_sample_writes_colour_pictures(tmp_path: Path, rgb: Sampler) -> None:
    for kind in ("png", "npy"):
        assert run("sample", exported("rgb"), "--n", 3, "--seed", 5, "--scale", 2, "-o", tmp_path / f"x.{kind}") == 0
    drawn = rgb.sample(3, seed=5)
    assert np.abs(np.load(tmp_path / "x.npy") - drawn).max() < 1e-5
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.mode == "RGB"
        tile = np.asarray(picture)[4 : 4 + 2 * HEIGHT : 2, 4 : 4 + 2 * WIDTH : 2]
    assert np.abs(tile.astype(int) - to_uint8(drawn)[0]).max() <= 1


def test_sample_writes_grey_pictures(tmp_path: Path) -> None:
    assert run("sample", exported("grey"), "--label", "0-3", "-o", tmp_path / "x.png") == 0
    with Image.open(tmp_path / "x.png") as picture:
        assert picture.mode == "L"


def test_score_reads_arrays_and_pictures(tmp_path: Path, rgb: Sampler, capsys: pytest.CaptureFixture[str]) -> None:
    levels = np.random.default_rng(0).integers(0, 256, (3, HEIGHT, WIDTH, 3), np.uint8)
    np.save(tmp_path / "x.npy", from_uint8(levels[:2]))
    Image.fromarray(levels[2]).save(tmp_path / "y.png")
    out = tmp_path / "logprob.npy"
    assert run("score", exported("rgb"), tmp_path / "x.npy", tmp_path / "y.png", "-o", out) == 0
    expected = rgb.bits_per_dim(from_uint8(levels))
    printed = capsys.readouterr().out
    assert [f"image {k}: {bits:.4f}" in printed for k, bits in enumerate(expected)] == [True] * 3
    assert f"mean of 3: {expected.mean():.4f}" in printed and np.load(out).shape == (3, HEIGHT, WIDTH)


def test_pictures_of_another_size_and_broken_ones_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (WIDTH + 1, HEIGHT)).save(tmp_path / "wide.png")
    Image.new("RGB", (13_000, 5)).save(tmp_path / "large.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    assert run("score", exported("rgb"), tmp_path / "wide.png") == 1
    assert "takes no other canvas" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr("PIL.ImageFile.ImageFile.load", None)  # it must not be decoded
        assert run("score", exported("rgb"), tmp_path / "large.png") == 1
    assert f"large.png is 13000×5 pixels, expected {WIDTH}×{HEIGHT}" in capsys.readouterr().err
    for name in ("broken.png", "missing.png"):
        assert run("score", exported("rgb"), tmp_path / name) == 1
        assert "cannot be read as a picture" in capsys.readouterr().err


def test_info_describes_the_pixels(capsys: pytest.CaptureFixture[str]) -> None:
    for name, what in (("rgb", "3 channels in [-1, 1]"), ("grey", "1 channel in [-1, 1]")):
        assert run("info", exported(name)) == 0
        assert what in capsys.readouterr().out
    assert run("info", exported("rgb_rounded")) == 0
    assert "logistic-mixture of 2, rounded to 8 bits" in capsys.readouterr().out


# Exports that must not pass -------------------------------------------------------------------------------------------


def export(target: Path, name: str = "rgb") -> Any:
    case = CASES[name]
    return export_model(network(case), target, distribution=case.law, shape=case.shape, conditions=case.conditions)


def without(fn: str) -> Callable[[pytest.MonkeyPatch], None]:
    """Operations of one kind in the draw and the likelihood give what they take."""
    def install(patch: pytest.MonkeyPatch) -> None:
        for emit in ("emit_mixture_draw", "emit_log_probability"):
            original = getattr(mixture, emit)

            def broken(g: GraphBuilder, *args: Any, original: Any = original) -> Value:
                unary, clip = g.unary, g.clip
                with patch.context() as within:
                    within.setattr(g, "unary", lambda name, x: x if name == fn else unary(name, x))
                    within.setattr(g, "clip", lambda x, *ends: x if fn == "clip" else clip(x, *ends))
                    return original(g, *args)

            for module in ("draw", "score"):
                patch.setattr(f"pixelsnail_infer.export.emission.{module}.{emit}", broken, raising=False)
    return install


def constant(name: str, value: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(mixture, name, value)


WRONG = {
    "no tanh": without("tanh"),
    "no clip": without("clip"),
    "other coefficients": constant("earlier", lambda channel: [(2 - k, k) for k in range(channel)]),
    "narrow bins": constant("HALF_BIN", 0.99 / 255),
    "no edges": constant("EDGE", 2.0),
    "wide floor": constant("LOWEST", -2.0),
    "other approximation": constant("LOG_BIN", 4.0),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
def test_a_wrong_mixture_is_found(
    change: Callable[[pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(monkeypatch)
    with pytest.raises(VerificationError, match="score|drawn"):
        export(tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_rounding_that_is_left_out_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without("round")(monkeypatch)
    export(tmp_path / "x.onnx", "rgb")
    with pytest.raises(VerificationError, match="drawn"):
        export(tmp_path / "y.onnx", "rgb_rounded")


def test_a_leak_is_found(tmp_path: Path) -> None:
    leaking = network(CASE)
    leaking.first = Masked(4, 8, strict=False)
    with pytest.raises(NotCausalError):
        export_model(leaking, tmp_path / "x.onnx", distribution=CASE.law, shape=CASE.shape)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "x.onnx"
    with pytest.raises(ModelError, match="gives 30 numbers per pixel, expected 40"):
        export_model(network(CASE), target, distribution=LogisticMixture(4, 3), shape=CASE.shape)
    for settings in ({}, {"levels": 7, "distribution": CASE.law}):
        with pytest.raises(ModelError, match="one of the two"):
            export_model(network(CASE), target, shape=CASE.shape, **settings)


# The measures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [LogisticMixture(4, 3), LogisticMixture(4, 3, True), LogisticMixture(3, 1)], ids=str)
def test_the_measures_are_of_the_parameters_change(law: LogisticMixture) -> None:
    """Draws and likelihoods of parameters that are off by d are at a distance of about d at most, near-ties too."""
    n, change, random = 4000, 1e-4, np.random.default_rng(0)
    exact = parameters(law, 2, n, high=1).astype(np.float32)
    off = (exact + change * random.choice([-1, 1], exact.shape)).astype(np.float32)
    noise, heat = law.noise_row(np.zeros((1, 2), np.uint64), 0, n)[0], random.choice([0.0, 1.0], n).astype(np.float32)
    distance, flipped = draw_distance(law, exact, noise, heat, law.draw(off, noise, heat))
    assert 0.2 * change < distance.max() < 1.05 * change if not law.round else distance.max() < 1.05 * change
    assert flipped.mean() < 1e-3
    far, _ = draw_distance(law, exact, noise, heat, np.roll(law.draw(off, noise, heat), 1, axis=0))
    assert (far > 10 * change).mean() > 0.9
    x = images(law, 4, n)
    moved = np.abs(law.log_probability(off, x) - law.log_probability(exact, x))
    slack = score_slack(law, exact, x, change)
    assert (moved / slack).max() < 1.5 and (moved / slack).mean() > 0.02
    assert torch.tensor(slack).min() >= change
