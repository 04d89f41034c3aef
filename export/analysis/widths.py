"""Which values must not be rounded where a plan computes in half precision: those that are exact, and those that sums,
softmaxes and logits are made of. Nothing here depends on the plan.

Half precision is for products and what flows between them. A sum over many numbers, a softmax or a logit loses more
than it saves, so what leads up to one is computed in float32 back to the products before it; what follows from one
stays float32 until the next product (`emission.builder` sees to that).
"""

from __future__ import annotations

from collections.abc import Iterable

from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.fields import Node, consumers

__all__ = ["is_exact", "wide_values"]

PASSING = ("map", "cat", "slice", "reshape", "permute", "merge")
MOVING = (*PASSING, "shift", "upsample", "spread", "pool", "tokens")
PRODUCTS = ("linear", "lookup")
SUMS = ("softmax", "log_softmax", "key_softmax", "key_reduce")


def is_exact(values: Iterable[Node]) -> bool:
    """Whether one of the values is a code, a pixel or a condition, or is made of such without a product: half precision
    could not tell neighbouring codes or grey levels apart, so that they are kept as float32."""
    known: dict[Node, bool] = {}
    return any(_exact(node, known) for node in values)


def _exact(node: Node, known: dict[Node, bool]) -> bool:
    if node not in known:
        made_of = [edge.source for edge in node.inputs if edge.source.op != "const"]
        moved = node.op in MOVING and bool(made_of) and all(_exact(source, known) for source in made_of)
        known[node] = node.op == "input" or not node.dtype.is_floating_point or moved
    return known[node]


def wide_values(program: Program) -> set[Node]:
    """The floating-point values of `program` that are computed in float32 because of what they are made of or what
    reads them: sums, softmaxes (by hand too: whatever is done to the weights of attention), and logits. Of the products
    only those that give logits in the step itself are among them."""
    readers = consumers(program.order)
    found = set[Node]()
    for node in program.order:  # what follows from sums
        after = node.keys is not None or any(_sums(edge.source) or edge.source in found for edge in node.inputs)
        if node.op in PASSING and after:
            found.add(node)
    logits = set[Node]()
    for node in reversed(program.order):  # what leads to them
        read_by = [reader for reader, _ in readers[node]]
        if node is program.output or (read_by and all(reader in logits and reader.op in PASSING for reader in read_by)):
            late = program.stage[node] > Stage.ROW  # what the row graph gives is rounded on its way
            if node.op in PASSING or (node.op in PRODUCTS and late):
                logits.add(node)
        elif node.op in PASSING and read_by and all(_sums(reader) or reader in found for reader in read_by):
            found.add(node)
    return {node for node in logits | found if node.dtype.is_floating_point}


def _sums(node: Node) -> bool:
    return node.op in SUMS or (node.op == "reduce" and node.attrs["fn"] != "max")
