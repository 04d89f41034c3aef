"""Conditions of a call: from what the caller passed to one checked array per condition, one value per image."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import ConditionSpec
from pixelsnail_infer.messages import shown


class Conditioned(Protocol):
    """A manifest, of which only the conditions matter here."""

    @property
    def conditions(self) -> tuple[ConditionSpec, ...]: ...


def resolve_conditions(
    manifest: Conditioned, given: Mapping[str, Any], n: int, fed: Collection[str] = ()
) -> dict[str, NDArray[Any]]:
    """Check `given` against the manifest; returns each condition, but for those `fed` from elsewhere, as an array
    [n, *shape] of its dtype.

    A value without the image axis counts for every image, and is held once: its array is a read-only view with stride 0
    along the images. Raises `RequestError` for a missing or unknown name, a wrong shape or dtype, a code out of range
    or a number that is not finite. The caller's arrays are not changed.
    """
    specs = [spec for spec in manifest.conditions if spec.name not in fed]
    names = [spec.name for spec in specs]
    if unknown := [name for name in given if name not in names]:
        takes = f"takes {', '.join(names)}" if names else "takes no conditions"
        raise RequestError(f"{shown(unknown[0])} is not a condition of this model, which {takes}.")
    if missing := [name for name in names if given.get(name) is None]:
        raise RequestError(f"The condition {missing[0]!r} is missing; give {describe(_spec(manifest, missing[0]))}.")
    return {spec.name: resolve_condition(spec, given[spec.name], n) for spec in specs}


def clashing_name(specs: Iterable[ConditionSpec], call: Callable[..., Any]) -> str | None:
    """The first condition with the name of an argument of `call`, which could then not be given by name; or None."""
    taken = inspect.signature(call).parameters.values()
    own = {argument.name for argument in taken if argument.kind is not inspect.Parameter.VAR_KEYWORD}
    return next((spec.name for spec in specs if spec.name in own), None)


def describe(spec: ConditionSpec) -> str:
    """One phrase for messages and help: what this condition takes."""
    sizes = "×".join(str(size) for size in spec.shape)
    words = {
        "class": f"{spec.name}=<class 0…{(spec.levels or 1) - 1}>, one number or one per image",
        "codes": f"{spec.name}=<codes 0…{(spec.levels or 1) - 1}, int [{sizes}] or one such array per image>",
        "vector": f"{spec.name}=<numbers [{sizes}] or one such vector per image>",
        "map": f"{spec.name}=<numbers [{sizes}] or one such map per image>",
    }
    return words[spec.kind]


def _spec(manifest: Conditioned, name: str) -> ConditionSpec:
    return next(spec for spec in manifest.conditions if spec.name == name)


def resolve_condition(spec: ConditionSpec, value: Any, n: int) -> NDArray[Any]:
    """One of them, checked: see `resolve_conditions`."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise RequestError(f"{spec.name} is not a regular array ({error}); give {describe(spec)}.") from error
    kinds = "iu" if spec.dtype == "int64" else "fiu"
    if array.dtype.kind not in kinds:
        wanted = "integers" if spec.dtype == "int64" else "real numbers"
        raise RequestError(f"{spec.name} has dtype {array.dtype}, expected {wanted}; give {describe(spec)}.")
    if array.shape not in (spec.shape, (n, *spec.shape)):
        one, many = list(spec.shape), [n, *spec.shape]
        raise RequestError(f"{spec.name} has shape {list(array.shape)}, expected {one} or {many} for {n} images.")
    if spec.levels is not None and array.size and not (0 <= array.min() and array.max() < spec.levels):
        worst = array.min() if array.min() < 0 else array.max()
        raise RequestError(f"{spec.name} holds {worst}, expected values from 0 to {spec.levels - 1}.")
    with np.errstate(over="ignore"):
        result = np.asarray(array, spec.dtype, order="C")
    if spec.levels is None and not np.isfinite(result).all():
        raise RequestError(f"{spec.name} holds a number that is not finite in float32; give finite numbers.")
    return result if result.ndim > len(spec.shape) else np.broadcast_to(result, (n, *spec.shape))
