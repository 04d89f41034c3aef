"""Products that do not wait for each other, as one: PyTorch runs a batch of products faster than each by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pixelsnail_infer.export.emission.graph import Graph, Operation, Value
from pixelsnail_infer.export.emission.vocabulary import Concat, Constant, MatMul, Slice

__all__ = ["LayerProducts", "Products", "stacked"]


@dataclass(frozen=True, slots=True)
class Products(Operation):
    """Each of `values [B, in]` times its own of `weights [in, out]`, side by side: `[B, len(values) out]`."""

    values: tuple[Value, ...]
    weights: tuple[Constant, ...]


@dataclass(frozen=True, slots=True)
class LayerProducts(Operation):
    """`value [B, M, n, in]`, each of its M layers times its own of `weights [in, out]`: `[B, M, n, out]`."""

    value: Value
    weights: tuple[Constant, ...]


def stacked(graph: Graph) -> Graph:
    """The graph with a `Products` or `LayerProducts` in the place of every concatenation of nothing but products of
    pieces with weights of one shape."""
    made = {result: step.operation for step in graph.steps for result in step.results}
    uses = Counter(operand for step in graph.steps for operand in step.operation.operands())
    uses.update(output.value for output in graph.outputs)
    found = {step.results[0]: products for step in graph.steps
             if (products := _products(step.operation, made, uses)) is not None}
    gone = {value for result in found for value in made[result].operands()}
    steps = [replace(step, operation=found.get(step.results[0], step.operation)) for step in graph.steps
             if step.results[0] not in gone]
    return replace(graph, steps=tuple(steps))


def _products(operation: Operation, made: dict[Value, Operation], uses: Counter[Value]
              ) -> Products | LayerProducts | None:
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
    if weights[0].array.ndim != 2 or len({weight.array.shape for weight in weights}) > 1:
        return None
    if (whole := _cut(values, made)) is None:
        return Products(tuple(values), tuple(weights))
    # of a matrix with one column each, which nothing tells from layers, they are left as they are
    return LayerProducts(whole, tuple(weights)) if len(weights[0].array) > 1 else None


def _cut(values: Sequence[Value], made: dict[Value, Operation]) -> Value | None:
    """What these are the layers of along axis 1, one after the other."""
    cuts = [cut for value in values if isinstance(cut := made.get(value), Slice)]
    wanted = [Slice(cuts[0].value, k, k + 1, 1) for k in range(len(values))] if cuts else []
    return cuts[0].value if wanted and cuts == wanted else None
