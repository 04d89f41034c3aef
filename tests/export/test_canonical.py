"""Demand and the one canvas: where values are evaluated, what they find outside, and where they have not begun."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .gate import TOLERANCE
from .looking import exported, nodes, of_module, one, taps
from .zoo import LEVELS, WIDTH, First, Sketch, conv, down, head, hot, right


def test_a_shifted_value_is_computed_where_it_is_read() -> None:
    found = exported("shifted_after_bias")
    above, left = one(found, "first.above"), one(found, "first.left")
    assert taps(above) == {(dy, dx) for dy in (-2, -1) for dx in (-1, 0, 1)}  # not (-1, 0) rows and a shift
    assert taps(left) == {(0, -2), (0, -1)}
    assert (found.program.guard[above], found.program.guard[left]) == ((1, 0), (0, 1))
    assert all(bool((found.program.border[node] == 0).all()) for node in (above, left))


def test_a_value_read_at_two_offsets_stays_and_is_kept() -> None:
    found = exported("shift_in_the_middle")
    shifts = [node for node in found.program.order if node.op == "shift"]
    assert not shifts  # m.a and m.b are each read at one offset only, so both are moved
    module = Sketch(lambda m, x: m.out((y := F.elu(m.first(hot(x)))) + right(y) * down(y)), first=First(), out=head())
    found = of_module(module)
    offsets = sorted((e.dy, e.dx) for n in found.program.order if n.op == "shift" for e in n.inputs)
    assert offsets == [(-1, 0), (0, -1)]
    assert not found.program.guard.keys() & {n.inputs[0].source for n in found.program.order if n.op == "shift"}


def test_borders_are_what_the_reader_finds() -> None:
    found = exported("activation_after_pad")
    assert sorted(float(b.unique()) for n, b in found.program.border.items() if n.op == "map") == [0.5]
    found = exported("pad_after_activation")
    assert sorted(float(b.unique()) for n, b in found.program.border.items() if n.op == "map") == [0.0]


def test_two_readers_with_two_borders_get_a_copy() -> None:
    found = exported("pad_with_another_value")
    values = [float(border.flatten()[0]) for node, border in found.program.border.items() if node.channels == (WIDTH,)]
    assert sorted(set(values)) == [-0.7, 0.0]


def test_taps_that_never_land_become_bias() -> None:
    found = exported("pad_with_another_value", (1, 4))
    row_or_all = nodes(found, "a", "linear")
    assert all(dy == 0 for node in row_or_all for dy, _ in taps(node))
    plain = found.module.get_submodule("a").bias
    assert not torch.allclose(row_or_all[-1].attrs["bias"], plain)  # type: ignore[arg-type]


def test_a_value_that_is_never_seen_is_a_constant() -> None:
    """On one row, what is shifted down is its border everywhere."""
    found = exported("shifted_after_bias", (1, 4))
    assert not nodes(found, "first.above", "lookup", "linear")


def test_over_sized_outputs_are_cropped() -> None:
    def run(m: Sketch, x: Tensor) -> Tensor:
        y = torch.sigmoid(m.a(hot(x)))  # (H + 4) x (W + 4); canvas (i, j) looks at (i + 1, j)
        return m.out(y[:, :, 1: 1 + x.shape[1], : x.shape[2]])
    found = of_module(Sketch(run, a=conv(LEVELS, kernel=(2, 1), padding=(2, 2)), out=head()))
    assert found.error() < TOLERANCE
    assert set().union(*(taps(node) for node in nodes(found, "a", "lookup"))) == {(-1, -2), (0, -2)}
