"""Graphs of half precision: as close to the network as rounding allows, float32 where it matters, and exact codes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.artifacts import build_part, state_specs
from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.emission.builder import HALVES, GraphBuilder
from pixelsnail_infer.export.emission.graph import Graph, Value
from pixelsnail_infer.export.writing.onnx_writer import write_onnx
from pixelsnail_infer.plan import Plan

from ..gate import compiled
from ..networks import NETWORKS, STRIDED
from ..zoo import First, Network, Sketch, head, hot
from . import models
from .drive import Arrays, Driver, OnnxRuntime
from .eager import Eager
from .held import forward
from .test_vocabulary import SHOW_ALL
from .torch_engines import Fx, Scripted

EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7}
WAYS = [("float16", OnnxRuntime), ("float16", Fx), ("float16", Eager), ("bfloat16", Fx), ("bfloat16", Scripted)]
NAMES = (*SHOW_ALL, "original_pixelsnail", "masked_pixelcnn", "codes_on_a_coarser_grid", "label_one_hot",
         "nested_twice", "strided_condition")
SUMS = (v.Softmax, v.CumulativeSum, v.ArgMax, v.Top)


def inputs(net: Network, batch: int) -> tuple[Any, Arrays]:
    """Images as the graphs take them, and the conditions by name, in float64."""
    torch.manual_seed(batch)
    given = {spec.name: spec.example(batch, torch.float64).numpy() for spec in net.inputs(net.shapes[0])}
    images = given.pop("pixels")
    return (images.transpose(0, 2, 3, 1).copy() if images.ndim == 4 else images), given


def narrow(array: Any) -> Any:
    return array.astype(np.float32) if array.dtype == np.float64 else array


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("precision", "engine"), WAYS, ids=lambda one: getattr(one, "__name__", one))
@pytest.mark.parametrize("name", NAMES)
def test_they_are_the_network_and_may_run_twice(name: str, precision: str, engine: Any, batch: int) -> None:
    """Within 16 distances of numbers at 1, in logits' standard deviations; the worst of all networks has 3.7."""
    net = (NETWORKS | STRIDED)[name]
    driver = Driver(compiled(net, net.shapes[0]), precision, engine)
    images, given = inputs(net, batch)
    expected = forward(net, net.shapes[0], images, given)
    limit = 16 * EPSILON[precision] * expected.std()
    driver.begin(batch, {key: narrow(value) for key, value in given.items()})
    once = driver.replay(narrow(images))
    states = {key: state.copy() for key, state in driver.held.items()}
    assert np.abs(once - expected).max() < limit
    driver.begin(batch, {key: narrow(value) for key, value in given.items()})
    assert np.array_equal(driver.replay(narrow(images), twice=True), once)
    assert all(driver.held[key].tobytes() == state.tobytes() for key, state in states.items())
    assert all(np.isfinite(state.astype(np.float64)).all() for state in states.values())
    score = driver.run("score", pixels=narrow(images), rows=np.full(batch, net.shapes[0][0] // 2))
    assert np.abs(score["logits"] - expected).max() < limit
    assert score["logits"].dtype == score["logprob"].dtype == np.float32


@pytest.fixture(params=["attention", "label", "codes_attention"])
def graphs(request: pytest.FixtureRequest) -> dict[str, Graph]:
    held = replace(models.compiled(request.param), plan=Plan(precision="bfloat16"))
    prologue = [] if request.param == "attention" else ["prologue"]
    return {part: build_part(held, part) for part in ("row", "step", "filtered", "score", *prologue)}


def operations(graph: Graph) -> Iterator[tuple[v.Operation, list[Value], Value]]:
    for step in graph.steps:
        yield step.operation, list(step.operation.operands()), step.results[0]


def test_sums_logits_and_draws_are_float32_and_products_are_not(graphs: dict[str, Graph]) -> None:
    for part, graph in graphs.items():
        products = [result.kind for op, _, result in operations(graph)
                    if isinstance(op, (v.MatMul, v.Linear, v.Convolve))]
        last = part in ("step", "filtered", "score")  # what gives the logits
        assert products.count("wide") == last and ("float" in products or part == "prologue")
        for op, operands, _ in operations(graph):
            if isinstance(op, SUMS) or (isinstance(op, v.Reduce) and op.fn != "max"):
                assert operands[0].kind == "wide", (part, op)
        given = {entry.value.name: entry.value.kind for entry in graph.inputs}
        given |= {output.name: output.value.kind for output in graph.outputs}
        assert {given.get(name, "wide") for name in ("logits", "logprob", "noise", "temperature", "top_p")} == {"wide"}
        half = {name for name, kind in given.items() if kind == "float"}
        assert half == {name for name in given if name == "row_result" or name.startswith(("state.", "prologue."))} - {
            name for name, kind in given.items() if kind == "int" or name.startswith("state.pixels")}


def test_every_constant_is_read(graphs: dict[str, Graph]) -> None:
    """None was made in the one kind to be used in the other."""
    for graph in graphs.values():
        nodes = write_onnx(graph, {}).graph
        read = {name for node in nodes.node for name in node.input}
        assert {tensor.name for tensor in nodes.initializer} <= read


def test_codes_beyond_what_bfloat16_tells_apart_are_kept_exactly() -> None:
    """Of 300 codes bfloat16 would take every second one above 256 for its neighbour."""
    config = replace(models.SMALL, levels=300, shape=(4, 5))
    torch.manual_seed(0)
    module = models.Prior(config).eval().requires_grad_(False)
    held = models.compile_model(module, lambda net, pixels: net(pixels),
                                (models.InputSpec("pixels", config.shape, torch.int64, 300),), config.shape)
    assert {spec.dtype for spec in state_specs(held.layout, "bfloat16") if spec.role == "pixels"} == {"float32"}
    codes = np.random.default_rng(0).integers(257, 300, (2, *config.shape))
    with torch.no_grad():
        expected = module(torch.from_numpy(codes)).permute(0, 2, 3, 1).numpy()
    driver = Driver(held, "bfloat16", Fx)
    driver.begin(2, {})
    assert np.abs(driver.replay(codes) - expected).max() < 16 * EPSILON["bfloat16"] * expected.std()


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_this_is_in_float32(name: str) -> None:
    """No second kind of floating-point value, and no cast from one to the other, in graphs of full precision."""
    net = (NETWORKS | STRIDED)[name]
    held = compiled(net, net.shapes[0])
    for part in ("row", "step", "score"):
        graph = build_part(replace(held, plan=Plan()), part)
        kinds = {value.kind for step in graph.steps for value in step.results} | {i.value.kind for i in graph.inputs}
        assert "wide" not in kinds and {spec.dtype for spec in state_specs(held.layout)} == {"float32"}
        assert not [op for op, operands, result in operations(graph)
                    if isinstance(op, v.Cast) and operands[0].kind == result.kind == "float"]


def test_squares_that_are_summed_do_not_overflow() -> None:
    """A norm by the mean of squares, each beyond 65504: they are float32 because a sum reads them."""
    def run(m: Sketch, x: torch.Tensor) -> torch.Tensor:
        y = 1000 * m.first(hot(x))
        return m.out(y * torch.rsqrt((y * y).mean(1, keepdim=True) + 1e-5))

    net = Network("loud_norm", lambda shape: Sketch(run, first=First(), out=head()), ((3, 4),))
    driver = Driver(compiled(net, net.shapes[0]), "float16", Fx)
    images, _ = inputs(net, 2)
    expected = forward(net, net.shapes[0], images, {})
    driver.begin(2, {})
    assert np.abs(driver.replay(images) - expected).max() < 16 * EPSILON["float16"] * expected.std()


def test_numbers_take_the_kind_of_what_they_are_used_with() -> None:
    g = GraphBuilder("kinds", "float16")
    x, y = g.input("x", "float", ["B", 2]), g.input("y", g.wide, ["B", 2])
    assert g.add(x, 1.0).kind == "float" and g.add(y, 1e10).kind == "wide" and g.mul(x, y).kind == "wide"
    assert g.unary("exp", x).kind == g.binary("pow", x, 2.0).kind == g.reduce("sum", x, 1).kind == "wide"
    assert g.reduce("max", x, 1).kind == g.unary("tanh", x).kind == "float"
    for name, value in (("product", g.mul(x, y)), ("exponential", g.unary("exp", x)), ("sum", g.reduce("sum", x, 1))):
        g.output(name, value, ["B", 2])
    casts = [step.operation for step in g.graph().steps if isinstance(step.operation, v.Cast)]
    assert casts == [v.Cast(x, "wide")]
    plain = GraphBuilder("kinds")
    assert plain.wide == plain.unary("exp", plain.input("x", plain.wide, ["B"])).kind == "float"


@pytest.mark.parametrize(("precision", "number"), [("float16", 7e4), ("bfloat16", 3.4e38)])
def test_a_weight_that_overflows_is_refused(precision: str, number: float) -> None:
    g = GraphBuilder("step", precision)
    g.constant([1.0, float("-inf")])
    with pytest.raises(ModelError, match=f"step graph has a weight of .*, which {precision} cannot hold; choose an"):
        g.constant([1.0, -number])
    assert set(HALVES) == {"float16", "bfloat16"}
