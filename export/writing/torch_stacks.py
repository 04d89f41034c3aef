"""Products that do not wait for each other, as one: PyTorch runs a batch of products faster than each by itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from pixelsnail_infer.export.emission.graph import Graph, Operation, Value
from pixelsnail_infer.export.emission.vocabulary import Concat, Constant, MatMul

__all__ = ["Products", "stacked"]


@dataclass(frozen=True, slots=True)
class Products(Operation):
    """Each of `values [B, in]` times its own of `weights [in, out]`, side by side: `[B, len(values) out]`."""

    values: tuple[Value, ...]
    weights: tuple[Constant, ...]


def stacked(graph: Graph) -> Graph:
    """The graph with a `Products` in the place of every concatenation of nothing but products of pieces with weights of
    one shape."""
    made = {result: step.operation for step in graph.steps for result in step.results}
    uses = Counter(operand for step in graph.steps for operand in step.operation.operands())
    uses.update(output.value for output in graph.outputs)
    found = {step.results[0]: products for step in graph.steps
             if (products := _products(step.operation, made, uses)) is not None}
    gone = {value for result in found for value in made[result].operands()}
    steps = [replace(step, operation=found.get(step.results[0], step.operation)) for step in graph.steps
             if step.results[0] not in gone]
    return replace(graph, steps=tuple(steps))


def _products(operation: Operation, made: dict[Value, Operation], uses: Counter[Value]) -> Products | None:
    if not isinstance(operation, Concat) or operation.axis != 1 or len(operation.values) < 2:
        return None
    values, weights = [], []
    for value in operation.values:
        product = made.get(value)
        weight = made.get(product.b) if isinstance(product, MatMul) else None
        if not (isinstance(product, MatMul) and isinstance(weight, Constant) and uses[value] == 1):
            return None
        values.append(product.a)
        weights.append(weight)
    one_shape = weights[0].array.ndim == 2 and len({weight.array.shape for weight in weights}) == 1
    return Products(tuple(values), tuple(weights)) if one_shape else None
