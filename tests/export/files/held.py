"""The graphs of a network of the zoo held to the network: drawn from, scored, and gone on with after known rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.distributions import Categorical
from pixelsnail_infer.distributions.categorical import draw

from ..zoo import Network, Shape
from . import lanes
from .drive import Arrays, Driver

EXACT, DRAWS = 1e-9, 1e-6  # the reference draws in float32


def faults(driver: Driver, net: Network, shape: Shape, batch: int) -> list[str]:
    """In what the graphs are not the network's own forward, or the distribution's own draw and likelihood."""
    return [f"{what}, batch {batch}: {found:.1e}" for what, found, limit in _differences(driver, net, shape, batch)
            if not found < limit]


def _differences(driver: Driver, net: Network, shape: Shape, batch: int) -> Iterator[tuple[str, float, float]]:
    """What was compared, the largest difference, and its limit."""
    law, random = driver.compiled.distribution, np.random.default_rng(batch)
    torch.manual_seed(batch)
    given = {spec.name: spec.example(batch, torch.float64).numpy() for spec in net.inputs(shape)}
    images = given.pop("pixels")
    images = images.transpose(0, 2, 3, 1).copy() if law.pixel_shape else images  # the graphs take [B, H, W, C]
    settings = {"given": images, "use_given": random.random((batch, *shape)) < 0.3,
                "noise": random.normal(size=(batch, *shape, law.noise_width)),
                "temperature": np.resize([1.0, 0.5, 0.0], batch)}
    part = "filtered" if law.filters and batch > 1 else "step"
    if part == "filtered":
        settings |= {"top_k": np.resize([law.parameters, 3], batch), "top_p": np.resize([0.5, 0.8, 1.0], batch)}
    driver.begin(batch, given)
    logits, pixels = driver.walk(part, range(shape[0]), settings)
    expected = forward(net, shape, pixels, given)
    yield "logits", distance(logits, expected), EXACT
    yield "pixels", distance(pixels, drawn(law, expected, settings, images)), DRAWS
    finite = all(np.isfinite(held).all() for held in driver.held.values())
    yield "states that are finite", 0.0 if finite else np.inf, EXACT
    rows = np.full(batch, shape[0] // 2)
    score = driver.run("score", pixels=pixels, rows=rows)
    yield "logits of score", distance(score["logits"], expected), EXACT
    likelihood = law.log_probability(expected, pixels)
    yield "likelihood", distance(score["logprob"], likelihood), EXACT * (1 + np.abs(likelihood).max())
    driver.begin(batch, given)
    driver.resume(score)
    resumed = driver.replay(pixels, start=rows[0])
    yield "logits after known rows", distance(resumed[:, rows[0]:], expected[:, rows[0]:]), EXACT
    if driver.compiled.wave is not None and driver.precision == "float64":
        lanes.begin(driver, batch, given)
        yield "logits in waves", distance(lanes.replay(driver, pixels), expected), EXACT


def forward(net: Network, shape: Shape, pixels: NDArray[Any], given: Arrays) -> NDArray[Any]:
    """The network's own `[B, H, W, n]`."""
    images = torch.from_numpy(np.moveaxis(pixels, 3, 1).copy() if pixels.ndim == 4 else pixels)
    with torch.no_grad():
        out = net.module(shape)(images.clone(), *(torch.from_numpy(value).clone() for value in given.values()))
    result: NDArray[Any] = out.permute(0, 2, 3, 1).numpy()
    return result


def drawn(law: Any, logits: NDArray[Any], settings: Arrays, images: NDArray[Any]) -> NDArray[Any]:
    """What the distribution draws from the same noise, or what was given."""
    heat, filters = settings["temperature"][:, None, None], [settings.get(name) for name in ("top_k", "top_p")]
    if isinstance(law, Categorical):
        chosen: NDArray[Any] = draw(logits, settings["noise"], np.broadcast_to(heat, logits.shape[:3]),
                                    *(None if one is None else one[:, None, None] for one in filters))
        return np.where(settings["use_given"], images, chosen)
    chosen = law.draw(logits, settings["noise"], np.broadcast_to(heat, logits.shape[:3]))
    return np.where(settings["use_given"][..., None], images, chosen)


def distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The largest difference; of NaN infinity."""
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(np.nan_to_num(np.abs(a - b), nan=np.inf).max(initial=0))
