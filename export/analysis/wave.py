"""The wavefront program: the network once more, for one pixel of every live row at a time.

Where its pixel is drawn every value is computed, all taps of a product at once. But large networks are split as the
raster program is, whose row graph reads most weights once for a whole row: what several waves read of older ones, the
*ahead* graph computes for all of them together. There the stage `ROW` stands for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.analysis.borders import centre_borders
from pixelsnail_infer.export.analysis.canonical import canonical
from pixelsnail_infer.export.analysis.layout import Canvas, Layout, lay_out
from pixelsnail_infer.export.analysis.lead import move_leads
from pixelsnail_infer.export.analysis.prologue import Prologue, cut_prologue
from pixelsnail_infer.export.analysis.slope import depth_of, slope_of
from pixelsnail_infer.export.analysis.stack import find_stacks
from pixelsnail_infer.export.analysis.stages import Program, Stage, stage_program
from pixelsnail_infer.export.analysis.states import Kept, kept_values
from pixelsnail_infer.export.analysis.sums import regroup_sums
from pixelsnail_infer.export.fields import TAPPED, Edge, Node, Offset, reads

__all__ = ["Wave", "stage_wave"]

SPANS = range(1, 9)
LARGE = 2**22  # numbers in the weights: as float32 they fill a processor's cache, and every wave reads them anew


@dataclass(slots=True)
class Wave:
    """A program whose pixels are drawn at time j + slope * i, and where its states lie. Its canvas is `lead` columns
    wider than the image, whose column 0 is column `lead` there.

    The ahead graph runs for `span` waves at once; with a span of 1 there is none. Each canvas has a ring of rows, and
    behind it one more that nothing writes: it stands for the rows above the image.
    """

    program: Program
    slope: int
    lead: int
    span: int
    kept: dict[Node, Kept]
    layout: Layout
    prologue: Prologue


def stage_wave(output: Node, shape: tuple[int, int], prologue: Prologue, span: int | None = None) -> Wave:
    """Stage a lowered and simplified network, whose nodes are used up; `prologue` is that of the raster program, whose
    tensors the wave takes, too. Without a `span` it is the one at which the fewest weights are read.

    Raises `UnsupportedOpError` where the network has no wavefront.
    """
    program = stage_program(canonical(output, shape), split=False)
    own = cut_prologue(program)
    if [(own.shape(n), n.dtype) for n in own.crossing] != [(prologue.shape(n), n.dtype) for n in prologue.crossing]:
        raise UnsupportedOpError("the network has no wavefront: its conditions are cut off elsewhere.")
    centre_borders(program)
    lead = move_leads(program)
    slope = slope_of(program)
    offsets = [offset for node in _tapped(program) for offset in reads(node, node.inputs[0])]
    span = _cheapest(program, slope) if span is None else span
    if not any(_is_old(offset, slope, span) for offset in offsets):
        span = 1
    for node in program.of(Stage.ROW):
        if node.pixel or span == 1:
            program.stage[node] = Stage.BEFORE
    if span > 1:
        for node in _tapped(program):
            _split(program, node, slope, span)
        program.refresh()
        regroup_sums(program)
    stages = {node: max(stage, Stage.BEFORE) if node.pixel else stage for node, stage in program.stage.items()}
    together = replace(program, stage=stages)  # all states are written where the pixel is drawn
    kept = kept_values(together)
    layout = lay_out(together, kept, find_stacks(program, biased=True))
    _deepen(layout, program, slope)
    return Wave(program, slope, lead, span, kept, layout, own)


def _tapped(program: Program) -> list[Node]:
    """The products whose taps can be told apart."""
    return [node for node in program.of(Stage.ROW, Stage.BEFORE, Stage.AFTER) if node.op in ("linear", "lookup")
            and node.frame is not None and node.inputs[0].source.pixel]


def _is_old(offset: Offset, slope: int, span: int) -> bool:
    """Whether all of `span` waves read there what was drawn before the first of them."""
    return offset[1] + slope * offset[0] <= -span


def _cheapest(program: Program, slope: int) -> int:
    """The span at which a wave reads the fewest weights, its share of those that are read ahead included."""
    sizes = [(offset, tap.numel()) for node in _tapped(program) if node.op == "linear"
             for offset, tap in zip(reads(node, node.inputs[0]), node.attrs["taps"].values(), strict=True)]
    if sum(size for _, size in sizes) < LARGE:
        return 1
    return min(SPANS, key=lambda span: sum(size / span if _is_old(offset, slope, span) else size
                                           for offset, size in sizes))


def _split(program: Program, node: Node, slope: int, span: int) -> None:
    """Taps that are known ahead, and the bias, apart from the rest. Without a rest the node passes on what is known."""
    (edge,), stage = node.inputs, program.stage[node]
    old = {offset: tap for offset, tap in node.attrs["taps"].items() if _is_old(offset, slope, span)}
    new = {offset: tap for offset, tap in node.attrs["taps"].items() if offset not in old}
    if not old:
        return
    parts = [Node(node.op, [Edge(edge.source)], node.frame, node.channels, node.dtype, node.where, None,
                  {"taps": taps, "bias": bias}, True, node.condition)
             for taps, bias in ((old, node.attrs["bias"]), (new, None)) if taps]
    for part, known in zip(parts, (Stage.ROW, stage), strict=False):
        program.latest[part], program.stage[part] = program.latest[node], known
    node.op, node.inputs = "map", [Edge(part) for part in parts]
    node.attrs = {"fn": "add" if new else "identity", "params": {}}


def _deepen(layout: Layout, program: Program, slope: int) -> None:
    """Rings for all rows that are drawn at once, and the row above the image."""
    read: dict[Canvas, list[Offset]] = {canvas: [] for canvas in layout.canvases}
    for node in program.order:
        if node.op in TAPPED and node.inputs[0].source in layout.place:
            canvas, _ = layout.place[node.inputs[0].source]
            read[canvas] += _elsewhere(reads(node, node.inputs[0]))
    deeper = {canvas: replace(canvas, rows=1 + depth_of(offsets, slope, program.shape[0]))
              for canvas, offsets in read.items()}
    layout.canvases = [deeper[canvas] for canvas in layout.canvases]
    layout.place = {node: (deeper[canvas], member) for node, (canvas, member) in layout.place.items()}


def _elsewhere(offsets: Iterable[Offset]) -> list[Offset]:
    return [offset for offset in offsets if offset != (0, 0)]
