"""What clients ask for: a pool of random requests for a model, each with the images that `sample` gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime import Sampler

MOST = 4  # images of one request


@dataclass(frozen=True, slots=True)
class Wish:
    """Arguments of `sample`, and what it returns for them."""

    arguments: dict[str, Any]
    images: NDArray[Any]


def wishes(sampler: Sampler, count: int, seed: int) -> list[Wish]:
    """`count` random requests: conditions, filters, temperatures and known pixels, alone and together."""
    rng = np.random.default_rng(seed)
    asked = [_arguments(sampler.manifest, rng) for _ in range(count)]
    return [Wish(arguments, sampler.sample(**arguments)) for arguments in asked]


def _arguments(manifest: Manifest, rng: np.random.Generator) -> dict[str, Any]:
    n, codes = int(rng.integers(1, MOST + 1)), manifest.pixel.kind == "codes"
    asked: dict[str, Any] = {"n": n, "seed": int(rng.integers(1 << 40))}
    for spec in manifest.conditions:
        numbers = rng.integers(0, spec.levels, spec.shape) if spec.levels else rng.normal(size=spec.shape)
        asked[spec.name] = numbers if spec.levels else numbers.astype(np.float32)
    if rng.random() < 0.4:
        asked["temperature"] = float(rng.choice([0.0, 0.5, 1.0, 1.5]))
    if codes and rng.random() < 0.3:
        asked["top_p"] = float(rng.choice([0.5, 0.9]))
    if codes and rng.random() < 0.3:
        asked["top_k"] = int(rng.integers(1, manifest.levels + 1))
    if rng.random() < 0.3:
        asked["known_mask"] = np.arange(manifest.height)[:, None] < rng.integers(1, manifest.height + 1, manifest.shape)
        pixels = (manifest.height, manifest.width)
        asked["known"] = rng.integers(0, manifest.levels, pixels) if codes else rng.uniform(
            -1, 1, (*pixels, manifest.pixel.channels)).astype(np.float32)
    return asked
