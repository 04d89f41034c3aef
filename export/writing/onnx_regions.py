"""A region as an ONNX `If`: its operations in one branch, and in the other what stands in for their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from onnx import GraphProto, NodeProto, helper

from pixelsnail_infer.export.emission.builder import FLOATS
from pixelsnail_infer.export.emission.graph import Region, Step, Value
from pixelsnail_infer.export.emission.regions import Work, held_instead
from pixelsnail_infer.export.writing.onnx_nodes import Nodes

__all__ = ["branches", "write_region"]


def write_region(w: Nodes, work: Work, home: Mapping[Value, Region | None], write: Callable[[Nodes, Step], None]
                 ) -> None:
    """Append the `If`; `home` tells the region of every value of the graph, and `write` spells a step."""
    with w.branch() as nodes:
        for step in work.steps:
            write(w, step)
        live = _own(w, nodes, [w[value] for value in work.leaving])
    held = {result: held_instead(step, home) for step in work.steps for result in step.results}
    with w.branch() as others:
        dead = [w.copy(_stead(w, value, held[value])) for value in work.leaving]
    w.module = ""
    then, other = (_graph(w, f"{work.region.name}.{name}", body, names, work.leaving)
                   for name, body, names in (("live", nodes, live), ("else", others, dead)))
    names = w.append("If", len(work.leaving), [w[work.region.live]], then_branch=then, else_branch=other)
    w.names.update(zip(work.leaving, names, strict=True))


def branches(node: NodeProto) -> list[GraphProto]:
    """The graphs that a node holds."""
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _stead(w: Nodes, value: Value, held: Value | None) -> str:
    """What a value is where its region is not live; a number of its type, if nobody asks then."""
    return w[held] if held is not None else w.number(False if value.kind == "bool" else 0.0 if value.kind in FLOATS
                                                     else 0, value.kind)


def _own(w: Nodes, nodes: Sequence[NodeProto], names: Sequence[str]) -> list[str]:
    """The names as results of these nodes, every one another."""
    made, found = {name for node in nodes for name in node.output}, list[str]()
    for name in names:
        found.append(name if name in made and name not in found else w.copy(name))
    return found


def _graph(w: Nodes, name: str, nodes: Sequence[NodeProto], results: Sequence[str], values: Sequence[Value]
           ) -> GraphProto:
    outputs = [helper.make_tensor_value_info(result, w.type_of(value.kind), None)
               for result, value in zip(results, values, strict=True)]
    return helper.make_graph(nodes, name, [], outputs)
