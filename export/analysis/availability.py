"""Availability, forward: the latest pixel, in raster order and relative to the position, that each value sees.

Composes exactly through taps that are not zero: the lexicographic maximum of (row, column) offsets. Attention adds the
lags of its support. What must not see a pixel and does is a leak, reported with the chain that leads to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from pixelsnail_infer.errors import NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.analysis.canonical import Canonical
from pixelsnail_infer.export.analysis.phases import sees_itself
from pixelsnail_infer.export.analysis.support import Support, support
from pixelsnail_infer.export.evaluation.weights import attention_nodes
from pixelsnail_infer.export.fields import Edge, Node, Offset, reads, topological

__all__ = ["Availability", "availability", "key_products"]


@dataclass(slots=True)
class Availability:
    """`latest[node]`: the latest pixel seen, None for none. `support[node]`: of every weighted sum."""

    latest: dict[Node, Offset | None]
    support: dict[Node, Support]
    scores: set[Node]


@dataclass(frozen=True, slots=True)
class _Step:
    """Why a value sees its latest pixel: the source it reads and at which offset."""

    source: Node | None
    offset: Offset


def availability(network: Canonical) -> Availability:
    """Analyse the canonical network. Raises `NotCausalError` where a prediction sees its own or a later pixel."""
    order = topological([network.output])
    result = Availability({}, {}, attention_nodes(order))
    if network.output in result.scores:
        raise UnsupportedOpError("numbers reduced from attention scores reach the output outside of a weighted sum.")
    steps: dict[Node, _Step] = {}
    for node in 2 * order:  # once the support is known, scores are as late as the keys that are used
        latest, step = _latest(node, network, result)
        result.latest[node], steps[node] = latest, step
        if latest is not None and latest > (0, 0):
            _refuse_unseen(node, order, network)
            _refuse(node, steps, result)
    seen = result.latest[network.output]
    if seen is not None and seen >= (0, 0):
        _refuse_unseen(network.output, order, network)
        _refuse(network.output, steps, result)
    return result


def _latest(node: Node, network: Canonical, known: Availability) -> tuple[Offset | None, _Step]:
    if node.op == "input" and node.pixel:
        return network.shift[node], _Step(None, (0, 0))
    best: Offset | None = None
    step = _Step(None, (0, 0))
    if not node.pixel:
        return best, step
    for edge, offset in _offsets(node, network, known):
        own = known.latest[edge.source]
        if own is None or not edge.source.pixel:
            continue
        found = (own[0] + offset[0], own[1] + offset[1])
        if best is None or found > best:
            best, step = found, _Step(edge.source, offset)
    return best, step


def _offsets(node: Node, network: Canonical, known: Availability) -> list[tuple[Edge, Offset]]:
    if node.op == "key_dot":
        query, keys = node.inputs
        lags = [reach.keys for mix, reach in known.support.items() if (node, keys) in key_products(mix)]
        return [(query, (query.dy, query.dx)), *((keys, lag) for lag in lags if lag is not None)]
    found = [(edge, offset) for edge in node.inputs if not edge.keys for offset in reads(node, edge)]
    if node.op == "key_mix":
        if node not in known.support:
            known.support[node] = support(node, known.scores, network.shape)
        reach = known.support[node]
        if reach.values is not None:
            found.append((node.inputs[1], reach.values))
        if reach.keys is not None:
            found += [(edge, reach.keys) for _, edge in key_products(node)]
    return found


def key_products(mix: Node) -> list[tuple[Node, Edge]]:
    """The score products above the weighted sum `mix`, each with the edge by which it reads keys."""
    found: list[tuple[Node, Edge]] = []
    stack, seen = [mix.inputs[0].source], set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op == "key_dot":
            found += [(node, edge) for edge in node.inputs if edge.keys]
        elif node.op != "key_mix":
            stack += [edge.source for edge in node.inputs]
    return found


def _suspicion(node: Node, via: _Step) -> int:
    """Of operations that reach equally far: kernels first, then attention through its mask, then other weights."""
    if node.op in ("key_dot", "key_mix") and via.source is not node.inputs[0].source:
        return 2
    if node.op in ("linear", "lookup"):
        return 3 if len(node.attrs["taps"]) > 1 else 1
    return 0


def _refuse_unseen(node: Node, order: list[Node], network: Canonical) -> None:
    """Raise where strides alone are the reason, for a value that no prediction sees too early."""
    if all(one.stride == (1, 1) for one in order if one.pixel):
        return
    if not sees_itself(network, order):
        raise UnsupportedOpError(
            f"{node.where} sees pixels that are not drawn yet where it is computed, once for every so many rows and "
            "columns. Although no prediction sees them, it would have to be computed between, which is not understood.")


def _refuse(node: Node, steps: dict[Node, _Step], known: Availability) -> None:
    """Follow the chain to the operation that brings the offending pixel in, and raise."""
    offset = known.latest[node]
    chain, step = [(node, steps[node])], steps[node]
    while step.source is not None:
        chain.append((step.source, steps[step.source]))
        step = steps[step.source]
    guilty, via = max(reversed(chain[:-1] or chain), key=lambda item: (item[1].offset, _suspicion(*item)))
    reach = None
    if _suspicion(guilty, via) == 2:
        reach = next(r for mix, r in known.support.items() if mix is guilty or
                     any(dot is guilty for dot, _ in key_products(mix)))
    reason = ""
    if reach is not None and reach.constant_row is not None:
        reason = (f" The attention weights of query {reach.constant_row} are fully masked, so that their softmax "
                  "averages positions that are not drawn yet.")
    elif reach is not None:
        reason = " Its attention mask lets a query see positions that are not drawn yet."
    raise NotCausalError(
        f"the prediction of a pixel sees the pixel at offset (row {offset[0]:+d}, column {offset[1]:+d}), "  # type: ignore[index]
        f"which is not drawn yet. It comes in through {guilty.where}, which reads at offset (row {via.offset[0]:+d}, "
        f"column {via.offset[1]:+d}).{reason} No exact incremental step exists for such a model.")
