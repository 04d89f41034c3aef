"""The gate: lowering, the staged program and the module itself give the same numbers at every position."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pixelsnail_infer.distributions import Categorical
from pixelsnail_infer.export.analysis.canonical import canonical
from pixelsnail_infer.export.analysis.simplify import simplify
from pixelsnail_infer.export.analysis.stages import Program, stage_program
from pixelsnail_infer.export.analysis.states import Kept, kept_values
from pixelsnail_infer.export.compile import Compiled, stage_field
from pixelsnail_infer.export.fields import Node
from pixelsnail_infer.export.lowering.lower import lower
from pixelsnail_infer.export.proofs.interpret import run_full, run_staged
from pixelsnail_infer.export.tracing.trace import InputSpec, trace_model

from .zoo import LEVELS, Network, Shape

TOLERANCE = 1e-9


@dataclass
class Exported:
    """What the analyses make of one network, and the module that they must agree with."""

    module: nn.Module
    inputs: tuple[InputSpec, ...]
    field: Node
    program: Program
    kept: dict[Node, Kept]

    def given(self, batch: int) -> dict[str, Tensor]:
        torch.manual_seed(batch)
        return {spec.name: spec.example(batch, torch.float64) for spec in self.inputs}

    def logits(self, given: dict[str, Tensor]) -> Tensor:
        """The module's own `[B, H, W, levels]`."""
        with torch.no_grad():
            return self.module(*(x.clone() for x in given.values())).permute(0, 2, 3, 1)  # it may write into them

    def error(self, batch: int = 3, at_once: bool = False) -> float:
        """Largest difference of the staged program, position by position or row by row; NaN counts as infinite."""
        given = self.given(batch)
        return difference(run_staged(self.program, given, self.kept, lambda: at_once), self.logits(given))


def difference(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a - b).abs().nan_to_num(nan=float("inf")).max())


def lowered(net: Network, shape: Shape) -> Exported:
    """Trace, lower and simplify `net`; what comes out of each is held against the module."""
    module, inputs = net.module(shape), net.inputs(shape)
    field = lower(trace_model(module, lambda m, *x: m(*x), inputs), "pixels", shape)
    made = Exported(module, inputs, field, None, {})  # type: ignore[arg-type]
    for batch in (1, 3):
        given = made.given(batch)
        found = difference(run_full(field, given), made.logits(given))
        assert found < TOLERANCE, f"lowering: {found}"
    simplify(field)
    given = made.given(2)
    found = difference(run_full(field, given), made.logits(given))
    assert found < TOLERANCE, f"simplified: {found}"
    return made


def export(net: Network, shape: Shape) -> Exported:
    """Lower `net` and stage it, no further."""
    made = lowered(net, shape)
    made.program = stage_program(canonical(made.field, shape))
    made.kept = kept_values(made.program)
    return made


@functools.cache
def checked(net: Network, shape: Shape) -> tuple[Exported, Compiled]:
    """`net`, lowered under the same checks and compiled to the end, once for the whole run: read only."""
    made = lowered(net, shape)
    compiled = stage_field(made.field, shape, net.distribution or Categorical(LEVELS), wave=True)
    made.program, made.kept = compiled.program, compiled.kept
    return made, compiled


def compiled(net: Network, shape: Shape) -> Compiled:
    """What the graphs are decided from."""
    return checked(net, shape)[1]


def leaks(net: Network, shape: Shape, step: int = 3) -> list[tuple[int, int]]:
    """The oracle, on the module alone: (changed position, earlier or equal prediction that moved)."""
    module = net.module(shape)
    torch.manual_seed(0)
    given = [spec.example(2, torch.float64) for spec in net.inputs(shape)]
    found = []
    with torch.no_grad():
        before = module(*(x.clone() for x in given)).flatten(2)
        for start in range(0, shape[0] * shape[1], step):
            codes = given[0].clone().flatten(-2)
            later = codes[..., start:]
            if codes.is_floating_point():
                later += torch.randn_like(later)
            else:
                later.copy_((later + 1 + torch.randint(LEVELS - 1, later.shape)) % LEVELS)
            after = module(codes.view_as(given[0]), *(x.clone() for x in given[1:])).flatten(2)
            moved = (after - before).abs().amax((0, 1))[: start + 1] > 1e-12
            found += [(start, int(p)) for p in moved.nonzero()]
    return found
