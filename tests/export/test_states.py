"""What is kept, and how much of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pixelsnail_infer.export.analysis.states import Kept

from .gate import TOLERANCE
from .looking import exported, of_module
from .zoo import DownRight, First, Sketch, head, hot
from .zoo_attention import start_mask, strict


def test_a_first_layer_keeps_codes_only() -> None:
    found = exported("shifted_after_bias")
    assert found.kept == {found.program.pixel: Kept(rows=2, left=2, right=1, row_reads=True, step_reads=True)}


def test_the_masked_kernel_keeps_its_reach() -> None:
    found = exported("masked_pixelcnn", (9, 8))
    assert found.kept[found.program.pixel] == Kept(rows=3, left=3, right=3, row_reads=True, step_reads=True)
    blocks = [entry for node, entry in found.kept.items() if node is not found.program.pixel]
    assert blocks == [Kept(rows=1, left=1, right=1, row_reads=True, step_reads=True)] * 2


def test_dilation() -> None:
    found = exported("dilated_rows", (6, 5))
    (entry,) = (entry for node, entry in found.kept.items() if node is not found.program.pixel)
    assert (entry.rows, entry.left, entry.right) == (4, 2, 0)


def test_row_values_are_kept_for_the_row_graph_alone() -> None:
    found = exported("two_stack_pixelcnn")
    vertical = [entry for node, entry in found.kept.items() if found.program.stage[node].name == "ROW"]
    assert vertical == [Kept(rows=1, left=1, right=1, row_reads=True)] * 2
    horizontal = [entry for node, entry in found.kept.items() if found.program.stage[node].name == "BEFORE"]
    assert horizontal == [Kept(left=1, step_reads=True)] * 2


def test_strict_caches() -> None:
    found = exported("strict_start_mask")
    caches = [entry for entry in found.kept.values() if entry.cache]
    assert sorted(entry.cache for entry in caches) == ["keys", "values"]
    assert not any(entry.inclusive or entry.canvas for entry in caches)


def test_inclusive_caches_are_written_before_they_are_read() -> None:
    found = exported("inclusive_plain_fill")
    assert [entry.inclusive for entry in found.kept.values() if entry.cache] == [True, True]


def test_one_value_as_keys_and_values_on_a_canvas_too() -> None:
    """The same node read by attention and by taps is kept once, for both."""
    mask = strict((4, 5))

    def run(m: Sketch, x: Tensor) -> Tensor:
        y = torch.tanh(m.first(hot(x)))
        flat = y.flatten(2).transpose(1, 2)
        mixed = start_mask(flat @ flat.transpose(1, 2), mask) @ flat
        return m.out(m.next(y) + mixed.transpose(1, 2).view_as(y))

    module: nn.Module = Sketch(run, first=First(), next=DownRight(), out=head())
    found = of_module(module.double().eval())
    assert found.error() < TOLERANCE
    entries = [entry for entry in found.kept.values() if entry.cache]
    assert any(entry.canvas for entry in entries)
