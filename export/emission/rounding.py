"""In a graph of half precision, what every node takes and gives: products half precision, but for those of exact values
and those that give logits; elementwise operations float32 where an operand is, or where `wide_values` says so.

In a graph of int8 the products that were calibrated take and weigh what lies on a grid, and all else is float32."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pixelsnail_infer.export.analysis.stages import Program
from pixelsnail_infer.export.analysis.widths import is_exact, wide_values
from pixelsnail_infer.export.emission.builder import MOST, GraphBuilder, Operand
from pixelsnail_infer.export.emission.graph import Kind, Value
from pixelsnail_infer.export.fields import Node

__all__ = ["Rounding"]


SMALLEST = 1e-30  # a column of zeros has a step too


class Rounding:
    """Of one graph. In float32 and float64 nothing is done to any value."""

    def __init__(self, program: Program, graph: GraphBuilder) -> None:
        self.graph = graph
        self.wide = wide_values(program) if graph.half else set[Node]()

    def operands(self, node: Node, laid_out: Callable[[Node, Kind], Value]) -> list[Value]:
        """What an elementwise or channel operation reads, floating-point values of one kind. `laid_out` gives a source;
        constants of the kind that it is told, so that none is rounded on its way to float32."""
        g, sources = self.graph, [edge.source for edge in node.inputs]
        if not g.half:
            return [laid_out(source, "float") for source in sources]
        late = {source: laid_out(source, "float") for source in sources if source.op != "const"}
        wide = node in self.wide or any(value.kind == "wide" for value in late.values())
        kind = g.wide if wide else "float"
        return [g.as_kind(late[source], kind) if source in late else laid_out(source, kind) for source in sources]

    def together(self, node: Node, args: list[Value]) -> list[Value]:
        """The same for operands that are there already."""
        return self.graph.alike([self.graph.widened(arg) if node in self.wide else arg for arg in args])

    def factor(self, node: Node, value: Value) -> Value:
        """`value` as the product `node` takes it, and so computes and weighs it."""
        if node in self.graph.scales:
            return self.graph.on_grid(value, self.graph.scales[node])
        if node in self.wide or (self.graph.half and is_exact([node.inputs[0].source])):
            return self.graph.widened(value)
        return self.graph.as_kind(value, "float")

    def weight(self, node: Node, weight: torch.Tensor) -> Operand:
        """`weight [in, out]` as the product `node` takes it: of int8 with a step for each of the node's outputs, the
        same for all of its taps."""
        if node not in self.graph.scales:
            return weight
        return self.graph.grid_constant(weight, self._steps(node))

    def bias(self, node: Node, bias: torch.Tensor) -> Operand:
        """`bias [out]` as engines add it to a product of int8: in whole steps of that."""
        if node not in self.graph.scales:
            return bias
        return self.graph.grid_constant(bias, self._steps(node) * self.graph.scales[node])

    @staticmethod
    def _steps(node: Node) -> torch.Tensor:
        """Of the weights, `[out]`."""
        most = torch.stack([tap.abs().amax(1) for tap in node.attrs["taps"].values()]).amax(0)  # taps are [out, in]
        return most.clamp_min(SMALLEST) / MOST

    def settled(self, node: Node, value: Value) -> Value:
        """What the product `node` gives: rounded, unless it gives logits. Shifts are no products."""
        if node.op == "shift":
            return value
        return self.graph.widened(value) if node in self.wide else self.graph.as_kind(value, "float")
