"""The runtime, through one exported super-resolution model of classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pixelsnail_infer.errors import GraphFileError, ManifestError, RequestError
from pixelsnail_infer.export.denoisers.formulas import cumulative
from pixelsnail_infer.export.denoisers.reference import DenoiserReference
from pixelsnail_infer.noise import DRAWING, SCORING, image_keys, normal_image
from pixelsnail_infer.runtime import Denoiser, Engine, Sampler, load, load_decoder
from pixelsnail_infer.runtime.denoising import projections
from pixelsnail_infer.runtime.denoising.bound import step_bits
from pixelsnail_infer.runtime.denoising.denoiser import Denoised
from pixelsnail_infer.runtime.denoising.inputs import channels_last
from pixelsnail_infer.runtime.denoising.schedule import Schedule

from .networks import SPEC, network

SMALL = np.random.default_rng(2).uniform(-1, 1, (3, 4, 4, 3)).astype(np.float32)
GIVEN: dict[str, Any] = {"label": [0, 1, 2], "low_res": SMALL}


def test_normal_numbers_are_normal_and_keyed() -> None:
    keys = image_keys(5, 2)
    z = normal_image(keys[0], DRAWING, 7, (3, 50, 50))
    assert abs(float(z.mean())) < 0.03 and abs(float(z.std()) - 1) < 0.02 and abs(float((z**4).mean()) - 3) < 0.3
    others = [normal_image(keys[1], DRAWING, 7, (3, 50, 50)), normal_image(keys[0], SCORING, 7, (3, 50, 50)),
              normal_image(keys[0], DRAWING, 8, (3, 50, 50))]
    for other in others:
        assert abs(float((z * other).mean())) < 0.05
    np.testing.assert_array_equal(z.reshape(-1)[:99], normal_image(keys[0], DRAWING, 7, (1, 9, 11)).reshape(-1))


@pytest.mark.parametrize("eta", [None, 0.0])
def test_a_chain_of_all_steps_is_pytorchs(denoiser: Denoiser, eta: float | None) -> None:
    reference = DenoiserReference(network())
    reference.labels, reference.low_res = np.array([0, 1, 2]), SMALL.transpose(0, 3, 1, 2).copy()
    expected = reference.chain(image_keys(9, 3), tuple(range(40)), eta, lambda line: None)
    found = denoiser.sample(3, seed=9, eta=eta, **GIVEN)
    assert np.abs(found - expected.transpose(0, 2, 3, 1)).max() < 2e-3


def test_an_image_depends_on_its_seed_and_conditions_only(denoiser: Denoiser) -> None:
    together = denoiser.sample(3, seed=[4, 5, 6], steps=6, **GIVEN)
    for k in range(3):
        alone = denoiser.sample(1, seed=4 + k, steps=6, label=k, low_res=SMALL[k])
        np.testing.assert_allclose(alone[0], together[k], atol=1e-5)
    split = denoiser.sample(3, seed=[4, 5, 6], steps=6, max_batch=2, **GIVEN)
    np.testing.assert_allclose(split, together, atol=1e-5)
    assert np.abs(denoiser.sample(1, seed=4, steps=6, label=1, low_res=SMALL[0]) - together[0]).max() > 1e-3


def test_images_join_and_leave_at_any_step(denoiser: Denoiser) -> None:
    heard: list[Denoised] = []
    images = denoiser.sample(3, seed=1, steps="5", on_step=heard.append, **GIVEN)
    assert [one.step for one in heard] == [4, 3, 2, 1, 0] and heard[0].time == 39
    np.testing.assert_array_equal(heard[-1].x, images)
    steps = [3, 1, 4]  # every image at another step
    before = {one.step - 1: one.x for one in heard}
    noise = [normal_image(key, DRAWING, denoiser.schedule("5").taken[step], (3, 8, 8)).transpose(1, 2, 0)
             for key, step in zip(image_keys(1, 3), steps, strict=True)]
    start = normal_image(image_keys(1, 3)[2], DRAWING, 40, (3, 8, 8)).transpose(1, 2, 0)
    x = np.stack([before[3][0], before[1][1], start])
    after, _ = denoiser.denoise(x, steps, noise=np.stack(noise), steps="5", **GIVEN)
    expected = {one.step: one.x for one in heard}
    for slot, step in enumerate(steps):
        np.testing.assert_allclose(after[slot], expected[step][slot], atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_handed_out_is_the_callers(channels: int) -> None:
    buffer = np.zeros((2, channels, 4, 4), np.float32)
    given = channels_last(buffer)
    buffer[...] = 1.0
    assert given.shape == (2, 4, 4, channels) and not given.any()


def test_projections_are_made_in_blocks(denoiser: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one step, which save nothing, give the same images."""
    usual = denoiser.sample(3, seed=1, steps=7, **GIVEN)
    sizes = list[int]()
    computed = projections.Projections._computed

    def counted(self: projections.Projections, step: int, label: int) -> Any:
        first, block = computed(self, step, label)
        sizes.append(len(block))
        return first, block

    monkeypatch.setattr(projections.Projections, "_computed", counted)
    denoiser.sample(3, seed=1, steps=7, **GIVEN)
    assert sizes == [7, 7, 7]  # once for each label
    monkeypatch.setattr(projections, "BLOCK", 1)
    np.testing.assert_allclose(denoiser.sample(3, seed=1, steps=7, **GIVEN), usual, atol=1e-5)
    assert sizes[3:] == [1] * 21


