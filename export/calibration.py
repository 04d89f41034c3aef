"""How large the numbers are that the products of int8 multiply: from images that the network is run on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.analysis.int8_products import int8_products
from pixelsnail_infer.export.analysis.stages import Stage
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.full import FullScope, emit_prologue
from pixelsnail_infer.export.emission.graph import Graph
from pixelsnail_infer.export.fields import Node
from pixelsnail_infer.export.proofs.bits import Images
from pixelsnail_infer.export.writing.torch_writer import torch_module

__all__ = ["calibrated"]

STEPS = 127  # between 0 and the largest number
SMALLEST = 1e-12  # where all numbers are 0


def calibrated(compiled: Compiled, images: Images, say: Callable[[str], None]) -> Compiled:
    """The same with the scales of int8: of every product the largest number that it multiplies on these images. Raises
    `ModelError` where there is none for int8."""
    products = int8_products(compiled.program)
    if not products:
        raise ModelError("the network has no product between two others that is large enough for int8; choose "
                         "--precision float32.")
    sources = list(dict.fromkeys(node.inputs[0].source for node in products))
    say(f"int8: the largest numbers in {len(sources)} values over {len(images.pixels)} images, for {len(products)} "
        "products")
    prologue = _prologue(compiled)
    whole: Any = torch_module(_peaks(compiled, sources), {})
    peaks = torch.zeros(len(sources))
    for slot in range(len(images.pixels)):
        some = slice(slot, slot + 1)
        given: dict[str, torch.Tensor] = {
            name: torch.from_numpy(value[some]) for name, value in images.conditions.items()}
        given[compiled.program.pixel.attrs["name"]] = torch.from_numpy(np.ascontiguousarray(images.pixels[some]))
        with torch.inference_mode():
            if prologue is not None:
                given.update(zip(prologue.outputs, prologue(*(given[name] for name in prologue.inputs)), strict=True))
            found = whole(*(given[name] for name in whole.inputs))
        peaks = torch.maximum(peaks, torch.cat(found))
    largest = dict(zip(sources, peaks.tolist(), strict=True))
    return replace(compiled, scales={node: max(largest[node.inputs[0].source], SMALLEST) / STEPS for node in products})


def _prologue(compiled: Compiled) -> Any:
    """The module of the prologue, if there is one."""
    if not compiled.prologue.crossing:
        return None
    builder = GraphBuilder("prologue")
    emit_prologue(compiled.program, compiled.prologue, builder)
    return torch_module(builder.graph(), {})


def _peaks(compiled: Compiled, values: list[Node]) -> Graph:
    """A graph of all positions at once, whose results are the largest magnitudes of the values, `[B]` each."""
    g = GraphBuilder("peaks")
    scope = FullScope(compiled.program, compiled.prologue, g)
    scope.emit(compiled.program.of(Stage.ROW, Stage.BEFORE, Stage.AFTER))
    for k, node in enumerate(values):
        count = math.prod(node.frame or ()) * math.prod(node.channels)
        flat = g.reshape(g.unary("abs", scope.value(node)), [0, count])
        g.output(f"peak.{k}", g.reduce("max", flat, 1), ["B"])
    return g.graph()
