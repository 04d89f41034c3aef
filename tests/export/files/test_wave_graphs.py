"""The written wave graphs, driven by the contract's rules: with what is computed ahead, twice, and with mistakes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pixelsnail_infer.distributions import Categorical
from pixelsnail_infer.export import compile as compiling
from pixelsnail_infer.export.analysis.wave import stage_wave
from pixelsnail_infer.export.artifacts import build_part
from pixelsnail_infer.export.compile import Compiled, stage_field
from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.plans import TEST_PLAN

from ..gate import compiled, lowered
from ..networks import NETWORKS
from ..zoo import LEVELS, Network, Shape
from . import eager, lanes
from .drive import Driver, Engine, OnnxRuntime

SHAPE = (4, 5)
HALVED = (4, 6)  # for conditions on half the grid
NAMES = ["masked_pixelcnn", "original_down_right", "dilated", "even_kernels", "condition_read_at_offsets",
         "shift_in_the_middle", "two_stack_pixelcnn", "two_stacks_with_maps", "valid_after_manual_pad"]
Patch = pytest.MonkeyPatch


def spanned(net: Network, shape: Shape, span: int, patch: Patch) -> Compiled:
    patch.setattr(compiling, "stage_wave", lambda output, shape, prologue: stage_wave(output, shape, prologue, span))
    return stage_field(lowered(net, shape).field, shape, net.distribution or Categorical(LEVELS), wave=True)


def error(program: Compiled, net: Network, shape: Shape, engine: Callable[[Any], Engine] = eager.Eager,
          batch: int = 3) -> float:
    """Of the logits of every position, each wave run twice."""
    torch.manual_seed(batch)
    given = {spec.name: spec.example(batch, torch.float64) for spec in net.inputs(shape)}
    with torch.no_grad():
        expected = net.module(shape)(*(x.clone() for x in given.values())).permute(0, 2, 3, 1).numpy()
    arrays = {name: value.numpy() for name, value in given.items()}
    pixels = arrays.pop("pixels")
    driver = Driver(program, "float64", engine)
    lanes.begin(driver, batch, arrays)
    return float(np.abs(lanes.replay(driver, pixels, twice=True) - expected).max())


@pytest.mark.parametrize("engine", [eager.Eager, OnnxRuntime])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("span", [1, 2])
def test_waves_with_and_without_an_ahead_graph(span: int, name: str, engine: Any, monkeypatch: Patch) -> None:
    net = NETWORKS[name]
    shape = HALVED if HALVED in net.shapes else SHAPE
    program = spanned(net, shape, span, monkeypatch)
    assert program.wave is not None
    for batch in (1, 3):
        assert error(program, net, shape, engine, batch) < 1e-9


def test_a_wave_draws_as_the_step_does() -> None:
    """Noise, temperature and given pixels of lanes are taken as those of slots are."""
    net = NETWORKS["masked_pixelcnn"]
    program = compiled(net, (1, 4))
    driver, random = Driver(program, "float64", eager.Eager), np.random.default_rng(0)
    settings = {"noise": random.normal(size=(3, 1, 4, LEVELS)), "temperature": np.array([1.0, 0.0, 2.0]),
                "given": random.integers(0, LEVELS, (3, 1, 4)), "use_given": random.random((3, 1, 4)) < 0.4}
    driver.begin(3, {})
    _, expected = driver.walk("step", range(1), settings)
    lanes.begin(driver, 3, {})
    for j in range(4):
        slot = np.arange(3)
        lane = {name: value[:, 0, j] for name, value in settings.items() if name != "temperature"}
        found = driver.run("wave", slot=slot, row=0 * slot, col=0 * slot + j, temperature=settings["temperature"],
                           **lane)
        assert np.array_equal(found["pixel"], expected[:, 0, j])


def test_lanes_may_stand_in_any_order() -> None:
    net = NETWORKS["masked_pixelcnn"]
    program, order = compiled(net, SHAPE), lanes.lanes_of
    shuffled = [order]

    def backwards(places: Any, slots: int) -> Any:
        return tuple(one[::-1].copy() for one in shuffled[0](places, slots))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "lanes_of", backwards)
        assert error(program, net, SHAPE) < 1e-9


def steps(name: str, shape: Shape = SHAPE) -> dict[str, list[Any]]:
    program = replace(compiled(NETWORKS[name], shape), plan=TEST_PLAN)
    found: dict[str, list[Any]] = {}
    for step in build_part(program, "wave").steps:
        found.setdefault(type(step.operation).__name__, []).append(step.operation)
    return found


def test_all_taps_are_one_product_and_each_state_is_written_once() -> None:
    found = steps("masked_pixelcnn")
    program = compiled(NETWORKS["masked_pixelcnn"], SHAPE)
    assert program.wave is not None
    assert len(found["Put"]) == len(program.wave.layout.canvases) and "Write" not in found
    states = {operation.state for operation in found["Put"]}
    assert {operation.value for operation in found["Pick"]} <= states


WRONG: dict[str, tuple[type[v.Operation], Callable[..., Any]]] = {
    "cells of the next row": (v.Pick, lambda op, at: eager._pick(op, lambda value: at(value).roll(1, 2)
                                                                 if value is op.value and at(value).ndim == 4
                                                                 else at(value))),
    "nothing is written": (v.Put, lambda op, at: at(op.state)),
    "written for another slot": (v.Put, lambda op, at: eager._put(op, lambda value: at(value).flip(0)
                                                                  if value is op.update else at(value))),
}


@pytest.mark.parametrize(("kind", "broken"), WRONG.values(), ids=WRONG)
def test_a_wrong_handler_is_caught(kind: Any, broken: Any, monkeypatch: Patch) -> None:
    net = NETWORKS["masked_pixelcnn"]
    program = compiled(net, SHAPE)
    assert error(program, net, SHAPE) < 1e-9
    monkeypatch.setitem(eager.HANDLERS, kind, broken)
    assert not error(program, net, SHAPE) < 1e-9
