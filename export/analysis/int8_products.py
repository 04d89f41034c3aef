"""Which products int8 is for. Nothing here depends on the plan."""

from __future__ import annotations

from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.fields import Node

__all__ = ["int8_products"]

FEWEST = 16  # numbers that a product adds up, and results: below, rounding costs more than it saves
PRODUCTS = ("linear", "lookup")


def int8_products(program: Program) -> list[Node]:
    """The products of rows and steps that stand between two others. The first that a pixel goes through see codes or
    grey levels, which int8 could not tell apart; the last give logits; conditions are worked on once an image."""
    behind: dict[Node, bool] = {}  # a product that sees pixels
    for node in program.order:
        sources = [edge.source for edge in node.inputs]
        behind[node] = any(source.pixel and (source.op in PRODUCTS or behind[source]) for source in sources)
    last = _last(program.output)
    return [node for node in program.order if node.op == "linear" and node.frame is not None and behind[node]
            and program.stage[node] > Stage.PROLOGUE and node not in last and _is_large(node)]


def _last(output: Node) -> set[Node]:
    """The products that no other follows on some way to the output."""
    found, seen, left = set[Node](), set[Node](), [output]
    while left:
        node = left.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op in PRODUCTS:
            found.add(node)
        else:
            left += [edge.source for edge in node.inputs]
    return found


def _is_large(node: Node) -> bool:
    taps = list(node.attrs["taps"].values())
    given, taken = taps[0].shape
    return len(taps) * taken >= FEWEST and given >= FEWEST
