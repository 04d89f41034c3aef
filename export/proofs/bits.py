"""What less precision costs: the change in bits per dimension, on given images or on drawn ones."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.bits import BitsSpec
from pixelsnail_infer.errors import RequestError, VerificationError
from pixelsnail_infer.export.proofs.reference import Reference
from pixelsnail_infer.export.proofs.verify import Check
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime import Sampler
from pixelsnail_infer.runtime.files.arrays import load_array
from pixelsnail_infer.runtime.requests.conditions import resolve_conditions
from pixelsnail_infer.runtime.requests.pixels import check_images

__all__ = ["SEED", "Images", "drawn_images", "given_images", "measured_bits"]

PIXELS, MOST = 4096, 65536  # drawn at least; of given images at most
FEWEST = 0.01  # bits per dimension: less is no measure of a change
SEED = 7
TOGETHER = 4


@dataclass(frozen=True, slots=True)
class Images:
    """Images [n, H, W] or [n, H, W, C], their conditions by name, and whether they were "given" or "drawn"."""

    pixels: NDArray[Any]
    conditions: Mapping[str, Any]
    codes: str

    def first(self, count: int) -> Images:
        """The first so many of them."""
        return Images(self.pixels[:count], {name: value[:count] for name, value in self.conditions.items()}, self.codes)


def given_images(path: str | os.PathLike[str], manifest: Manifest, option: str = "codes") -> Images:
    """The images of a .npy, or with conditions of a .npz with the arrays `codes` and one for every condition; no more
    than make 65536 pixels. Raises `RequestError`."""
    name, names = os.fsdecode(path), [spec.name for spec in manifest.conditions]
    if not name.endswith(".npz"):
        if names:
            raise RequestError(f"--{option} is {name}, but the model has conditions; give a .npz, made by numpy.savez "
                               f"of the arrays codes and {' and '.join(names)}, with as many entries as images.")
        arrays = {"codes": load_array(name, f"--{option}")}
    else:
        arrays = _archive(name, option)
    if "codes" not in arrays:
        raise RequestError(f"--{option} is {name}, which holds {', '.join(arrays) or 'nothing'}; one array must be "
                           "called codes.")
    pixels = check_images(manifest, arrays.pop("codes"), "codes")
    conditions = resolve_conditions(manifest, arrays, len(pixels))
    few = slice(max(1, MOST // math.prod(manifest.shape)))
    return Images(pixels[few], {key: np.ascontiguousarray(value[few]) for key, value in conditions.items()}, "given")


def _archive(name: str, option: str) -> dict[str, NDArray[Any]]:
    try:
        with np.load(name, allow_pickle=False) as held:
            return {key: held[key] for key in held.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise RequestError(f"--{option}: {name} cannot be read as an archive of arrays ({error}).") from error


def drawn_images(sampler: Sampler, reference: Reference, seed: int = SEED) -> Images:
    """Images that the sampler draws, under random conditions: at least 4, and so many that they have 4096 pixels, but
    no more than 64."""
    count = min(64, max(4, -(-PIXELS // reference.positions)))
    _, conditions = reference.inputs(count, seed)
    return Images(sampler.sample(count, seed=seed, **conditions), conditions, "drawn")


def measured_bits(sampler: Sampler, reference: Reference, images: Images, limit: float, say: Callable[[str], None]
                  ) -> tuple[Check, BitsSpec]:
    """Bits per dimension of the images through the files, beside those of the network in float32.

    Raises `VerificationError` where they differ by a share of more than `limit`.
    """
    law, count, precision = reference.distribution, len(images.pixels), sampler.manifest.precision
    say(f"bits per dimension of {count} {images.codes} images, in {precision} and by PyTorch in float32")
    expected = []
    for start in range(0, count, TOGETHER):
        some = slice(start, start + TOGETHER)
        logits = reference.logits(images.pixels[some], {key: one[some] for key, one in images.conditions.items()})
        expected.append(law.bits_per_dim(law.log_probability(logits, images.pixels[some])))
    before = float(np.concatenate(expected).mean())
    after = float(sampler.bits_per_dim(images.pixels, **images.conditions).mean())
    change = abs(after - before) / max(abs(before), FEWEST)
    detail = f"{before:.4f} in float32, {after:.4f} in {precision}, on {count} {images.codes} images"
    if not change <= limit:
        raise VerificationError(
            f"verification failed: bits per dimension change by {change:.2%} ({detail}), at most {limit:.2%} were "
            f"allowed. Nothing was written; choose another --precision, or allow more by --max-bpd-change.")
    return (Check("bits per dimension", change, limit, images.pixels[..., 0].size, detail),
            BitsSpec(before, after, change, limit, count, images.codes))
