"""Values of strides in the graphs: computed where they are live, held in between, in slots that are in any rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pixelsnail_infer.export.artifacts import build_part
from pixelsnail_infer.export.emission import holding, results
from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.emission.liveness import Liveness

from ..gate import compiled
from ..networks import STRIDED
from ..zoo import WIDTH, First, Network, Shape, Sketch, conv, head, hot
from .drive import Driver, OnnxRuntime
from .eager import Eager
from .held import faults, forward

NESTED, SHAPE = STRIDED["nested_twice"], (8, 8)


def rows_of_the_block_above(shape: Shape) -> nn.Module:
    """The second row of a block is made of the block above it, which the row graph knows; the first of its own."""
    def run(m: Sketch, x: torch.Tensor) -> torch.Tensor:
        y = m.first(hot(x))
        return m.out(y + m.up(F.elu(m.coarse(F.pad(y, [1, 0, 1, 0]))))[:, :, :shape[0]])
    return Sketch(run, first=First(), coarse=conv(kernel=2, stride=2), out=head(),
                  up=nn.ConvTranspose2d(WIDTH, WIDTH, (2, 2), 2, dilation=(3, 1)))


ABOVE = Network("rows_of_the_block_above", rows_of_the_block_above, ((6, 4),))


@pytest.mark.parametrize("engine", [OnnxRuntime, Eager])
def test_rows_of_which_the_row_graph_holds_some(engine: Any) -> None:
    held = compiled(ABOVE, (6, 4))
    assert results.held_rows(held.program) and [one for one in results.row_results(held.program, held.layout.stacks)
                                                if one.held and any(node.pixel for node in one.nodes)]
    assert faults(Driver(held, "float64", engine, spoil=True), ABOVE, (6, 4), 3) == []


def test_products_are_done_where_values_are_live() -> None:
    """Those of coarse values are in regions, in the step and in the row graph."""
    held = compiled(NESTED, SHAPE)
    strides = {node.where.module: node.stride for node in held.program.order if node.op == "linear" and node.pixel}
    for part in ("step", "row"):
        products = [step for step in build_part(held, part).steps if isinstance(step.operation, (v.MatMul, v.Linear))]
        found = {step.region.stride if step.region else (1, 1) for step in products}
        columns = 1 if part == "step" else 0
        assert found == ({(1, 1), (2, 2), (4, 4)} if columns else {(2, 1), (4, 1)} | ({(1, 1)} & found))
        for step in products:
            rows, _ = strides[step.module]
            assert (step.region.stride[0] if step.region else 1) == rows, step


@pytest.mark.parametrize("engine", [OnnxRuntime, Eager])
def test_slots_in_rows_of_different_phases(engine: Any) -> None:
    """Every slot goes on after other known rows, and all of them go down together."""
    first, images = np.arange(6), torch.randint(5, (6, *SHAPE), generator=torch.Generator().manual_seed(1)).numpy()
    expected = forward(NESTED, SHAPE, images, {})
    driver, one = Driver(compiled(NESTED, SHAPE), "float64", engine), np.ones(6)
    driver.begin(6, {})
    driver.resume(driver.run("score", pixels=images, rows=first))
    for down in range(3):
        rows, slots = first + down, np.arange(6)
        given = images[slots, rows]
        line = driver.run("row", row=rows)
        for column in range(SHAPE[1]):
            for _ in range(2):
                step = driver.run("step", row=rows, col=np.array([column]), given=given, temperature=one,
                                  use_given=np.ones((6, SHAPE[1]), bool), noise=np.zeros((6, SHAPE[1], 5)), **line)
            assert np.abs(step["logits"] - expected[slots, rows, column]).max() < 1e-9, (down, column)


@pytest.mark.parametrize("name", ["nested_twice", "strided_condition", "rows_only"])
def test_score_leaves_the_states_that_the_steps_leave(name: str) -> None:
    """After any number of rows, those between two of a stride too."""
    net = STRIDED[name]
    shape = net.shapes[0]
    torch.manual_seed(2)
    given = {spec.name: spec.example(1, torch.float64).numpy() for spec in net.inputs(shape)}
    codes = given.pop("pixels")
    driver = Driver(compiled(net, shape), "float64", Eager)
    for count in range(shape[0] + 1):
        driver.begin(1, given)
        score = driver.run("score", pixels=codes, rows=np.array([count]))
        driver.replay(codes, rows=count)
        for state, held in driver.held.items():
            if state.startswith("state."):
                assert np.abs(score[f"{state}.out"] - held).max() < 1e-9, (state, count)


def always(live: Liveness, stride: Any, rank: int = 0) -> Any:
    g = live.graph
    with g.within(None):
        mask = g.binary("ge", live.row, 0)
        return g.unsqueeze(mask, *range(1, 1 + rank)) if rank else mask


def first_phase(live: Liveness, node: Any) -> Any:
    with live.graph.within(None):
        return live.graph.mul(live.row, 0)


BROKEN = {
    "everything is computed everywhere": (Liveness, "mask", always),
    "a merge is in its first phase": (Liveness, "phase", first_phase),
    "no value is held by the row graph": (results, "held_rows", lambda program: set()),
    "columns are those of pixels": (holding.HoldingScope, "_column", lambda scope, every, of=1: scope.col),
}


@pytest.mark.parametrize("what", list(BROKEN))
def test_a_mistake_shows(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net, shape = (ABOVE, (6, 4)) if "row graph" in what else (NESTED, SHAPE)
    monkeypatch.setattr(*BROKEN[what])
    try:
        found = faults(Driver(compiled(net, shape), "float64", Eager), net, shape, 3)
    except (AssertionError, IndexError):
        return
    assert found
