"""From a module to its staged program, its states and its prologue: all analyses in order, nothing written yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from pixelsnail_infer.distributions import Categorical, Distribution
from pixelsnail_infer.errors import ModelError, UnsupportedOpError
from pixelsnail_infer.export.analysis.borders import centre_borders
from pixelsnail_infer.export.analysis.canonical import canonical
from pixelsnail_infer.export.analysis.layout import Layout, lay_out
from pixelsnail_infer.export.analysis.products import join_products
from pixelsnail_infer.export.analysis.prologue import Prologue, cut_prologue
from pixelsnail_infer.export.analysis.row_forms import DEFAULT_ROW_FORM
from pixelsnail_infer.export.analysis.scores import lighten_scores
from pixelsnail_infer.export.analysis.simplify import simplify
from pixelsnail_infer.export.analysis.stages import Program, stage_program
from pixelsnail_infer.export.analysis.states import Kept, kept_values
from pixelsnail_infer.export.analysis.sums import regroup_sums
from pixelsnail_infer.export.analysis.wave import Wave, stage_wave
from pixelsnail_infer.export.fields import Node, duplicate
from pixelsnail_infer.export.lowering.lower import lower
from pixelsnail_infer.export.tracing.fresh import fresh_copy
from pixelsnail_infer.export.tracing.trace import InputSpec, trace_model
from pixelsnail_infer.plan import DEFAULT_PLAN, Plan

__all__ = ["Compiled", "compile_model", "stage_field"]


@dataclass(slots=True)
class Compiled:
    """Everything that the graph writers need."""

    program: Program
    kept: dict[Node, Kept]
    layout: Layout
    prologue: Prologue
    distribution: Distribution
    plan: Plan
    scales: dict[Node, float] = field(default_factory=dict)
    """In int8, by product: the step between neighbouring numbers of what it multiplies."""
    row_form: str = DEFAULT_ROW_FORM
    """Of the row graph's products in full precision, one of `ROW_FORMS`."""
    wave: Wave | None = None
    waveless: str = ""
    """Why there is no wave, where one was asked for."""


def compile_model(module: torch.nn.Module, forward: Callable[..., torch.Tensor], inputs: tuple[InputSpec, ...],
                  shape: tuple[int, int], distribution: Distribution | None = None,
                  plan: Plan = DEFAULT_PLAN, wave: bool = False) -> Compiled:
    """Stage `forward(module, pixels, *conditions)`; `inputs[0]` is the pixels. The module is not touched. `wave` also
    stages it for a wavefront, if it has one.

    Without a `distribution` the pixels are codes, and the output their logits. Traced in float64 whatever the
    precision of the `plan`, so that folded constants carry no rounding of their own. Raises `NotCausalError`,
    `UnsupportedOpError`, and `ModelError` where the output does not suit the distribution.
    """
    law = distribution or _categorical(inputs[0])
    traced = fresh_copy(module, torch.float64)
    specs = tuple(InputSpec(s.name, s.shape, torch.float64 if s.dtype.is_floating_point else s.dtype, s.levels)
                  for s in inputs)
    field = simplify(lower(trace_model(traced, forward, specs), inputs[0].name, shape))
    return stage_field(field, shape, law, plan, wave)


def stage_field(output: Node, shape: tuple[int, int], law: Distribution, plan: Plan = DEFAULT_PLAN,
                wave: bool = False) -> Compiled:
    """Stage a lowered and simplified network, whose nodes are used up. Raises as `compile_model` does."""
    if output.channels != (law.parameters,):
        given = "×".join(map(str, output.channels))
        raise ModelError(f"the network gives {given} numbers per pixel, expected {law.parameters} for {law}.")
    again = duplicate(output) if wave else None
    program = stage_program(canonical(output, shape))
    prologue = cut_prologue(program)
    lighten_scores(program)
    regroup_sums(program)
    join_products(program)
    centre_borders(program)
    kept = kept_values(program)
    compiled = Compiled(program, kept, lay_out(program, kept), prologue, law, plan)
    if again is not None:
        try:
            compiled.wave = stage_wave(again, shape, prologue)
        except UnsupportedOpError as error:
            compiled.waveless = str(error)
    return compiled


def _categorical(pixels: InputSpec) -> Distribution:
    if pixels.levels is None:
        raise ModelError("the pixels are numbers, not codes: say how they are distributed.")
    return Categorical(pixels.levels)
