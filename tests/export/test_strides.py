"""Values of coarser lattices: where they are computed, what is held, and that the gate sees when either is wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn
from torch.nn import functional as F

from pixelsnail_infer.export.analysis.stages import Stage
from pixelsnail_infer.export.fields import Node, is_held, phase_of, reads
from pixelsnail_infer.export.lattice import ceiled, cells, floored, is_live

from .gate import TOLERANCE, Exported, compiled
from .looking import exported, nodes, of_module, one, taps
from .zoo import LEVELS, STRIDED, First, Sketch, conv, down, head, hot, right
from .zoo_strides import Halved


def merges(found: Exported) -> list[Node]:
    return [node for node in found.program.order if node.op == "merge"]


def test_the_lattice_of_a_stride() -> None:
    assert [is_live((row, 3), (2, 3)) for row in (0, 1, 2)] == [True, False, True]
    assert (floored((-1, 4), (2, 3)), ceiled((-1, 4), (2, 3))) == ((-2, 3), (0, 6))
    assert cells((6, 9), (2, 3)) == (3, 3)


def test_frames_count_positions_and_offsets_are_pixels() -> None:
    found = exported("one_level", (4, 6))
    strides = {node.stride for node in found.program.order if node.pixel}
    assert strides == {(1, 1), (2, 2)}
    assert all(node.frame == cells((4, 6), node.stride) for node in found.program.order if node.pixel)
    down_, own = one(found, "levels.above.conv", "linear"), nodes(found, "levels.own.conv", "linear")
    assert taps(down_) == {(dy, dx) for dy in (-1, 0) for dx in (-1, 0, 1)}  # of pixels
    assert set().union(*map(taps, own)) == {(-2, -2), (-2, 0), (0, -2), (0, 0)}  # of neighbours, two pixels apart


def test_what_pixels_between_need_is_held() -> None:
    found = exported("one_level", (4, 6))
    (above,) = (node for node in merges(found) if node.where.module == "levels.up_above.up")
    assert [phase_of(above, edge) for edge in above.inputs] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [is_held(above, edge) for edge in above.inputs] == [False, True, True, True]
    assert [reads(above, edge) for edge in above.inputs] == [[(0, 0)], [(0, -1)], [(-1, 0)], [(-1, -1)]]
    held = [edge.source for edge in above.inputs if found.program.stage[edge.source] == Stage.ROW
            and edge.source in found.kept]
    assert held == [above.inputs[2].source, above.inputs[3].source]  # in a live row the whole row is known
    assert all(found.kept[node].held and found.kept[node].row_reads and found.kept[node].rows == 0 for node in held)


def test_a_stride_of_columns_holds_nothing_of_the_row_stage() -> None:
    found = exported("columns_only", (3, 6))
    assert merges(found)
    assert not [node for node, entry in found.kept.items() if entry.held and found.program.stage[node] == Stage.ROW]


def test_upsampling_reads_one_value_at_all_phases() -> None:
    found = exported("repeated_rows_and_columns", (4, 6))
    sources = {edge.source for node in merges(found) for edge in node.inputs}
    assert {node.stride for node in sources} == {(2, 2), (1, 2)}  # rows first, then columns
    assert all(len({edge.source for edge in node.inputs}) == 1 for node in merges(found))


def test_a_block_that_begins_elsewhere_is_read_on_its_own_lattice() -> None:
    found = of_module(Sketch(lambda m, x: m.out(right(F.interpolate(m.coarse(m.first(hot(x))), scale_factor=2))),
                             first=First(), coarse=Halved((2, 2), both=False), out=head()), (4, 6))
    (merge,) = merges(found)
    assert all((edge.dy, edge.dx) == (0, 0) for edge in merge.inputs)
    shifts = {edge.source for edge in merge.inputs if edge.source.op == "shift"}
    assert [(node.stride, node.inputs[0].dy, node.inputs[0].dx) for node in shifts] == [((2, 2), 0, -2)]
    assert found.error() < TOLERANCE


def test_a_value_that_sees_its_own_pixel_is_held_for_the_next() -> None:
    """Computed behind the draw of its live pixel, read before the draw of the next one."""
    found = of_module(Sketch(lambda m, x: m.out(right(F.interpolate(m.coarse(hot(x)), scale_factor=(1, 2)))),
                             coarse=conv(LEVELS, kernel=1, stride=(1, 2)), out=head()), (2, 6))
    (merge,) = merges(found)
    assert found.program.stage[merge] == Stage.BEFORE
    assert found.program.stage[one(found, "coarse", "lookup")] == Stage.AFTER
    assert found.error() < TOLERANCE and found.error(at_once=True) < TOLERANCE


def test_a_coarser_reader_needs_its_source_at_its_own_pixel() -> None:
    """Not at the end of its block: the last row of the source is read by nobody, and yet it is not computed later."""
    found = exported("one_level", (4, 6))
    assert all(dy <= 0 for node in found.program.order for edge in node.inputs if edge.source.pixel and not edge.keys
               for dy, _ in reads(node, edge))


@pytest.mark.parametrize("name", STRIDED)
def test_there_is_no_wavefront(name: str) -> None:
    found = compiled(STRIDED[name], STRIDED[name].shapes[0])
    assert found.wave is None and "has no wavefront" in found.waveless


def test_compiled_to_the_end_it_is_the_same() -> None:
    net = STRIDED["nested_twice"]
    made = exported("nested_twice", net.shapes[0])
    result = compiled(net, net.shapes[0])
    made.program, made.kept = result.program, result.kept
    assert made.error(1) < TOLERANCE


def _nothing_held(found: Exported) -> None:
    for entry in found.kept.values():
        entry.held = False


def _read_by_nobody(found: Exported) -> None:
    for entry in found.kept.values():
        if entry.held:
            entry.row_reads = entry.step_reads = False


def _phases_swapped(found: Exported) -> None:
    for node in merges(found):
        node.inputs.reverse()


def _another_lattice(found: Exported) -> None:
    node = next(n for n in found.program.order if n.stride == (2, 2) and n.op == "linear")
    step = node.inputs[0].source.stride[1]
    node.attrs["taps"] = {(dy, dx - step): tap for (dy, dx), tap in node.attrs["taps"].items()}


MUTATIONS: list[Callable[[Exported], None]] = [_nothing_held, _read_by_nobody, _phases_swapped, _another_lattice]


@pytest.mark.parametrize("at_once", [False, True], ids=["positions", "rows"])
@pytest.mark.parametrize("break_it", MUTATIONS)
def test_the_gate_sees_a_wrong_lattice(break_it: Callable[[Exported], None], at_once: bool) -> None:
    found = exported("one_level", (4, 6))
    break_it(found)
    assert not found.error(1, at_once) < TOLERANCE


def test_a_held_row_is_needed_between() -> None:
    """Upsampled rows that nothing keeps give NaN between the live ones, and only there."""
    module: nn.Module = Sketch(lambda m, x: m.out(F.interpolate(m.coarse(down(m.first(hot(x)))), scale_factor=(2, 1))),
                               first=First(), coarse=Halved((2, 2), (2, 1), both=False), out=head())
    found = of_module(module, (4, 5))
    assert found.error() < TOLERANCE
    assert [entry.held for entry in found.kept.values()].count(True) == 1
    _nothing_held(found)
    assert not found.error() < TOLERANCE
