"""The latest pixel that each value sees, counted by hand."""

from __future__ import annotations

import pytest
from torch import nn
from torch.nn import functional as F

from .looking import exported, nodes, of_module, one
from .zoo import LEVELS, DownRight, First, Masked, Sketch, conv, down, head, hot, right


def test_taps_add_up() -> None:
    found = exported("shifted_after_bias")
    latest = found.program.latest
    assert latest[one(found, "first.above")] == (-1, 1)  # a 2x3 kernel, shifted down one row
    assert latest[one(found, "first.left")] == (0, -1)
    assert latest[one(found, "first", "map")] == (0, -1)  # the later of the two in raster order
    assert latest[found.program.pixel] == (0, 0)
    assert latest[found.program.output] == (0, -1)


def test_rows_win_over_columns() -> None:
    """(-1, +3) is earlier than (0, -1), whatever the columns."""
    module = Sketch(lambda m, x: m.out(F.elu(m.wide(down(hot(x))) + m.left(right(hot(x), 2)))),
                    wide=conv(LEVELS, kernel=(1, 7), padding=(0, 3)), left=conv(LEVELS), out=head())
    found = of_module(module)
    assert found.program.latest[one(found, "wide")] == (-1, 3)
    assert found.program.latest[found.program.output] == (0, -2)


def test_zero_taps_are_not_seen() -> None:
    found = exported("zero_taps")
    assert found.program.latest[one(found, "first", "map")] == (0, -1)
    module = Sketch(lambda m, x: m.out(m.a(hot(x))), a=Masked("A", LEVELS, 6, 5), out=head())
    module.a.weight.data[:, :, 2] = 0  # the whole current row
    module.a.weight.data[:, :, 1, 3:] = 0
    found = of_module(module)
    assert found.program.latest[one(found, "a")] == (-1, 0)


def test_layers_compose() -> None:
    """Three layers down-right of a vertical stack: each sees one column further right, in the row above."""
    found = exported("two_stack_pixelcnn")
    seen = [found.program.latest[one(found, f"{name}.vertical")] for name in ("one", "two", "three")]
    assert seen == [(-1, 1), (-1, 2), (-1, 3)]


def test_attention_adds_its_lag() -> None:
    found = exported("strict_start_mask")
    assert found.program.latest[one(found, "attention", "key_mix")] == (0, -1)  # its queries see that much
    found = exported("over_rows_above")
    mix = one(found, "attention", "key_mix")
    assert found.program.latest[mix] == (-1, 1)  # the query's own; keys of the row above see (-2, 1) + column 4
    found = exported("over_rows_up_to_its_own")
    assert found.program.latest[one(found, "own", "key_mix")] == (-1, 1 + 4)


def test_strict_attention_over_raw_pixels_sees_the_last_one() -> None:
    found = exported("raw_pixels_in_keys")
    assert found.program.latest[one(found, "attention.key")] == (0, 0)
    assert found.program.latest[one(found, "attention", "key_mix")] == (0, -1)


def test_what_sees_no_pixel_has_none() -> None:
    found = exported("label_map")
    node = one(found, "c1", "linear")
    assert found.program.latest[node] is None
    assert node.condition and not node.pixel


@pytest.mark.parametrize("by", [1, 2, 3])
def test_shifts_move_it(by: int) -> None:
    first: nn.Module = DownRight(LEVELS)
    found = of_module(Sketch(lambda m, x: m.out(right(F.elu(m.a(hot(x))), by)), a=first, out=head()))
    assert found.program.latest[found.program.output] == (0, -by)
    assert found.program.latest[nodes(found, "a.conv")[-1]] == (0, -by)  # computed as late as its reader allows


def test_the_first_layer_alone() -> None:
    found = of_module(Sketch(lambda m, x: m.first(hot(x)), first=First(LEVELS)))
    assert found.program.latest[found.program.output] == (0, -1)
