"""The proofs that a denoiser's files are the model: the sums of a step in float64, the network, whole short chains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.denoiser import LABEL, LOW_RES, DenoiserManifest
from pixelsnail_infer.export.codecs.verify import judged
from pixelsnail_infer.export.denoisers.formulas import FormulaStep, cumulative
from pixelsnail_infer.export.denoisers.parts import StepPart
from pixelsnail_infer.export.denoisers.reference import IMAGES, DenoiserReference
from pixelsnail_infer.export.proofs.verify import EXACT, Check, passed
from pixelsnail_infer.models.unet import UNet
from pixelsnail_infer.noise import image_keys
from pixelsnail_infer.runtime.denoising.batch import Batch
from pixelsnail_infer.runtime.denoising.denoiser import Denoiser
from pixelsnail_infer.runtime.denoising.inputs import Conditions
from pixelsnail_infer.runtime.denoising.loading import opened
from pixelsnail_infer.runtime.denoising.projections import Projections
from pixelsnail_infer.runtime.denoising.schedule import COEFFICIENTS, UNLIMITED, Schedule

__all__ = ["CHAIN", "verify_denoiser", "verify_sums"]

CHAIN = 1e-3  # of the picture's range, after all steps
LENGTH, DRAWN = 5, 2  # of the chains: steps, and images
ETAS: tuple[float | None, ...] = (None, 0.0, 0.5)  # DDPM, and DDIM with so much noise
RANGE = 2.0  # from -1 to 1
RAW = dict(zip(COEFFICIENTS, (0.0, 1.0, UNLIMITED, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0), strict=True))
"""A row that lets the network's output through: as the image and, of a learned variance, as its logarithm."""
Say = Callable[[str], None]
Array = NDArray[np.float64]


class _Given(torch.nn.Module):
    """A network that gives what it was made with."""

    def __init__(self, module: UNet, output: torch.Tensor) -> None:
        super().__init__()
        self.config, self.output = module.config, output

    def denoise(self, x: torch.Tensor, projections: torch.Tensor, low_res: torch.Tensor | None = None) -> torch.Tensor:
        """`[B, C, H, W]`, whatever `x` is."""
        return self.output


def verify_sums(reference: DenoiserReference, say: Say) -> list[Check]:
    """One reverse step in float64, of what a network may give, against the formulas of the papers; before anything is
    written. Raises `VerificationError`."""
    say("one reverse step in float64, against the formulas")
    spec, bars = reference.config.diffusion, cumulative(reference.config.diffusion)
    schedule = Schedule.of(spec, min(LENGTH, spec.steps))
    taken, random = schedule.taken, np.random.default_rng(11)
    checks = []
    for eta in ETAS:
        for clip in (True, False):
            table = schedule.ddpm(clip) if eta is None else schedule.ddim(eta, clip)
            worst = 0.0
            for place, step in enumerate(taken):
                formula = FormulaStep(spec, bars[step], bars[taken[place - 1]] if place else 1.0,
                                      (bars[taken[0]], bars[taken[1]]))
                x, noise = random.standard_normal((2, IMAGES, *reference.shape))
                output = random.standard_normal((IMAGES, reference.config.outputs, *reference.config.shape))
                rows = np.broadcast_to(table[place], (IMAGES, len(COEFFICIENTS)))
                found = _summed(reference, output, x, noise, rows)
                prediction, spread = reference.parts(output)
                expected = formula.ddpm(x, prediction, spread, noise, clip) if eta is None else \
                    formula.ddim(x, prediction, noise, eta, clip)
                clean = formula.clean(x, prediction, clip)
                worst = max(worst, *(float(np.abs(a - b).max() / np.abs(b).max())
                                     for a, b in zip(found, (expected, clean), strict=True)))
            name = f"{_named(eta)} step, {'clipped' if clip else 'not clipped'}"
            checks.append(Check(name, worst, EXACT, len(taken), f"float64, at {len(taken)} steps"))
    return passed(checks)


