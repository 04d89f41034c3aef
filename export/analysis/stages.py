"""Stages: what runs per image, per row, per pixel before the draw, and per pixel after it.

The stage of a value is the sign of its availability. A linear value is split: taps that are known before the row
starts, and the bias, go to the row graph; taps in the current row stay in the step. A shifted read becomes a node of
its own, so that afterwards only linear, lookup and shift nodes read anything but their own position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import torch

from pixelsnail_infer.errors import ModelError, UnsupportedOpError
from pixelsnail_infer.export.analysis.availability import availability, key_products
from pixelsnail_infer.export.analysis.canonical import Canonical
from pixelsnail_infer.export.analysis.support import Support
from pixelsnail_infer.export.evaluation.windows import window
from pixelsnail_infer.export.fields import TAPPED, Edge, Node, Offset, reads, topological
from pixelsnail_infer.export.lattice import cell

__all__ = ["TAPPED", "Program", "Stage", "stage_program"]


class Stage(IntEnum):
    """When a value is computed."""

    CONSTANT = 0
    PROLOGUE = 1
    ROW = 2
    BEFORE = 3
    AFTER = 4


@dataclass(slots=True)
class Program:
    """The staged network on its canvas. Nodes are in an order in which every stage can be run."""

    output: Node
    shape: tuple[int, int]
    stage: dict[Node, Stage]
    latest: dict[Node, Offset | None]
    border: dict[Node, torch.Tensor]
    guard: dict[Node, Offset]
    support: dict[Node, Support]
    pixel: Node
    order: list[Node] = field(default_factory=list)

    def refresh(self) -> None:
        """Bring `order` up to date after a rewrite."""
        self.order = topological([self.output, self.pixel])

    def add(self, node: Node, latest: Offset | None) -> Node:
        """Register a new node that sees `latest`."""
        self.latest[node] = latest
        self.stage[node] = _stage(node, latest)
        return node

    def of(self, *stages: Stage) -> list[Node]:
        """The nodes of some stages, in order."""
        return [node for node in self.order if self.stage[node] in stages]


def stage_program(network: Canonical, split: bool = True) -> Program:
    """Analyse availability and give every value its stage; `split` also splits the products that two stages share.

    Raises `NotCausalError` for leaks and `UnsupportedOpError` where a value would have to be computed ahead of time.
    """
    known = availability(network)
    order = topological([network.output])
    pixel = next((node for node in order if node.op == "input" and node.pixel), None)
    if pixel is None:
        raise ModelError(f"no logit on the {network.shape} canvas depends on a pixel: there is no step to export, for "
                         "all pixels could be drawn at once.")
    stage = {node: _stage(node, known.latest[node]) for node in order}
    stage[network.output] = Stage.BEFORE  # logits are given per pixel, whatever they see
    program = Program(network.output, network.shape, stage, known.latest, network.border, network.guard,
                      known.support, pixel)
    for node in order:
        _place_shifts(program, node)
    for node in order:
        if node.op in ("linear", "lookup") and node.frame is not None and node.pixel:
            _normalise(node)
            if split and program.stage[node] > Stage.ROW:
                _split(program, node)
    program.refresh()
    _check(program)
    return program


def _stage(node: Node, latest: Offset | None) -> Stage:
    if not node.pixel:
        return Stage.PROLOGUE if node.condition else Stage.CONSTANT
    if latest is None or latest[0] < 0:
        return Stage.ROW
    return Stage.BEFORE if latest < (0, 0) else Stage.AFTER


def _place_shifts(program: Program, node: Node) -> None:
    """Shifted and cropped reads as nodes of their own."""
    if node.op in (*TAPPED, "upsample", "pool", "tokens"):
        return
    moved: dict[tuple[Node, Offset], Node] = {}
    for edge in node.inputs:
        source = edge.source  # a merge reads it on its own lattice, and holds it
        frame, stride = (source.frame, source.stride) if node.op == "merge" else (node.frame, node.stride)
        if edge.keys or source.frame is None or (not edge.dy and not edge.dx and source.frame == frame):
            continue
        if source.op == "const":
            offset = cell((edge.dy, edge.dx), source.stride)
            value = window(source.attrs["value"][None], offset, frame or (1, 1), edge.border)[0]
            table = Node("const", [], frame, source.channels, source.dtype, source.where, source.keys,
                         {"value": value}, stride=stride)
            edge.source, edge.dy, edge.dx, edge.border = program.add(table, None), 0, 0, None
            continue
        shift = moved.get((source, (edge.dy, edge.dx))) if node.op == "merge" else None
        if shift is None:
            shift = Node("shift", [Edge(source, edge.dy, edge.dx, edge.border)], frame, source.channels,
                         source.dtype, source.where, source.keys, {}, node.pixel, source.condition, stride)
            own = program.latest[source]
            program.add(shift, None if own is None else (own[0] + edge.dy, own[1] + edge.dx))
            moved[source, (edge.dy, edge.dx)] = shift
        edge.source, edge.dy, edge.dx, edge.border = shift, 0, 0, None


def _normalise(node: Node) -> None:
    """All of an edge's offset in the taps."""
    edge = node.inputs[0]
    taps = dict(zip(reads(node, edge), node.attrs["taps"].values(), strict=True))
    node.attrs = {**node.attrs, "taps": taps}
    edge.dy = edge.dx = 0


def _split(program: Program, node: Node) -> None:
    """Taps known before the row, and the bias, apart from the rest."""
    (edge,) = node.inputs
    early = {offset: tap for offset, tap in node.attrs["taps"].items()
             if offset[0] < 0 or program.stage[edge.source] <= Stage.ROW}
    late = {offset: tap for offset, tap in node.attrs["taps"].items() if offset not in early}
    if not early or not late:
        return
    row = Node(node.op, [Edge(edge.source)], node.frame, node.channels, node.dtype, node.where, None,
               {"taps": early, "bias": node.attrs["bias"]}, True, node.condition, node.stride)
    step = Node(node.op, [Edge(edge.source)], node.frame, node.channels, node.dtype, node.where, None,
                {"taps": late, "bias": None}, True, node.condition, node.stride)
    own = program.latest[edge.source]
    assert own is not None
    for part, taps in ((row, early), (step, late)):
        top = max(taps)
        program.add(part, (own[0] + top[0], own[1] + top[1]))
    node.op, node.inputs, node.attrs = "map", [Edge(row), Edge(step)], {"fn": "add", "params": {}}


def _reach(program: Program, node: Node) -> list[Offset]:
    """How far an attention product reads its keys or values, as far as that matters to the result."""
    mixes = [mix for mix in program.support if mix is node or any(dot is node for dot, _ in key_products(mix))]
    lags = [program.support[mix].values if mix is node else program.support[mix].keys for mix in mixes]
    return [lag for lag in lags if lag is not None]


def _check(program: Program) -> None:
    """Every read must find its source computed."""
    for node in program.order:
        for edge in node.inputs:
            source = edge.source
            if not source.pixel:
                continue
            early = program.stage[source] <= Stage.ROW
            for dy, dx in _reach(program, node) if edge.keys else reads(node, edge):
                if dy > 0 or (dy == 0 and dx > 0 and not early):
                    raise UnsupportedOpError(
                        f"{node.where} reads {source.where} {'a row' if dy > 0 else 'columns'} ahead, at offset "
                        f"({dy:+d}, {dx:+d}); although no later pixel leaks, such a value would have to be computed "
                        "ahead of time, which is not understood.")
