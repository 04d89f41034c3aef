"""Addresses on line canvases and in caches, for the graphs that read or write them."""

from __future__ import annotations

import torch

from pixelsnail_infer.export.analysis.layout import Cache, Canvas
from pixelsnail_infer.export.analysis.widths import is_exact
from pixelsnail_infer.export.emission.builder import GraphBuilder
from pixelsnail_infer.export.emission.graph import Kind, Value

__all__ = ["blocks", "cells_of", "declare", "gather", "kept_as", "row_start", "write"]


def kept_as(g: GraphBuilder, state: Canvas | Cache) -> Kind:
    """What the state holds numbers as."""
    return g.wide if is_exact(state.members) else "float"


def declare(g: GraphBuilder, state: Canvas | Cache) -> Value:
    """The state as an input of the graph."""
    return g.input(state.name, kept_as(g, state), ["B", *state.axes])


def row_start(g: GraphBuilder, canvas: Canvas, dy: int = 0) -> Value:
    """Address of the left margin of the row of cells of the pixels `row + dy` on the ring, int `[B]`."""
    row, every = g.input("row", "int", ["B"]), canvas.every[0]
    if canvas.rows == 1:
        return g.mul(row, 0)
    if every > 1:  # none below 0 may be divided: whole turns of the ring are added
        turns = -(dy // (canvas.rows * every))
        row, dy = g.div(g.add(row, dy + turns * canvas.rows * every), every) if dy else g.div(row, every), 0
    if dy:
        row = g.add(row, dy)
    return g.mul(g.mod(row, canvas.rows), canvas.stride)


def gather(g: GraphBuilder, canvas: Canvas, address: Value, members: torch.Tensor | Value) -> Value:
    """Cells `[B, ..., C]` at `address [B, ...]` of the given members (broadcast over the address)."""
    state = declare(g, canvas)
    pair = g.mul(g.unsqueeze(address, -1), [0, 1])
    if isinstance(members, Value):
        return g.gather_cells(state, g.add(pair, g.mul(g.unsqueeze(members, -1), [1, 0])))
    column = torch.stack([members, torch.zeros_like(members)], -1)
    return g.gather_cells(state, g.add(pair, column))


def cells_of(g: GraphBuilder, canvas: Canvas, address: Value) -> Value:
    """The cells of all members at `address [B, n]`: `[B, members, n, C]`."""
    members = torch.arange(len(canvas.members)).view(1, -1, 1)
    return gather(g, canvas, g.unsqueeze(address, 1), members)


def write(g: GraphBuilder, state: Canvas | Cache, update: Value, address: Value) -> Value:
    """Write `update [B, N, n, C]` at `address [B]`, in place; the result is the graph's output."""
    return g.write(declare(g, state), g.as_kind(update, kept_as(g, state)), address)


def blocks(g: GraphBuilder, cache: Cache, cells: Value) -> Value:
    """Entries `[B, heads, n, d]` of a cache at `cells [B, n]`."""
    heads = torch.arange(cache.shape[0]).view(1, -1, 1, 1)
    pair = g.mul(g.unsqueeze(cells, 1, 3), [0, 1])  # [B, 1, n, 2]
    pair = g.add(pair, torch.cat([heads, torch.zeros_like(heads)], 3))
    return g.gather_cells(declare(g, cache), pair)
