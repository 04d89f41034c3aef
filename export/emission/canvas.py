"""Addresses on line canvases and in caches, for the graphs that read or write them."""

from __future__ import annotations

import torch

from pixelsnail_infer.export.analysis.layout import Cache, Canvas
from pixelsnail_infer.export.emission.onnx_graph import GraphWriter

__all__ = ["blocks", "declare", "gather", "row_start", "scatter"]


def declare(writer: GraphWriter, state: Canvas | Cache) -> str:
    """The state as an input of the graph."""
    return writer.input(state.name, writer.precision, ["B", *state.shape])


def row_start(writer: GraphWriter, canvas: Canvas, dy: int = 0) -> str:
    """Address of the left margin of the row `row + dy` on the ring, int64 `[B]`."""
    row = writer.input("row", "int64", ["B"])
    if canvas.rows == 1:
        return writer.op("Mul", row, writer.constant(0))
    if dy:
        row = writer.op("Add", row, writer.constant(dy))
    row = writer.op("Mod", row, writer.constant(canvas.rows))
    return writer.op("Mul", row, writer.constant(canvas.stride))


def gather(writer: GraphWriter, canvas: Canvas, address: str, members: torch.Tensor) -> str:
    """Cells `[B, ..., C]` at `address [B, ...]` of the given members (broadcast over the address)."""
    state = declare(writer, canvas)
    cell = writer.op("Unsqueeze", address, writer.constant([-1]))
    pair = writer.op("Mul", cell, writer.constant([0, 1]))
    column = torch.stack([members, torch.zeros_like(members)], -1)
    return writer.op("GatherND", state, writer.op("Add", pair, writer.constant(column)), batch_dims=1)


def scatter(writer: GraphWriter, state: Canvas | Cache, update: str, address: str) -> str:
    """Write `update [B, N, n, C]` at `address [B]`, in place; the result is the graph's output."""
    return writer.op("TensorScatter", declare(writer, state), update, address, axis=2, mode="linear")


def blocks(writer: GraphWriter, cache: Cache, cells: str) -> str:
    """Entries `[B, heads, n, d]` of a cache at `cells [B, n]`."""
    heads = torch.arange(cache.shape[0]).view(1, -1, 1, 1)
    cell = writer.op("Unsqueeze", cells, writer.constant([1, 3]))  # [B, 1, n, 1]
    pair = writer.op("Add", writer.op("Mul", cell, writer.constant([0, 1])),
                     writer.constant(torch.cat([heads, torch.zeros_like(heads)], 3)))
    return writer.op("GatherND", declare(writer, cache), pair, batch_dims=1)
