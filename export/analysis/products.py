"""Products of the step that may be one: those that read one value, and those whose results are added.

Every product of one pixel is a round of all threads, and costs a few microseconds beside its weights.
"""

from __future__ import annotations

import torch

from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.fields import Edge, Node, consumers

__all__ = ["join_products"]

HERE = (0, 0)


def join_products(program: Program) -> None:
    """Rewrite `program` in place. Values change by rounding alone."""
    _join_sums(program)
    _join_readers(program)
    program.refresh()


def _join_sums(program: Program) -> None:
    """A a + B b as (A B) times a and b one after the other."""
    readers = consumers(program.order)
    for node in program.of(Stage.BEFORE, Stage.AFTER):
        if node.op != "map" or node.attrs["fn"] != "add" or len(node.inputs) != 2 or node in program.guard:
            continue
        first, second = (edge.source for edge in node.inputs)
        if first is second or not all(_plain(program, one) and len(readers[one]) == 1 for one in (first, second)):
            continue
        sources = [one.inputs[0].source for one in (first, second)]
        stage = max(program.stage[one] for one in (first, second))
        if first.channels != second.channels or sources[0].dtype != sources[1].dtype:
            continue
        sizes = sum(one.channels[0] for one in sources)
        both = Node("cat", [Edge(one) for one in sources], node.frame, (sizes,), sources[0].dtype, node.where, None,
                    {"axis": 0}, True, any(one.condition for one in sources), node.stride)
        _register(program, both, sources, stage)
        tap = torch.cat([one.attrs["taps"][HERE] for one in (first, second)], 1)
        biases = [one.attrs["bias"] for one in (first, second) if one.attrs["bias"] is not None]
        node.op, node.inputs = "linear", [Edge(both)]
        node.attrs = {"taps": {HERE: tap}, "bias": sum(biases[1:], biases[0]) if biases else None}
    program.refresh()


def _join_readers(program: Program) -> None:
    """A a and B a as slices of one product."""
    groups: dict[tuple[Node, Stage], list[Node]] = {}
    for node in program.of(Stage.BEFORE, Stage.AFTER):
        if _plain(program, node) and node not in (program.output, program.pixel):
            groups.setdefault((node.inputs[0].source, program.stage[node]), []).append(node)
    for (source, stage), nodes in groups.items():
        if len(nodes) < 2:
            continue
        taps, size = [node.attrs["taps"][HERE] for node in nodes], sum(node.channels[0] for node in nodes)
        biases = [tap.new_zeros(len(tap)) if node.attrs["bias"] is None else node.attrs["bias"]
                  for node, tap in zip(nodes, taps, strict=True)]
        bias = None if all(node.attrs["bias"] is None for node in nodes) else torch.cat(biases)
        first = nodes[0]
        joined = Node("linear", [Edge(source)], first.frame, (size,), first.dtype, first.where, None,
                      {"taps": {HERE: torch.cat(taps)}, "bias": bias}, True, source.condition, first.stride)
        _register(program, joined, [source], stage)
        start = 0
        for node in nodes:
            node.op, node.inputs = "slice", [Edge(joined)]
            node.attrs = {"axis": 0, "start": start, "size": node.channels[0]}
            start += node.channels[0]


def _plain(program: Program, node: Node) -> bool:
    """A product of the step with the pixel's own value, a vector, and nothing else."""
    if node.op != "linear" or program.stage[node] < Stage.BEFORE or node in program.guard or len(node.channels) != 1:
        return False
    source = node.inputs[0].source
    own = list(node.attrs["taps"]) == [HERE] and len(source.channels) == 1 and source.stride == node.stride
    return own and source.pixel and program.stage[source] >= Stage.BEFORE and node.frame is not None


def _register(program: Program, node: Node, sources: list[Node], stage: Stage) -> None:
    seen = [latest for latest in (program.latest[one] for one in sources) if latest is not None]
    program.latest[node] = max(seen) if seen else None
    program.stage[node] = stage
