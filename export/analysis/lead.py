"""Leads: what depends on the rows above alone may be read columns ahead of the pixel, so it is computed ahead of it.

The vertical stack of a gated PixelCNN is such a value. Its lead is how many columns: the wave that draws pixel (i, j)
computes it at (i, j + lead). Rows begin the largest lead early, with waves that draw nothing.

The network is moved onto a wider canvas, on which a value with lead l at column c is what it was at c + l - most: then
nothing is read ahead any more, and all else is as without leads. What lies outside its own columns is its border.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.analysis.stages import Program, Stage
from pixelsnail_infer.export.evaluation.windows import window
from pixelsnail_infer.export.fields import TAPPED, Edge, Node, reads

__all__ = ["leads_of", "move_leads"]


def move_leads(program: Program) -> int:
    """Rewrite `program` in place so that nothing is read ahead in its own row; returns by how many columns its canvas
    is wider, the largest lead. Raises `UnsupportedOpError` for attention to pixels."""
    leads = leads_of(program)
    most = max(leads.values())
    if most:
        _Mover(program, leads, most).move()
    return most


def leads_of(program: Program) -> dict[Node, int]:
    """The lead of every value that depends on pixels: the least at which all that reads it in its row looks back.

    Raises `UnsupportedOpError` for attention to pixels and for values of a stride."""
    leads = {node: 0 for node in program.order if node.pixel}
    for node in leads:
        if node.stride != (1, 1):
            raise UnsupportedOpError(f"the network has no wavefront: {node.where} is computed every {node.stride[0]} "
                                     f"rows and {node.stride[1]} columns only, which the lanes of a wave reach at "
                                     "different times.")
    for node in reversed(program.order):
        for edge in node.inputs if node.pixel else ():
            if not edge.source.pixel:
                continue
            if edge.keys:
                raise UnsupportedOpError(f"the network has no wavefront: {node.where} attends to pixels of whole rows, "
                                         "which other lanes have not drawn yet.")
            ahead = [leads[node] + dx for dy, dx in reads(node, edge) if dy == 0]
            leads[edge.source] = max(leads[edge.source], *ahead, 0)
    return leads


class _Mover:
    def __init__(self, program: Program, leads: dict[Node, int], most: int) -> None:
        self.program, self.leads, self.most = program, leads, most
        self.height, self.width = program.shape
        self.canvas = (self.height, self.width + most)
        self.inside: dict[Node, Node] = {}
        self.masks: dict[tuple[int, int], Node] = {}
        self.shifted: dict[tuple[Node, int], Node] = {}
        self.placed: dict[tuple[Node, int], Node] = {}

    def move(self) -> None:
        program = self.program
        for node, (top, left) in program.guard.items():
            program.guard[node] = top, left + self.most - self.leads[node]
        for node in self.leads:
            node.frame = self.canvas
            for edge in node.inputs:
                if edge.source.frame is not None and not edge.keys:
                    self._edge(node, edge)
        program.shape = self.canvas
        program.refresh()

    def _edge(self, node: Node, edge: Edge) -> None:
        source, lead = edge.source, self.leads[node]
        if not source.pixel:
            if node.op == "shift":
                edge.dx += lead - self.most
            else:
                edge.source = self._fixed(source, lead)
            return
        by = lead - self.leads[source]
        if source in self.program.border and (by or any(offset != (0, 0) for offset in reads(node, edge))):
            edge.source = self._bordered(source)
        if node.op == "shift":
            edge.dx += by
        elif node.op in TAPPED:
            taps = {(dy, dx + by): tap for (dy, dx), tap in node.attrs["taps"].items()}
            node.attrs = {**node.attrs, "taps": taps}
        elif by:
            edge.source = self._shift(edge.source, by, self.program.stage[source])

    def _bordered(self, source: Node) -> Node:
        """The source with its border outside of its columns, which only waves ahead of the row or behind it reach."""
        if source not in self.inside:
            border = self.program.border[source]
            fill = Node("const", [], None, source.channels, source.dtype, source.where,
                        attrs={"value": border.to(source.dtype).expand(source.channels)})
            self._late(fill, Stage.CONSTANT)
            mask = self._mask(self.leads[source], len(source.channels), source)
            found = Node("map", [Edge(mask), Edge(source), Edge(fill)], self.canvas, source.channels, source.dtype,
                         source.where, None, {"fn": "where", "params": {}}, True, source.condition)
            self.inside[source] = self._late(found, self.program.stage[source])
            self.program.border[found] = border
        return self.inside[source]

    def _mask(self, lead: int, rank: int, like: Node) -> Node:
        """Where values of this lead have columns, bool."""
        if (lead, rank) not in self.masks:
            value = torch.zeros(*self.canvas, *[1] * rank, dtype=torch.bool)
            value[:, self.most - lead: self.most - lead + self.width] = True
            self.masks[lead, rank] = self._late(
                Node("const", [], self.canvas, tuple([1] * rank), torch.bool, like.where, attrs={"value": value}),
                Stage.CONSTANT)
        return self.masks[lead, rank]

    def _fixed(self, source: Node, lead: int) -> Node:
        """A constant or a condition's map as values of this lead see it."""
        key = source, lead
        if key in self.placed:
            return self.placed[key]
        stage = self.program.stage[source]
        if source.op == "const":
            value = window(source.attrs["value"][None], (0, lead - self.most), self.canvas, None)[0]
            found = self._late(replace(source, frame=self.canvas, attrs={"value": value}), stage)
        elif stage is Stage.ROW and source.op != "upsample":
            found = self._late(replace(source, frame=self.canvas, inputs=[
                replace(edge, source=edge.source if edge.source.frame is None else self._fixed(edge.source, lead))
                for edge in source.inputs]), stage)
        else:
            self.program.stage[source] = Stage.PROLOGUE  # lanes read what is upsampled elsewhere than at their column
            found = self._shift(source, lead - self.most, Stage.ROW)
        self.placed[key] = found
        return found

    def _shift(self, source: Node, dx: int, stage: Stage) -> Node:
        key = source, dx
        if key not in self.shifted:
            node = Node("shift", [Edge(source, 0, dx)], self.canvas, source.channels, source.dtype, source.where,
                        source.keys, {}, source.pixel, source.condition)
            self.shifted[key] = self._late(node, stage)
        return self.shifted[key]

    def _late(self, node: Node, stage: Stage) -> Node:
        """Register a node of this stage."""
        self.program.stage[node] = stage
        self.program.latest.setdefault(node, None)
        return node
