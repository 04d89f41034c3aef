"""Denoisers as stages of a pipeline: what draws small pictures, and what enlarges them, against doing it by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.export.denoisers.exporting import export_denoiser
from pixelsnail_infer.noise import image_keys
from pixelsnail_infer.runtime import Denoiser, Pipeline, PipelineEngine, load, load_decoder, load_pipeline
from pixelsnail_infer.runtime.denoising.denoiser import Denoised
from pixelsnail_infer.runtime.pipeline.stage_requests import stage_keys

from ..runtime.chain import Codec, Toy
from .networks import network

TOP, CODEC = Toy((2, 2), 4, labels=3), Codec((("top", (2, 2), 4),), (4, 4))
LABELS = [0, 1, 2]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A denoiser of classes that draws 4×4 pictures."""
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    export_denoiser(network(shape=(4, 4), low_res=None, mult=(1,), attention=()), path)
    return path


@pytest.fixture(scope="module")
def base(small: Path) -> Iterator[Denoiser]:
    with load(small, kind="denoiser", threads=1) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A prior of 2×2 codes, and the decoder that makes 4×4 pictures of them."""
    folder = tmp_path_factory.mktemp("coded")
    return [TOP.write(folder, "top.onnx"), CODEC.write(folder, "decoder")]


def by_hand(base: Denoiser, denoiser: Denoiser, n: int, seed: int, labels: list[int]) -> np.ndarray:
    drawn = base.sample(n, seed=seed, steps="ddim5", label=labels)
    return denoiser.sample(n, seed=stage_keys(image_keys(seed, n), 1), steps=4, label=labels,
                           low_res=drawn.clip(-1, 1))


def test_a_drawn_picture_is_enlarged_as_by_hand(base: Denoiser, denoiser: Denoiser) -> None:
    pipeline = Pipeline([base, denoiser])
    assert pipeline.wiring.drawn == denoiser.manifest.image and pipeline.wiring.enlarging == (False, True)
    assert [spec.name for spec in pipeline.wiring.conditions] == ["label"]
    heard: list[tuple[int, Denoised]] = []
    told: list[tuple[int, int]] = []
    found = pipeline.generate(3, seed=5, steps=["ddim5", 4], label=LABELS, max_batch=2,
                              on_step=lambda stage, one: heard.append((stage, one)),
                              progress=lambda done, total: told.append((done, total)))
    assert found.images is not None and found.codes == () and found.by_name == {}
    np.testing.assert_allclose(found.images, by_hand(base, denoiser, 3, 5, LABELS), atol=1e-5)
    assert np.abs(found.images[0] - found.images[1]).max() > 1e-2
    assert [stage for stage, _ in heard] == [0] * 5 + [1] * 4 + [0] * 5 + [1] * 4
    assert [one.images for _, one in heard[::9]] == [slice(0, 2), slice(2, 3)]
    np.testing.assert_array_equal(heard[8][1].x, found.images[:2])
    total = 3 * (5 * 16 + 4 * 64)
    assert told[0] == (2 * 16, total) and told[-1] == (total, total)


def test_an_image_depends_on_its_seed_alone(base: Denoiser, denoiser: Denoiser) -> None:
    pipeline, steps = Pipeline([base, denoiser]), ["ddim5", 4]
    together = pipeline.generate(3, seed=[7, 8, 9], steps=steps, label=LABELS).images
    alone = pipeline.generate(1, seed=8, steps=steps, label=1).images
    assert together is not None and alone is not None
    np.testing.assert_allclose(alone[0], together[1], atol=1e-5)


def test_pictures_are_cut_before_they_are_enlarged(base: Denoiser, denoiser: Denoiser) -> None:
    found = Pipeline([base, denoiser]).generate(1, seed=4, steps=2, clip=[False, True], label=1).images
    drawn = base.sample(1, seed=4, steps=2, clip=False, label=1)
    assert np.abs(drawn).max() > 1.5
    expected = denoiser.sample(1, seed=stage_keys(image_keys(4, 1), 1), steps=2, label=1, low_res=drawn.clip(-1, 1))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_a_decoder_makes_is_enlarged(coded: list[Path], exported: Path, denoiser: Denoiser) -> None:
    with load_pipeline([*coded, exported], threads=1) as pipeline, load(coded[0], kind="prior") as prior, \
            load_decoder(coded[1]) as decoder:
        assert pipeline.wiring.names == ("top",) and [m.kind for m in pipeline.manifests] == \
            ["prior", "decoder", "denoiser"]
        told: list[tuple[int, int]] = []
        found = pipeline.generate(3, seed=2, temperature=0.5, steps=4, eta=0.3, label=LABELS, max_batch=2,
                                  progress=lambda done, total: told.append((done, total)))
        codes = prior.sample(3, seed=2, temperature=0.5, label=LABELS)
        pictures = decoder.decode(codes)
        expected = denoiser.sample(3, seed=stage_keys(image_keys(2, 3), 1), steps=4, eta=0.3, label=LABELS,
                                   low_res=pictures.clip(-1, 1))
        np.testing.assert_array_equal(found.codes[0], codes)
        np.testing.assert_allclose(found.images, expected, atol=1e-5)
        assert told[-1] == (3 * (4 + 2 + 4 * 64),) * 2
        stopped = pipeline.generate(2, steps=4, label=0, on_row=lambda *_: True)
        assert stopped.images is not None and np.isnan(stopped.images).all()
        with pytest.raises(RequestError, match="denoisers, which engines do not run"):
            PipelineEngine(pipeline)


def test_a_first_denoiser_takes_what_the_caller_gives(denoiser: Denoiser) -> None:
    pictures = np.random.default_rng(0).uniform(-1, 1, (2, 4, 4, 3)).astype(np.float32)
    found = Pipeline([denoiser]).generate(2, seed=3, steps=3, label=1, low_res=pictures).images
    np.testing.assert_allclose(found, denoiser.sample(2, seed=3, steps=3, label=1, low_res=pictures), atol=1e-6)


def test_stages_that_do_not_fit_are_refused(base: Denoiser, denoiser: Denoiser, coded: list[Path]) -> None:
    with load(coded[0], kind="prior") as prior, load_decoder(coded[1]) as decoder:
        for stages, message in (
                ([base, base], "Stage 1 is a denoiser that takes no small pictures"),
                ([denoiser, denoiser], "Stage 1 enlarges images 4×4 of 3 pixels, but what comes before it draws images "
                                       "8×8"),
                ([prior, denoiser], "what comes before it draws no images"),
                ([denoiser, prior], r"stages\[0\] is a denoiser, which only denoisers can follow"),
                ([decoder, denoiser], "no prior"), ([], "no prior")):
            with pytest.raises(RequestError, match=message):
                Pipeline(stages)


@pytest.mark.parametrize("given, message", [
    ({"temperature": 0.5}, "temperature is for priors"), ({"top_k": 3}, "top_k is for priors"),
    ({"steps": [5, 5, 5]}, "one for each of 2 denoisers; steps of sections are a text"),
    ({"steps": ["5", "ddim17"]}, "Stage 1: steps is 'ddim17'"), ({"eta": [0.5, 2]}, "Stage 1: eta"),
    ({"label": 4}, "Stage 0: label holds 4"), ({"low_res": 0}, "'low_res' is fed by an earlier stage"),
    ({"clip": 1}, "clip is 1"), ({"label": None}, "'label' is missing"), ({"pose": 1}, "'pose'"), ({"n": 0}, "n is 0"),
    ({"seed": -1}, "seed")])
def test_wrong_arguments_are_refused_before_anything_runs(base: Denoiser, denoiser: Denoiser, given: dict[str, Any],
                                                          message: str) -> None:
    heard: list[Any] = []
    with pytest.raises(RequestError, match=message):
        Pipeline([base, denoiser]).generate(**{"n": 1, "label": 1, **given}, on_step=lambda *one: heard.append(one))
    assert heard == []


def test_settings_of_denoisers_are_refused_without_one(coded: list[Path]) -> None:
    with load_pipeline(coded) as pipeline:
        for name, value in (("steps", 5), ("eta", 0.0), ("sampler", "ddim"), ("clip", False)):
            with pytest.raises(RequestError, match=f"{name} is for denoisers"):
                pipeline.generate(1, label=0, **{name: value})


def test_generate_writes_what_the_pipeline_gives(small: Path, exported: Path, base: Denoiser, denoiser: Denoiser,
                                                 tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "large.npy"
    given = ["generate", str(small), str(exported), "--label", "0-2", "--seed", "5"]
    assert main([*given, "--steps", "ddim5", "--steps", "4", "-o", str(out)]) == 0
    assert "3 images of 8×8 in" in capsys.readouterr().out
    np.testing.assert_allclose(np.load(out), by_hand(base, denoiser, 3, 5, LABELS), atol=1e-5)
    assert main([*given, "--steps", "3", "--eta", "1", "-o", str(tmp_path / "large.png")]) == 0


@pytest.mark.parametrize("more, message", [
    (["--temperature", "0.5"], "--temperature is for models that draw pixel by pixel"),
    (["--steps", "3", "--steps", "3", "--steps", "3"], "one for each of 2 denoisers"),
    (["--low-res", "small.npy"], "--low-res is for super-resolution models whose small pictures no other"),
    (["--steps", "ddim17"], "no stride"), (["--codes", "CODES"], "draw no codes")])
def test_wrong_options_end_in_one_line(small: Path, exported: Path, tmp_path: Path, more: list[str], message: str,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    more = [str(tmp_path / "codes.npz") if one == "CODES" else one for one in more]
    code = main(["generate", str(small), str(exported), "--label", "0", *more, "-o", str(tmp_path / "a.npy")])
    said = capsys.readouterr().err.strip()
    assert code == 1 and message in said and "\n" not in said and list(tmp_path.iterdir()) == []


def test_generate_without_denoisers_refuses_their_options(coded: list[Path], tmp_path: Path,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(path) for path in coded]
    assert main(["generate", *files, "--label", "0", "--steps", "5", "-o", str(tmp_path / "a.npy")]) == 1
    assert "--steps is for denoisers, and there is none" in capsys.readouterr().err and not list(tmp_path.iterdir())
