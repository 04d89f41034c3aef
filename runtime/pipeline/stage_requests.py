"""The requests of a pipeline's stages: the arguments of one `generate`, checked and spread before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.codec import ImageSpec
from pixelsnail_infer.denoiser import LOW_RES
from pixelsnail_infer.distributions import from_uint8
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.noise import image_keys
from pixelsnail_infer.runtime.codecs.inputs import check_image
from pixelsnail_infer.runtime.pipeline.keeping import check_rectangle, kept_cells
from pixelsnail_infer.runtime.pipeline.wiring import Wiring
from pixelsnail_infer.runtime.requests.request import Request, make_request

__all__ = ["DRAWING", "STAGE_KEYS", "completion", "stage_keys", "stage_requests"]

DRAWING: Mapping[str, Any] = {"temperature": 1.0, "top_k": None, "top_p": None}
"""What priors are set by, and the defaults."""
STAGE_KEYS = 1 << 32
"""How far apart the second words of the noise keys of two stages are."""


def stage_keys(keys: NDArray[np.uint64], stage: int) -> NDArray[np.uint64]:
    """The noise keys of a stage, uint64 [n, 2], from those of stage 0: (s, k) becomes (s, k + stage · 2^32)."""
    return keys + np.array([0, stage * STAGE_KEYS], np.uint64)


def stage_requests(
    priors: Sequence[Manifest],
    wiring: Wiring,
    n: int,
    *,
    seed: int | Sequence[int] | NDArray[np.uint64],
    temperature: Any,
    top_k: Any,
    top_p: Any,
    conditions: Mapping[str, Any],
) -> list[Request]:
    """One request per prior, for all n images, without the conditions that other stages feed. Raises `RequestError`."""
    names = [spec.name for spec in wiring.conditions]
    if unknown := [name for name in conditions if name not in names]:
        takes = f"takes {', '.join(names)}" if names else "takes no conditions"
        links = [*wiring.links, *({LOW_RES} if small else () for small in wiring.enlarging)]
        fed = [stage for stage, link in enumerate(links) if unknown[0] in link]
        why = f"is fed by an earlier stage to stage {fed[0]}" if fed else "is not a condition of this pipeline"
        raise RequestError(f"{unknown[0]!r} {why}; the caller's part {takes}.")
    keys = image_keys(seed, n)
    codes = [prior.pixel.kind == "codes" for prior in priors]
    heats = _per_stage(temperature, "temperature", codes, everywhere=True)
    filters = {"top_k": _per_stage(top_k, "top_k", codes), "top_p": _per_stage(top_p, "top_p", codes)}
    requests = []
    for stage, prior in enumerate(priors):
        fed_here = wiring.links[stage]
        own = {spec.name: conditions.get(spec.name) for spec in prior.conditions if spec.name not in fed_here}
        try:
            request = make_request(
                prior, n, temperature=1.0 if heats[stage] is None else heats[stage], top_k=filters["top_k"][stage],
                top_p=filters["top_p"][stage], conditions=own, fed=fed_here,
            )  # fmt: skip
        except RequestError as error:
            raise error if len(priors) == 1 else RequestError(f"Stage {stage}: {error}") from error
        requests.append(replace(request, keys=stage_keys(keys, stage)))
    return requests


def completion(
    priors: Sequence[Manifest], spec: ImageSpec | None, n: int, image: Any, keep: Any
) -> tuple[NDArray[np.float32], list[NDArray[np.bool_]]] | None:
    """The checked image or images, float32 [1 or n, H, W, C], and for each prior which cells are kept, bool [h, w].

    None without `image` and `keep`. Raises `RequestError`, also when no prior would keep anything.
    """
    if image is None and keep is None:
        return None
    if image is None or keep is None:
        given, lacking = ("image", "keep") if keep is None else ("keep", "image")
        raise RequestError(f"{given} comes without {lacking}; give both, or neither.")
    if spec is None:
        raise RequestError("image needs an encoder, and this pipeline has none; give it the encoder of its decoder.")
    array = np.asarray(image)
    images = check_image(spec, from_uint8(array) if array.dtype == np.uint8 and spec.values == "pixels" else array)
    if len(images) not in (1, n):
        raise RequestError(f"image holds {len(images)} images, expected one, or one for each of {n}.")
    rectangle = check_rectangle(keep, spec.shape)
    masks = [kept_cells(rectangle, spec.shape, prior.shape) for prior in priors]
    if not any(mask.any() for mask in masks):
        (height, width), (h, w) = spec.shape, priors[-1].shape
        what = f"keep is {','.join(map(str, rectangle))}, in which no code lies wholly, so that nothing would be kept"
        raise RequestError(f"{what}; the smallest cells are {height / h:g} rows by {width / w:g} columns of pixels.")
    return images, masks


def _per_stage(value: Any, name: str, codes: Sequence[bool], everywhere: bool = False) -> list[Any]:
    """One setting per stage: a single value counts for every stage, or unless `everywhere` for those of codes."""
    if not isinstance(value, (list, tuple, np.ndarray)) or getattr(value, "ndim", 1) == 0:
        only = everywhere or not any(codes)
        return [value if only or drawn else None for drawn in codes]
    if len(value) != len(codes):
        what = f"{name} has {len(value)} entries"
        raise RequestError(f"{what}, expected one value, or one for each of {len(codes)} priors.")
    return list(value)
