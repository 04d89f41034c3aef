"""What each graph must take and give, from the manifest, and the check of a loaded graph against it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pixelsnail_infer.distributions import distribution_of
from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.manifest import ITEM_BYTES, Manifest
from pixelsnail_infer.runtime.backends.protocol import Graph, TensorInfo
from pixelsnail_infer.runtime.files.graphfile import GraphFile

Tensors = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Signature:
    """Tensors by name as (dtype, shape without the batch axis); `col` alone has no batch axis.

    Required ones must be there; optional ones (prologue tensors and states that a graph does not touch) may be absent.
    """

    inputs: Tensors
    outputs: Tensors
    optional_inputs: Tensors = field(default_factory=dict)
    optional_outputs: Tensors = field(default_factory=dict)


def signature(manifest: Manifest, part: str) -> Signature:
    """The signature of `part`: "step" or one of `manifest.SIBLINGS`."""
    height, width = manifest.shape
    distribution = distribution_of(manifest)
    numbers, pixel, dtype = distribution.parameters, distribution.pixel_shape, distribution.dtype
    prologue: Tensors = {spec.name: (spec.dtype, spec.shape) for spec in manifest.prologue}
    states: Tensors = {spec.name: (spec.dtype, spec.shape) for spec in manifest.states}
    results: Tensors = {"row_result": (manifest.row_result_dtype, (width, manifest.row_result.width))}
    results |= {spec.name: (spec.dtype, spec.shape) for spec in manifest.row_results or ()}
    if part in ("wave", "ahead"):
        return _wave(manifest, part, prologue)
    if part == "prologue":
        return Signature({item.name: (item.dtype, item.shape) for item in manifest.conditions}, prologue)
    if part == "score":
        outputs: Tensors = {"logprob": ("float32", (height, width)), "logits": ("float32", (height, width, numbers))}
        outputs |= {f"{name}.out": held for name, held in states.items()}
        return Signature({"pixels": (dtype, (height, width, *pixel)), "rows": ("int64", ())}, outputs, prologue)
    if part == "row":
        written = _written(manifest, "row")
        return Signature({"row": ("int64", ())}, results | written, prologue | states)
    inputs: Tensors = {"row": ("int64", ()), "col": ("int64", ())} | results
    inputs |= {"noise": ("float32", (width, distribution.noise_width)), "temperature": ("float32", ())}
    inputs |= {"given": (dtype, (width, *pixel)), "use_given": ("bool", (width,))}
    if part == "filtered":
        inputs |= {"top_k": ("int64", ()), "top_p": ("float32", ())}
    outputs = {"logits": ("float32", (numbers,)), "pixel": (dtype, pixel)}
    return Signature(inputs, outputs | _written(manifest, "step"), prologue | states)


def _wave(manifest: Manifest, part: str, prologue: Tensors) -> Signature:
    """Axis 0 counts lanes, of states and prologue tensors images, and of `ahead` the lanes that it was made for."""
    wave, distribution = manifest.wave, distribution_of(manifest)
    assert wave is not None
    lane: Tensors = dict.fromkeys(("slot", "row", "col"), ("int64", ()))
    states: Tensors = {spec.name: (spec.dtype, spec.shape) for spec in wave.states}
    ahead: Tensors = {} if wave.ahead is None else {"ahead": ("float32", (wave.ahead,))}
    if part == "ahead":
        return Signature(lane, ahead, prologue | states)
    dtype, pixel = distribution.dtype, distribution.pixel_shape
    inputs: Tensors = lane | ahead | ({"place": ("int64", ())} if ahead else {})
    inputs |= {"noise": ("float32", (distribution.noise_width,)), "temperature": ("float32", ())}
    inputs |= {"given": (dtype, pixel), "use_given": ("bool", ())}
    outputs: Tensors = {"logits": ("float32", (distribution.parameters,)), "pixel": (dtype, pixel)}
    return Signature(inputs, outputs | {f"{name}.out": held for name, held in states.items()}, prologue | states)


def tensor_bytes(tensors: Iterable[tuple[str, tuple[int, ...]]]) -> int:
    """Exact bytes of tensors, each (dtype, shape)."""
    return sum({**ITEM_BYTES, "bool": 1}[dtype] * math.prod(shape) for dtype, shape in tensors)


def widest_step(manifest: Manifest) -> Signature:
    """The step's signature with every input that any of its variants takes."""
    return signature(manifest, "filtered" if distribution_of(manifest).filters else "step")


def check_signature(graph: Graph, expected: Signature, name: str) -> None:
    """Raise `GraphFileError` unless the graph has exactly the expected tensors with their dtypes and shapes."""
    _check(graph.inputs, expected.inputs, expected.optional_inputs, f"{name}: input")
    _check(graph.outputs, expected.outputs, expected.optional_outputs, f"{name}: output")
    for output in graph.outputs:
        state = output.removesuffix(".out")
        if state != output and "row" in graph.inputs and state not in graph.inputs:
            raise GraphFileError(f"{name}: {output!r} is written, but {state!r} is no input; export again.")


def levels_of(manifest: Manifest) -> dict[str, int]:
    """How many values each tensor of codes may have that a graph of this export takes, by its name."""
    levels = {spec.name: spec.levels for spec in manifest.conditions}
    held = (*manifest.states, *(manifest.wave.states if manifest.wave else ()))
    levels |= {spec.name: manifest.pixel.levels for spec in held if spec.role == "pixels"}
    levels |= dict.fromkeys(("pixels", "given"), manifest.pixel.levels)
    return {name: size for name, size in levels.items() if size is not None}


def check_tables(file: GraphFile, levels: Mapping[str, int]) -> None:
    """Raise `GraphFileError` where the manifest promises more codes of a tensor than a table that they index has rows:
    the engine would fail at the first code beyond."""
    for name, rows in file.tables.items():
        if rows < (promised := levels.get(name, 0)):
            raise GraphFileError(
                f"{file.name}: the manifest promises {promised} codes for {name!r}, but a table that they index has "
                f"{rows} rows; the manifest was altered: export the checkpoint again."
            )


def _written(manifest: Manifest, writer: str) -> Tensors:
    return {f"{spec.name}.out": (spec.dtype, spec.shape) for spec in manifest.states if spec.writer == writer}


def _check(found: Mapping[str, TensorInfo], required: Tensors, optional: Tensors, where: str) -> None:
    advice = "the files belong to different exports or were altered: export the checkpoint again"
    if missing := [name for name in required if name not in found]:
        raise GraphFileError(f"{where} {missing[0]!r} is missing; {advice}.")
    known = required | optional
    for name, info in found.items():
        if name not in known:
            raise GraphFileError(f"{where} {name!r} is not in the manifest; {advice}.")
        dtype, shape = known[name]
        full = (1,) if name == "col" and "slot" not in found else (None, *shape)
        batched = full == (1,) or info.shape[:1] == (None,)
        if info.dtype != dtype or not batched or not _fits(info.shape, full):
            raise GraphFileError(
                f"{where} {name!r} is {info.dtype} {_shown(info.shape)}, expected {dtype} {_shown(full)}; {advice}."
            )


def _fits(found: tuple[int | None, ...], expected: tuple[int | None, ...]) -> bool:
    if len(found) != len(expected):
        return False
    return all(a is None or b is None or a == b for a, b in zip(found, expected, strict=True))


def _shown(shape: tuple[int | None, ...]) -> str:
    return "[" + ", ".join("B" if size is None else str(size) for size in shape) + "]"
