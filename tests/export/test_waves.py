"""The wavefront program: its slope, its span, its rings, and what has none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pixelsnail_infer.distributions import Categorical
from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export import compile as compiling
from pixelsnail_infer.export.analysis import lead as leading
from pixelsnail_infer.export.analysis import wave as analysis
from pixelsnail_infer.export.analysis.canonical import canonical
from pixelsnail_infer.export.analysis.slope import depth_of
from pixelsnail_infer.export.analysis.stages import Program, stage_program
from pixelsnail_infer.export.analysis.wave import Wave, stage_wave
from pixelsnail_infer.export.compile import stage_field
from pixelsnail_infer.export.fields import Node
from pixelsnail_infer.export.proofs.wave_order import run_waves
from pixelsnail_infer.export.schedules import check_schedule, waves_noted
from pixelsnail_infer.plan import Plan
from pixelsnail_infer.wave import live_rows, most_live, wave_count

from .gate import compiled, lowered
from .networks import NETWORKS, first_canvases
from .zoo import LEVELS, Network, Shape

EXACT = 1e-9
WAVING = [net for net in NETWORKS.values() if compiled(net, net.shapes[0]).wave is not None]
CASES = first_canvases(WAVING)
Patch = pytest.MonkeyPatch


def wave_of(net: Network, shape: Shape) -> Wave:
    found = compiled(net, shape).wave
    assert found is not None
    return found


def spanned(net: Network, shape: Shape, span: int, patch: Patch) -> Wave:
    """The wave with an ahead graph for so many waves."""
    patch.setattr(compiling, "stage_wave", lambda output, shape, prologue: stage_wave(output, shape, prologue, span))
    found = stage_field(lowered(net, shape).field, shape, net.distribution or Categorical(LEVELS), wave=True).wave
    assert found is not None
    return found


def error(wave: Wave, net: Network, shape: Shape, batch: int = 3) -> float:
    """Of the logits in the order of waves; NaN, and a code that nobody knows, count as infinite."""
    torch.manual_seed(batch)
    given = {spec.name: spec.example(batch, torch.float64) for spec in net.inputs(shape)}
    with torch.no_grad():
        expected = net.module(shape)(*(x.clone() for x in given.values())).permute(0, 2, 3, 1)
    seen = torch.full_like(expected, float("nan"))
    try:
        for row, col, logits in run_waves(wave, given):
            seen[:, row, col] = logits
    except IndexError:
        return float("inf")
    difference: Tensor = (seen - expected).abs().nan_to_num(nan=float("inf"))
    return float(difference.max())


@pytest.mark.parametrize(("net", "shape"), CASES)
def test_waves_are_the_network_and_a_slope_less_is_not(net: Network, shape: Shape) -> None:
    wave = wave_of(net, shape)
    assert all(error(wave, net, shape, batch) < EXACT for batch in (1, 3))
    if wave.slope > 0 and min(shape) > 1:
        assert error(replace(wave, slope=wave.slope - 1), net, shape) > EXACT


@pytest.mark.parametrize("span", [2, pytest.param(3, marks=pytest.mark.full)])
def test_what_is_computed_ahead_is_known_then(span: int, monkeypatch: Patch) -> None:
    split = 0
    for net in WAVING:
        wave = spanned(net, net.shapes[0], span, monkeypatch)
        assert error(wave, net, net.shapes[0]) < EXACT, net.name
        split += wave.span > 1
    assert split > len(WAVING) / 4


def test_a_span_too_long_is_seen(monkeypatch: Patch) -> None:
    net = NETWORKS["masked_pixelcnn"]
    wave = spanned(net, (4, 5), 2, monkeypatch)
    assert wave.span == 2 and error(wave, net, (4, 5)) < EXACT
    assert error(replace(wave, span=3), net, (4, 5)) > EXACT


def test_a_ring_too_small_is_seen() -> None:
    found = []
    for net in WAVING:
        wave, shape = wave_of(net, net.shapes[0]), net.shapes[0]
        for canvas in wave.layout.canvases:
            if 2 < canvas.rows <= shape[0]:
                less = replace(canvas, rows=canvas.rows - 1)
                place = {node: (less if held is canvas else held, k) for node, (held, k) in wave.layout.place.items()}
                smaller = replace(wave, layout=replace(wave.layout, place=place))
                found.append((net.name, error(smaller, net, shape) > EXACT))
    assert all(seen for _, seen in found) and len(found) > 10


@pytest.mark.parametrize(("name", "shape", "slope", "lead"), [
    ("masked_pixelcnn", (4, 5), 4, 0), ("two_stack_pixelcnn", (4, 5), 4, 2), ("shifted_quarters", (4, 5), 2, 1),
    ("looks_ahead_in_rows_above", (4, 5), 4, 3), ("two_stacks_with_maps", (4, 6), 4, 2),
    ("two_stack_pixelcnn", (4, 1), 1, 0), ("two_stack_pixelcnn", (1, 4), 0, 0),
])
def test_slopes_and_leads(name: str, shape: Shape, slope: int, lead: int) -> None:
    wave = wave_of(NETWORKS[name], shape)
    assert (wave.slope, wave.lead) == (slope, lead)
    assert wave.program.shape == (shape[0], shape[1] + lead)


def staged(net: Network, shape: Shape) -> Program:
    return stage_program(canonical(lowered(net, shape).field, shape), split=False)


LEADING = [net for net in WAVING if wave_of(net, net.shapes[0]).lead]


def test_a_lead_too_small_is_seen(monkeypatch: Patch) -> None:
    """Of one value at a time: it reads columns that no wave has reached, or is read so."""
    found, leads_of = [], leading.leads_of
    for net in LEADING:
        shape = net.shapes[0]
        for kept in sorted({*leads_of(staged(net, shape)).values()} - {0}):
            def less(program: Program, kept: int = kept) -> dict[Node, int]:
                leads = leads_of(program)
                late = next(node for node in program.order if leads.get(node) == kept and node.op != "shift")
                return {node: lead - (node is late) for node, lead in leads.items()}

            assert error(spanned(net, shape, 1, monkeypatch), net, shape) < EXACT
            with monkeypatch.context() as patch:
                patch.setattr(leading, "leads_of", less)
                patch.setattr(analysis, "slope_of", lambda program, net=net: wave_of(net, net.shapes[0]).slope)
                found.append((net.name, kept, error(spanned(net, shape, 1, patch), net, shape) > EXACT))
    assert all(seen for *_, seen in found) and len(found) > 5


@pytest.mark.parametrize("name", ["two_stack_pixelcnn", "two_stacks_with_maps", "valid_after_manual_pad",
                                  "looks_ahead_in_rows_above"])
def test_values_outside_of_their_columns_are_borders(name: str, monkeypatch: Patch) -> None:
    def everywhere(mover: leading._Mover, lead: int, rank: int, like: Node) -> Node:
        node = mask(mover, lead, rank, like)
        node.attrs["value"] = torch.ones_like(node.attrs["value"])
        return node

    mask = leading._Mover._mask
    monkeypatch.setattr(leading._Mover, "_mask", everywhere)
    net = NETWORKS[name]
    assert error(spanned(net, net.shapes[0], 1, monkeypatch), net, net.shapes[0]) > EXACT


@pytest.mark.parametrize(("name", "why"), [
    ("strict_start_mask", "attends to pixels of whole rows"),
])
def test_what_has_no_waves_says_why(name: str, why: str) -> None:
    net = NETWORKS[name]
    found = compiled(net, net.shapes[0])
    assert found.wave is None and why in found.waveless
    with pytest.raises(ModelError, match=f"{why}.*choose --schedule raster"):
        waves_noted("wavefront", "", found)
    (note,) = waves_noted("auto", "", found)
    assert note.startswith("Drawn row by row only: the network has no wavefront: ") and why in note
    assert waves_noted("raster", "", found) == ()


@pytest.mark.parametrize(("plan", "formats", "why"), [
    (Plan(precision="int8"), ("onnx",), "waves are of float32 only"),
    (Plan(), ("torchscript",), "the format torchscript has no waves, only onnx"),
])
def test_plans_and_formats_without_waves(plan: Plan, formats: tuple[str, ...], why: str) -> None:
    assert check_schedule("both", plan, formats) == why
    with pytest.raises(ModelError, match=f"^{why}; choose --schedule raster"):
        check_schedule("wavefront", plan, formats)
    assert check_schedule("wavefront", Plan(), ("onnx", "torchscript")) == ""
    with pytest.raises(ModelError, match="'spiral', expected 'raster', 'auto', 'both' or 'wavefront'"):
        check_schedule("spiral", Plan(), ("onnx",))


def test_rings_are_as_deep_as_rows_are_read() -> None:
    assert depth_of([(-1, 0), (0, -2)], 3, 9) == 2
    assert depth_of([(-4, 2)], 3, 64) == 4  # read before row r + 4 gets there
    assert depth_of([(-4, -2)], 3, 64) == 5
    assert depth_of([(0, -7)], 3, 64) == 3
    assert depth_of([(0, -1)], 0, 6) == 6


@pytest.mark.parametrize("shape", [(4, 5), (1, 7), (6, 1), (5, 5), (3, 8)])
@pytest.mark.parametrize("slope", [0, 1, 3, 9])
def test_waves_hold_every_pixel_once_in_order(shape: Shape, slope: int) -> None:
    drawn = {}
    for time in range(wave_count(shape, slope)):
        rows = live_rows(shape, slope, time)
        assert len(rows) <= most_live(shape, slope)
        for i in rows:
            assert drawn.setdefault((i, time - slope * i), time) == time
    assert sorted(drawn) == [(i, j) for i in range(shape[0]) for j in range(shape[1])]
    live = [len(live_rows(shape, slope, time)) for time in range(wave_count(shape, slope))]
    assert max(live) == most_live(shape, slope)