def verify_denoiser(path: str | Path, reference: DenoiserReference, say: Say, *, device: str = "cpu",
                    backend: str = "auto") -> list[Check]:
    """The written files through the runtime, against PyTorch. Raises `VerificationError`."""
    manifest, engine, step, times = opened(path, device=device, backend=backend, threads=None)
    schedule = Schedule.of(manifest.diffusion)
    told = Projections(manifest, engine, times, schedule)
    measured = []
    for size, some in ((1, slice(0, 1)), (IMAGES, slice(0, IMAGES))):
        say(f"the network at {IMAGES} steps, batch {size}")
        batch = Batch(manifest, engine, step, size)
        worst = max(_apart(reference, batch, told, steps, some) for steps in _places(len(schedule), size))
        measured.append((f"network, batch {size}", worst, "every pixel"))
    last = len(schedule) - 1
    checks = judged(measured, int(np.prod(reference.config.shape)), lambda: reference.rounding(reference.images, last),
                    say)
    with Denoiser(manifest, engine, step, times) as denoiser:
        return checks + passed(list(_chains(denoiser, manifest, reference, say)))


def _chains(denoiser: Denoiser, manifest: DenoiserManifest, reference: DenoiserReference, say: Say) -> Iterator[Check]:
    keys, steps = image_keys(3, DRAWN), min(LENGTH, manifest.diffusion.steps)
    conditions = {LABEL: reference.labels, LOW_RES: reference.low_res}
    given: dict[str, Any] = {name: held[:DRAWN] for name, held in conditions.items() if held is not None}
    if LOW_RES in given:
        given[LOW_RES] = given[LOW_RES].transpose(0, 2, 3, 1)
    for eta in ETAS[:2]:
        found = denoiser.sample(DRAWN, seed=3, steps=steps, eta=eta, max_batch=DRAWN, **given)
        expected = reference.chain(keys, denoiser.schedule(steps).taken, eta, say).transpose(0, 2, 3, 1)
        worst = float(np.abs(found - expected).max()) / RANGE
        yield Check(f"{_named(eta)} chain", worst, CHAIN, steps, f"{steps} steps, {DRAWN} images, of the range")


def _apart(reference: DenoiserReference, batch: Batch, told: Projections, steps: list[int], some: slice) -> float:
    """How far the file's network is from PyTorch's, in standard deviations of its output."""
    x = reference.images[some]
    rows = np.broadcast_to(np.array(list(RAW.values())), (len(x), len(RAW)))
    labels = None if reference.labels is None else reference.labels[some]
    small = None if reference.low_res is None else reference.low_res[some]
    found = batch.run(x, None, rows, np.array(steps), Conditions(labels, small), told)
    parts = [found["x_prev"], *([found["log_variance"]] if reference.config.learn_sigma else [])]
    expected = reference.output(x, steps, some)
    return float(np.abs(np.concatenate(parts, axis=1) - expected).max() / expected.std())


def _places(total: int, size: int) -> list[list[int]]:
    """Steps for batches of `size`: single images at the first, a middle and the last step; a batch has them at once."""
    three = [0, total // 2, total - 1]
    return [[step] for step in three] if size == 1 else [three]


def _summed(reference: DenoiserReference, output: Array, x: Array, noise: Array, rows: Array) -> tuple[Array, Array]:
    """What the step part makes of a network's output: the image a step earlier, and the one without noise."""
    part = StepPart(_Given(reference.module, torch.from_numpy(output)))  # type: ignore[arg-type]
    results = part(torch.from_numpy(x), torch.from_numpy(noise), torch.from_numpy(rows.copy()), torch.zeros(0))
    return results[0].numpy(), results[1].numpy()


def _named(eta: float | None) -> str:
    return "DDPM" if eta is None else f"DDIM, eta {eta:g}"
