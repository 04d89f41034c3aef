"""A node's value over its whole frame, in PyTorch: what the interpreter starts from and constants are folded with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from pixelsnail_infer.export.evaluation.torch_ops import evaluate
from pixelsnail_infer.export.evaluation.windows import window
from pixelsnail_infer.export.fields import TAPPED, Edge, Node, Offset, phase_of, reads
from pixelsnail_infer.export.lattice import cell

__all__ = ["attend", "full_value", "pooled", "strided", "tap_sum"]


def full_value(node: Node, values: Mapping[Node, torch.Tensor], inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """One node over its whole frame: `[B, h, w, *channels]`, or `[B, *channels]` without a frame; keys last."""
    if node.op == "input":
        value = inputs[node.attrs["name"]]
        return value.movedim((-2, -1), (1, 2)) if node.frame else value
    if node.op == "const":
        return node.attrs["value"][None]
    first = values[node.inputs[0].source]
    if node.op == "spread":
        return first.movedim((-2, -1), (1, 2)).contiguous()
    if node.op == "tokens":
        return _tokens(node, [values[edge.source] for edge in node.inputs])
    if node.op == "pool":
        return pooled(first, node.attrs["blocks"])
    if node.op == "upsample":
        fy, fx = node.attrs["factors"]
        return first.repeat_interleave(fy, 1).repeat_interleave(fx, 2)
    if node.op in ("key_dot", "key_mix") and node.frame is not None:
        edge = node.inputs[0]  # queries and weights may be read at an offset
        here = first[:, None, None] if edge.source.frame is None else strided(node, edge, first, (edge.dy, edge.dx))
        return _framed(node, attend(node, here, pooled(values[node.inputs[1].source], node.inputs[1].pool)))
    if node.op in TAPPED and node.frame is not None:
        return tap_sum(node, lambda offset: strided(node, node.inputs[0], first, offset))
    if node.op == "merge":
        return _merged(node, values)
    args = []
    for edge in node.inputs:
        value = values[edge.source]
        if node.frame is not None and edge.source.frame is not None:
            value = strided(node, edge, value, (edge.dy, edge.dx))
        args.append(_lifted(value, edge.source, node))
    return _framed(node, evaluate(node, args, 3 if node.frame else 1))


def strided(node: Node, edge: Edge, value: torch.Tensor, offset: Offset) -> torch.Tensor:
    """What `node` sees of an edge's source at an offset in pixels, from `value [B, h, w, ...]` over its whole frame."""
    assert node.frame is not None
    if edge.source.frame is None:
        return value[:, None, None].expand(-1, *node.frame, *value.shape[1:])
    (fy, fx), (rows, columns) = cell(node.stride, edge.source.stride), node.frame
    frame = (rows - 1) * fy + 1, (columns - 1) * fx + 1
    return window(value, cell(offset, edge.source.stride), frame, edge.border)[:, ::fy, ::fx]


def _merged(node: Node, values: Mapping[Node, torch.Tensor]) -> torch.Tensor:
    """Every phase where its turn is."""
    assert node.frame is not None
    batch = max(len(values[edge.source]) for edge in node.inputs)
    result = values[node.inputs[0].source].new_empty(batch, *node.frame, *node.channels)
    for edge in node.inputs:
        part, (a, b) = values[edge.source], phase_of(node, edge)
        own = result[:, a::node.attrs["factors"][0], b::node.attrs["factors"][1]]
        if edge.source.frame is None:
            own[:] = part[:, None, None]
        else:
            ((dy, dx),), source = reads(node, edge), edge.source.stride
            first = cell((a * node.stride[0] + dy, b * node.stride[1] + dx), source)
            own[:] = window(part, first, (own.shape[1], own.shape[2]), edge.border)
    return result


def _tokens(node: Node, parts: list[torch.Tensor]) -> torch.Tensor:
    flat = [part.flatten(1, 2) if edge.source.frame else part[:, None]
            for edge, part in zip(node.inputs, parts, strict=True)]
    batch = max(part.shape[0] for part in flat)
    return torch.cat([part.expand(batch, *part.shape[1:]) for part in flat], 1)[:, None]


def _framed(node: Node, value: torch.Tensor) -> torch.Tensor:
    """The value at every position, also where it is made of vectors alone."""
    if node.frame is None or value.shape[1:3] == node.frame:
        return value
    return value.expand(-1, *node.frame, *value.shape[3:])


def _lifted(value: torch.Tensor, source: Node, node: Node) -> torch.Tensor:
    """Position and key axes of size 1 where `source` has none and `node` has."""
    if node.frame is not None and source.frame is None:
        value = value[:, None, None]
    if node.keys is not None and source.keys is None:
        value = value[..., None]
    return value


def tap_sum(node: Node, read: Callable[[Offset], torch.Tensor]) -> torch.Tensor:
    """Sum of taps; `read(offset)` gives the source there, `[B, ..., channels]`."""
    if node.op == "shift":
        return read(reads(node, node.inputs[0])[0])
    total: torch.Tensor | int = 0
    for offset, tap in zip(reads(node, node.inputs[0]), node.attrs["taps"].values(), strict=True):
        value = read(offset)
        part = tap[value] if node.op == "lookup" else value @ tap.T
        total = total + part
    bias = node.attrs["bias"]
    assert isinstance(total, torch.Tensor)  # there is a tap at least
    return total if bias is None else total + bias


def pooled(value: torch.Tensor, blocks: Offset | None) -> torch.Tensor:
    """`value [B, H, W, ...]`, or the maximum of each of its `blocks` of rows and columns."""
    if blocks is None:
        return value
    (py, px), (h, w) = blocks, value.shape[1:3]
    return value.unflatten(1, (h // py, py)).unflatten(3, (w // px, px)).amax((2, 4))


def attend(node: Node, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`a [B, ..., *heads, d or keys]` at positions, `b [B, h, w, *heads, d]` at all keys."""
    keys = b.flatten(1, 2).movedim(1, -2)  # [B, *heads, keys, d]
    places = a.shape[1:a.ndim + 2 - keys.ndim]
    rows = a.flatten(1, len(places)).movedim(1, -2)  # [B, *heads, positions, d or keys]
    return (rows @ (keys.mT if node.op == "key_dot" else keys)).movedim(-2, 1).unflatten(1, places)
