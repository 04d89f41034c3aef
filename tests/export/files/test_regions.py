"""Work that a run may leave out: graphs with regions, written with and without conditionals, give the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Graph, Region
from pixelsnail_infer.export.writing.onnx_regions import branches
from pixelsnail_infer.export.writing.onnx_writer import write_onnx
from pixelsnail_infer.export.writing.torch_writer import torch_module
from pixelsnail_infer.runtime.files.unconditional import without_conditions

from .drive import OnnxRuntime
from .eager import Eager

X, HELD = np.array([[1.0, -2.0], [3.0, 4.0]], np.float32), np.array([[7.0, 8.0], [9.0, 10.0]], np.float32)


def two_regions() -> Graph:
    """An outer value, one of a region that is held, and one of a coarser region that is made of the first one's own."""
    torch.manual_seed(0)
    g = GraphBuilder("step")
    x, held, row = g.input("x", "float", ["B", 2]), g.input("held", "float", ["B", 2]), g.input("row", "int", ["B"])
    weight, outer = torch.randn(2, 2), g.unary("relu", x)
    masks, regions = [], []
    for stride in (2, 4):
        rows = g.binary("eq", g.mod(row, stride), 0)
        masks.append(g.unsqueeze(rows, 1))
        live = g.binary("gt", g.reduce("max", g.cast(rows, "int"), 0, keep=True), 0)
        regions.append(Region(f"every.{stride}", (stride, 1), live))
    with g.within(regions[0]):
        loose = g.matmul(outer, weight)
        first = g.where(masks[0], g.unary("tanh", loose), held)
    with g.within(regions[1]):
        second = g.where(masks[1], g.matmul(g.unary("relu", loose), weight), held)
    g.output("first", g.add(first, outer), ["B", 2])
    g.output("second", second, ["B", 2])
    return g.graph()


@pytest.mark.parametrize("rows", [(0, 4), (2, 4), (2, 6), (1, 2), (1, 3)])
def test_writers_with_and_without_conditionals_give_the_same(rows: tuple[int, int]) -> None:
    graph = two_regions()
    feeds = {"x": X, "held": HELD, "row": np.array(rows)}
    eager, conditional = Eager(graph).run(feeds), OnnxRuntime(graph).run(feeds)
    data = without_conditions(write_onnx(graph, {}).SerializeToString())
    plain = ort.InferenceSession(data, providers=["CPUExecutionProvider"]).run(["first", "second"], feeds)
    written = torch_module(graph, {})(*(torch.from_numpy(feeds[name]) for name in ("x", "held", "row")))
    for number, name in enumerate(("first", "second")):
        for found in (conditional[name], plain[number], written[number].numpy()):
            assert np.allclose(found, eager[name], atol=1e-6), name
    for slot, row in enumerate(rows):
        assert np.array_equal(eager["second"][slot], HELD[slot]) == (row % 4 != 0)


def test_a_region_is_one_conditional_and_its_weights_stay_outside() -> None:
    model = write_onnx(two_regions(), {})
    found = [node for node in model.graph.node if node.op_type == "If"]
    assert len(found) == 2 and "MatMul" not in {node.op_type for node in model.graph.node}
    for node in found:
        dead, live = branches(node)
        assert "MatMul" in {one.op_type for one in live.node} and {one.op_type for one in dead.node} == {"Identity"}
        assert not live.initializer and not dead.initializer
    plain = onnx.load_from_string(without_conditions(model.SerializeToString()))
    assert "If" not in {node.op_type for node in plain.graph.node}
    onnx.checker.check_model(plain, full_check=True)


def test_equal_operations_are_one_from_outside_into_a_region_only() -> None:
    g = GraphBuilder("step")
    x = g.input("x", "float", ["B", 2])
    region = Region("r", (2, 1), g.input("live", "bool", [1]))
    with g.within(region):
        inside, half = g.unary("exp", x), g.constant(0.5)
        assert g.unary("exp", x) == inside
    outside = g.unary("exp", x)
    assert outside != inside and g.constant(0.5) == half
    with g.within(region):
        assert g.unary("exp", x) == outside
    with g.within(Region("other", (2, 1), region.live)):
        assert g.unary("tanh", x) not in (inside, outside)


def loose_output(g: GraphBuilder, region: Region) -> None:
    with g.within(region):
        value = g.unary("exp", g.input("x", "float", ["B", 2]))
    g.output("y", value, ["B", 2])


def loose_operand(g: GraphBuilder, region: Region) -> None:
    with g.within(region):
        value = g.unary("exp", g.input("x", "float", ["B", 2]))
    g.output("y", g.unary("tanh", value), ["B", 2])


def finer_reader(g: GraphBuilder, region: Region) -> None:
    with g.within(region):
        value = g.unary("exp", g.input("x", "float", ["B", 2]))
    with g.within(Region("finer", (1, 2), region.live)):
        chosen = g.where(g.input("mask", "bool", ["B", 1]), value, g.input("held", "float", ["B", 2]))
    g.output("y", chosen, ["B", 2])


def written_inside(g: GraphBuilder, region: Region) -> None:
    with g.within(region):
        state = g.write(g.input("s", "float", ["B", 1, 4, 2]), g.input("u", "float", ["B", 1, 1, 2]), g.constant([0]))
    g.output("s.out", state, ["B", 1, 4, 2])


@pytest.mark.parametrize("make", [loose_output, loose_operand, finer_reader, written_inside])
def test_what_leaves_a_region_is_known_where_it_is_not_live(make: Callable[[GraphBuilder, Region], None]) -> None:
    g = GraphBuilder("step")
    make(g, Region("r", (2, 1), g.input("live", "bool", [1])))
    with pytest.raises(AssertionError):
        g.graph()