def upstream_bits(images: NDArray[np.float32], keys: NDArray[np.uint64]) -> NDArray[np.float64]:
    """The bound in PyTorch, one step at a time."""
    reference = DenoiserReference(network())
    reference.labels, reference.low_res = np.array([0, 1, 2]), SMALL.transpose(0, 3, 1, 2).copy()
    x0 = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).double()
    bars = [1.0, *cumulative(reference.config.diffusion)]
    total = torch.zeros(3, dtype=torch.float64)
    for t in range(1, 41):
        bar, before, beta = bars[t], bars[t - 1], 1 - bars[t] / bars[t - 1]
        noise = np.stack([normal_image(key, SCORING, t - 1, (3, 8, 8)) for key in keys])
        x = bar**0.5 * x0 + (1 - bar) ** 0.5 * torch.from_numpy(noise).double()
        output, spread = torch.from_numpy(reference.output(x.float().numpy(), [t - 1] * 3, slice(0, 3))).double().chunk(
            2, dim=1)
        clean = ((x - (1 - bar) ** 0.5 * output) / bar**0.5).clamp(-1, 1)
        means = [before**0.5 * beta / (1 - bar) * image + (1 - beta) ** 0.5 * (1 - before) / (1 - bar) * x
                 for image in (x0, clean)]
        beta_2 = 1 - bars[2] / bars[1]
        least = torch.tensor(beta * (1 - before) / (1 - bar) if t > 1 else beta_2 * (1 - bars[1]) / (1 - bars[2]))
        share = (spread + 1) / 2
        log_variance = share * np.log(beta) + (1 - share) * least.log()
        if t == 1:
            z = torch.distributions.Normal(means[1], (log_variance / 2).exp())
            up, down = ((x0 + sign / 255) for sign in (1, -1))
            inner = torch.where(x0 < -0.999, z.cdf(up), z.cdf(up) - z.cdf(down))
            mass = torch.where(x0 > 0.999, 1 - z.cdf(down), inner)
            bits = -mass.clamp(min=1e-12).log()
        else:
            bits = torch.distributions.kl_divergence(
                torch.distributions.Normal(means[0], least.sqrt()),
                torch.distributions.Normal(means[1], (log_variance / 2).exp()))
        total += bits.flatten(1).mean(1) / np.log(2)
    prior = torch.distributions.kl_divergence(
        torch.distributions.Normal(bars[-1] ** 0.5 * x0, torch.tensor((1 - bars[-1]) ** 0.5)),
        torch.distributions.Normal(torch.zeros(()), torch.ones(())))
    return (total + prior.flatten(1).mean(1) / np.log(2)).numpy()


def test_levels_far_from_the_mean_cost_what_the_public_code_says() -> None:
    """-10.755130 is what improved-diffusion's own float32 gives; float64 throughout gives -10.68 and lower bounds."""
    random = np.random.default_rng(0)
    image = (random.integers(0, 256, (2, 3, 16, 16)) / 127.5 - 1).astype(np.float32)
    mean = (image + random.normal(0, 0.3, image.shape)).astype(np.float32)
    spread = random.normal(-2.5, 0.5, image.shape).astype(np.float32)
    bits = step_bits(Schedule.of(SPEC), 0, *(one.astype(np.float64) for one in (image, image, mean, 2 * spread)))
    assert abs(bits.mean() * np.log(2) - 10.755130) < 1e-4


