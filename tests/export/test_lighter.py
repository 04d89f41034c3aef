"""The step has less to do for the same numbers: the gate holds every network's; here is what became of its nodes."""

from __future__ import annotations

import torch

from pixelsnail_infer.export.analysis.stages import Stage
from pixelsnail_infer.export.artifacts import build_part
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.emission import vocabulary as v
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Graph
from pixelsnail_infer.export.fields import Node

from .gate import compiled
from .networks import NETWORKS


def of(name: str) -> Compiled:
    return compiled(NETWORKS[name], NETWORKS[name].shapes[0])


def step_of(name: str) -> Graph:
    return build_part(of(name), "step")


def found(held: Compiled, *ops: str) -> list[Node]:
    return [node for node in held.program.order if node.op in ops]


def test_scores_are_not_scaled_one_by_one() -> None:
    held = of("strict_start_mask")
    (dot,) = found(held, "key_dot")
    readers = [node for node in held.program.order if any(edge.source is dot for edge in node.inputs)]
    assert [node.attrs["fn"] for node in readers] == ["where"]  # nothing between the product and the mask
    assert not any(node.keys and node.attrs.get("fn") in ("mul", "div") for node in held.program.order)


def test_a_query_factor_is_in_its_weights() -> None:
    held = of("strict_start_mask")
    (dot,) = found(held, "key_dot")
    assert _above(dot.inputs[0].source)[-1].op == "linear"


def _above(node: Node) -> list[Node]:
    """From `node` up to the product that it is made of."""
    chain = [node]
    while chain[-1].op not in ("linear", "map"):
        chain.append(chain[-1].inputs[0].source)
    return chain


def test_a_factor_of_the_query_is_taken_behind_the_weighted_sum() -> None:
    held = of("strict_start_mask")
    (mix,) = found(held, "key_mix")
    assert mix.inputs[0].source.op == "key_softmax"
    (after,) = [node for node in held.program.order if any(edge.source is mix for edge in node.inputs)]
    assert after.attrs["fn"] == "mul" and after.channels == mix.channels


def test_products_of_one_value_are_one() -> None:
    held = of("strict_start_mask")
    (dot,), (mix,) = found(held, "key_dot"), found(held, "key_mix")
    sources = {_above(edge.source)[-1] for edge in (*dot.inputs, mix.inputs[1])}
    assert len(sources) == 1 and sources.pop().op == "linear"


def test_products_that_are_added_are_one() -> None:
    held = of("products_added")
    joined = [node for node in found(held, "linear") if node.inputs[0].source.op == "cat"]
    assert len(joined) == 1 and not [node for node in found(held, "map") if node.attrs["fn"] == "add"
                                     and all(_plain(held.program.stage, edge.source) for edge in node.inputs)]


def _plain(stage: dict[Node, Stage], node: Node) -> bool:
    if node.op != "linear" or stage[node] < Stage.BEFORE or list(node.attrs["taps"]) != [(0, 0)]:
        return False
    return len(node.channels) == 1 and stage[node.inputs[0].source] >= Stage.BEFORE


def test_a_mask_of_all_heads_is_made_once_and_added() -> None:
    steps = step_of("strict_start_mask").steps
    (softmax,) = [step.operation for step in steps if isinstance(step.operation, v.Softmax)]
    made = {result: step.operation for step in steps for result in step.results}
    added = made[softmax.value]
    assert isinstance(added, v.Binary) and added.fn == "add" and isinstance(made[added.b], v.Where)


def test_only_the_last_of_two_shapes_counts() -> None:
    graph = GraphBuilder("sketch")
    value = graph.input("x", "float", ["B", 2, 6])
    shaped = graph.reshape(graph.reshape(value, [0, 0, 3, 2]), [0, 0, 0, 1, 2])
    graph.output("y", shaped, ["B", 2, 3, 1, 2])
    (step,) = graph.graph().steps
    assert isinstance(step.operation, v.Reshape) and step.operation.shape == (0, 0, 3, 1, 2)


def test_a_turned_mask_turns_the_choice() -> None:
    graph = GraphBuilder("sketch")
    mask, x, y = graph.input("m", "bool", ["B"]), graph.input("x", "float", ["B"]), graph.input("y", "float", ["B"])
    graph.output("z", graph.where(graph.unary("not", mask), x, y), ["B"])
    (step,) = graph.graph().steps
    assert step.operation == v.Where(mask, y, x)


def test_what_nothing_needs_is_not_in_a_graph() -> None:
    graph = GraphBuilder("sketch")
    value = graph.input("x", "float", ["B"])
    graph.elu(value, 1.0)
    graph.output("y", graph.add(value, torch.ones(1)), ["B"])
    assert not any(isinstance(step.operation, v.Elu) for step in graph.graph().steps)
