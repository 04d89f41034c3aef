"""What a shard holds of every image: one record of a structured array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.codec import ImageSpec
from pixelsnail_infer.distributions import to_uint8
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.pipeline.pipeline import Generated, Pipeline

__all__ = ["KEY", "Field", "fields_of", "fill", "record_dtype"]

KEY = ("seed", "index")
"""The two words of an image's noise key: it is image `index` of `seed`."""


@dataclass(frozen=True, slots=True)
class Field:
    """One of a record: `dtype` as NumPy spells it ("<u8", "|u1"), and the shape of what an image has of it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def fields_of(pipeline: Pipeline, classes: Sequence[str], codes: bool) -> tuple[Field, ...]:
    """The fields of what `pipeline` draws: the key, the conditions `classes`, and the images; codes of every level
    where there are no images, or with `codes`.

    Codes have the smallest unsigned type that holds them; images of pixels are uint8 [H, W, C]. Raises `RequestError`
    where two fields would have one name.
    """
    drawn = pipeline.wiring.drawn
    priors = [m for m in pipeline.manifests if isinstance(m, Manifest) and m.pixel.kind == "codes"]
    fields = [Field(name, "<u8", ()) for name in KEY] + [Field(name, "<i4", ()) for name in classes]
    if drawn is None or codes:
        levels = zip(_levels(pipeline), priors, strict=True)
        fields += [Field(name, _smallest(prior.levels), prior.shape) for name, prior in levels]
    if drawn is not None:
        fields.append(Field("image", _image_dtype(drawn), (*drawn.shape, drawn.channels)))
    names = [field.name for field in fields]
    if twice := [name for name in names if names.count(name) > 1]:
        raise RequestError(f"A record would have two fields {twice[0]!r}; export the model with other names.")
    return tuple(fields)


def record_dtype(fields: Sequence[Field]) -> np.dtype[Any]:
    """The dtype of a structured array of records."""
    return np.dtype([(field.name, field.dtype, field.shape) for field in fields])


def fill(
    records: NDArray[Any], keys: NDArray[np.uint64], conditions: dict[str, Any], found: Generated, pipeline: Pipeline
) -> None:
    """Write what was drawn into `records` [b]."""
    values: dict[str, Any] = {**conditions, **dict(zip(KEY, keys.T, strict=True))}  # [b, 2] → 2 of [b]
    values.update(zip(_levels(pipeline), found.codes, strict=True))
    if found.images is not None and "image" in (records.dtype.names or ()):
        values["image"] = to_uint8(found.images) if records.dtype["image"].base == np.uint8 else found.images
    for name in records.dtype.names or ():
        records[name] = values[name]


def _levels(pipeline: Pipeline) -> tuple[str, ...]:
    """What the codes of every level are called: `codes` where there is one level, without a name of its own."""
    names = pipeline.wiring.names
    return ("codes",) if names == ("codes0",) else names


def _smallest(levels: int) -> str:
    return next(dtype for dtype, most in (("|u1", 1 << 8), ("<u2", 1 << 16), ("<u4", 1 << 32)) if levels <= most)


def _image_dtype(drawn: ImageSpec) -> str:
    return "|u1" if drawn.values == "pixels" else "<f4"