def test_bits_per_dimension_are_the_bound(denoiser: Denoiser) -> None:
    """The exact normal distribution is within a thousandth of the approximation that the public code takes."""
    images = (np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)) / 127.5 - 1).astype(np.float32)
    images[0, 0, 0], images[0, 0, 1] = -1.0, 1.0
    found = denoiser.bits_per_dim(images, seed=3, **GIVEN)
    np.testing.assert_allclose(found, upstream_bits(images, image_keys(3, 3)), rtol=5e-3)
    split = denoiser.bits_per_dim(images, seed=3, max_batch=2, **GIVEN)
    np.testing.assert_allclose(split, found, rtol=1e-4)


def test_progress_counts_images_times_steps(denoiser: Denoiser) -> None:
    heard: list[tuple[int, int]] = []
    denoiser.sample(3, steps=4, max_batch=2, progress=lambda done, total: heard.append((done, total)), **GIVEN)
    assert heard == [(k, 12) for k in (2, 4, 6, 8, 9, 10, 11, 12)]


@pytest.mark.parametrize("change, message", [
    ({"steps": "ddim17"}, "no stride"), ({"steps": 41}, "section of 40"), ({"eta": 0.5, "sampler": "ddpm"}, "eta"),
    ({"sampler": "euler"}, "sampler"), ({"seed": -1}, "seed"), ({"label": 3}, "label"), ({"low_res": None}, "low_res"),
    ({"low_res": SMALL[:2]}, "2 pictures for 3"), ({"low_res": SMALL * 2}, "low_res"), ({"style": 1}, "style"),
    ({"clip": 1}, "clip"), ({"max_batch": 0}, "max_batch"), ({"low_res": SMALL[:, :2]}, "low_res"),
])
def test_wrong_requests_are_refused(denoiser: Denoiser, change: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        denoiser.sample(3, **{**GIVEN, **change})


@pytest.mark.parametrize("x, step, more", [
    (np.zeros((3, 8, 8, 3)), 40, {}), (np.zeros((3, 8, 8, 3)), [0, 1], {}), (np.zeros((3, 8, 8, 3)), 1.0, {}),
    (np.zeros((3, 8, 8, 1)), 0, {}), (np.full((3, 8, 8, 3), np.nan), 0, {}),
    (np.zeros((3, 8, 8, 3)), 0, {"noise": np.zeros((1, 8, 8, 3))}),
])
def test_wrong_steps_are_refused(denoiser: Denoiser, x: Any, step: Any, more: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        denoiser.denoise(x, step, **more, **GIVEN)


def test_files_are_checked(exported: Path, tmp_path: Path) -> None:
    step, times = exported.read_bytes(), exported.with_name("unet.times.onnx").read_bytes()
    with load(step, siblings={"times": times}) as loaded:
        assert loaded.manifest.diffusion.steps == 40
    with pytest.raises(GraphFileError, match="siblings"):
        load(step)
    (tmp_path / "unet.onnx").write_bytes(step)
    with pytest.raises(GraphFileError, match="times"):
        load(tmp_path / "unet.onnx")
    (tmp_path / "unet.times.onnx").write_bytes(times[:-1] + bytes([times[-1] ^ 1]))
    with pytest.raises(GraphFileError):
        load(tmp_path / "unet.onnx")


def test_load_gives_what_the_file_is(exported: Path, digits_graphs: dict[str, Path]) -> None:
    with load(exported) as denoiser, load(exported, kind="denoiser") as same, load(digits_graphs["step"]) as sampler:
        assert isinstance(denoiser, Denoiser) and isinstance(same, Denoiser) and isinstance(sampler, Sampler)
    with pytest.raises(ManifestError, match="is a denoiser, not a prior; use load for it"):
        load(exported, kind="prior")
    with pytest.raises(ManifestError, match="is a prior, not a denoiser; use load for it"):
        load(digits_graphs["step"], kind="denoiser")
    with pytest.raises(RequestError, match="kind is 'decoder'"):
        load(exported, kind="decoder")  # type: ignore[call-overload]
    with pytest.raises(RequestError, match="schedule is 'raster', but a denoiser"):
        load(exported, schedule="raster")
    with pytest.raises(ManifestError, match="is a denoiser, not a decoder; use load for it"):
        load_decoder(exported)
    with pytest.raises(RequestError, match="Denoiser"):
        Engine(denoiser)  # type: ignore[arg-type]


def test_a_closed_denoiser_says_so(exported: Path) -> None:
    loaded = load(exported)
    loaded.close()
    loaded.close()
    with pytest.raises(RequestError, match="closed"):
        loaded.sample(1, label=0, low_res=SMALL[0])
