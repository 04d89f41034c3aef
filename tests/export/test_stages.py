"""Who is computed when, and how convolutions are split."""

from __future__ import annotations

import pytest
import torch

from pixelsnail_infer.export.analysis.stages import Stage
from pixelsnail_infer.export.fields import is_held

from .gate import compiled
from .looking import exported, nodes, one, stages, taps
from .networks import NETWORKS, STRIDED, first_canvases
from .zoo import Network, Shape


def test_a_convolution_is_split() -> None:
    found = exported("grouped")
    row, step = nodes(found, "next", "linear")
    assert found.program.stage[row] == Stage.ROW and taps(row) == {(-1, -1), (-1, 0)}
    assert found.program.stage[step] == Stage.BEFORE and taps(step) == {(0, -1), (0, 0)}
    assert row.attrs["bias"] is not None and step.attrs["bias"] is None
    total = one(found, "next", "map")
    assert total.attrs["fn"] == "add" and {e.source for e in total.inputs} == {row, step}


def test_the_split_keeps_every_tap() -> None:
    found = exported("masked_pixelcnn", (9, 8))
    row, step = nodes(found, "a", "lookup")
    assert taps(row) == {(dy, dx) for dy in (-3, -2, -1) for dx in range(-3, 4)}
    assert taps(step) == {(0, -3), (0, -2), (0, -1)}
    module = found.module.get_submodule("a")
    weight, bias = module.weight * module.mask, module.bias  # type: ignore[operator]
    for node in (row, step):
        for (dy, dx), table in node.attrs["taps"].items():
            assert torch.allclose(table[:-1], weight[:, :, dy + 3, dx + 3].T)
    assert torch.equal(row.attrs["bias"], bias)


def test_the_vertical_stack_is_wholly_in_the_row_stage() -> None:
    found = exported("two_stack_pixelcnn")
    for layer in ("one", "two", "three"):
        assert stages(found, nodes(found, f"{layer}.vertical")) == {"ROW"}
        assert stages(found, nodes(found, f"{layer}.link")) == {"ROW"}
        assert stages(found, nodes(found, f"{layer}.horizontal")) == {"BEFORE"}
    gates = [n for n in found.program.order if n.op == "map" and n.attrs["fn"] == "sigmoid"]
    assert [found.program.stage[n].name for n in gates].count("ROW") == 2  # the third layer's is not used


def test_attention_over_rows_above_is_in_the_row_stage() -> None:
    found = exported("over_rows_above")
    assert stages(found, nodes(found, "attention", "key_dot", "key_mix", "key_softmax")) == {"ROW"}
    found = exported("over_rows_up_to_its_own")
    assert stages(found, nodes(found, "own", "key_dot", "key_mix", "key_softmax")) == {"ROW"}
    assert stages(found, nodes(found, "other", "key_mix")) == {"BEFORE"}


def test_what_needs_the_pixel_comes_after_the_draw() -> None:
    found = exported("raw_pixels_in_keys")
    for module in ("mix", "attention.key", "attention.val"):
        assert stages(found, nodes(found, module)) == {"AFTER"}
    assert stages(found, nodes(found, "attention", "key_mix", "key_dot")) == {"BEFORE"}
    assert found.program.stage[found.program.pixel] == Stage.AFTER


def test_conditions_are_in_the_prologue() -> None:
    found = exported("codes_on_a_coarser_grid", (4, 6))
    for module in ("look", "block", "c1", "c2"):
        assert stages(found, nodes(found, module)) == {"PROLOGUE"}
    found = exported("cross_attention")
    assert stages(found, nodes(found, "attention.key")) == {"PROLOGUE"}
    assert stages(found, nodes(found, "attention.query")) == {"BEFORE"}


@pytest.mark.parametrize(("net", "shape"), first_canvases([*NETWORKS.values(), *STRIDED.values()]))
def test_what_every_program_keeps(net: Network, shape: Shape) -> None:
    """Logits before the draw, and no value computed before what it reads."""
    program = compiled(net, shape).program
    assert program.stage[program.output] == Stage.BEFORE
    for node in program.order:
        for edge in node.inputs:
            elsewhere = node.op in ("linear", "lookup", "shift") and (0, 0) not in node.attrs.get("taps", {})
            if not edge.keys and not elsewhere and not is_held(node, edge):
                assert program.stage[edge.source] <= program.stage[node], (edge.source, node)
