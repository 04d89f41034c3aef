"""Cutting and joining along the tokens of a sequence: what is dropped behind moves the canvas, what comes in front lies
on its first positions or before them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.lowering.pads import pad_window
from pixelsnail_infer.export.lowering.raster import along, chosen, is_raster, moved
from pixelsnail_infer.export.lowering.token_maps import token_map
from pixelsnail_infer.export.lowering.tokens import POSITIONS, Part, Tokens
from pixelsnail_infer.export.lowering.views import View, size_of
from pixelsnail_infer.export.tracing.traced import Where

__all__ = ["join", "narrow", "pad"]


def narrow(part: Part, axis: int, start: int, size: int, where: Where) -> Part:
    """`size` tokens from `start` along dimension `axis`, all tokens of `part`."""
    tokens, canvas = _sequence(part, where)
    dropped = tokens.count - start - size
    if dropped:
        outside = tokens.count - tokens.inside
        canvas = moved(canvas, axis, dropped, where)
        if isinstance(tokens.front, View):
            canvas = _laid(canvas, axis, tokens.front, dropped, where)
        front = _cut(tokens.front, axis, 0, outside - dropped, where) if outside > dropped else None
        tokens = Tokens(POSITIONS, tokens.count - dropped, front, canvas)
    outside = size - tokens.inside
    front = _cut(tokens.front, axis, tokens.count - size, outside, where) if outside > 0 else None
    return _plain(Tokens(POSITIONS, size, front, canvas))


def join(parts: Sequence[Part | torch.Tensor], axis: int, where: Where) -> Part:
    """The parts one after the other along dimension `axis`; the last one has the pixels."""
    *before, last = parts
    if not _has_pixels(last, axis) or any(_has_pixels(part, axis) for part in before):
        raise UnsupportedOpError(f"{where}: a sequence with tokens behind the pixels', or with the pixels more than "
                                 "once, is not understood; only the last of what is joined may have pixels.")
    assert not isinstance(last, torch.Tensor)
    tokens, canvas = _sequence(last, where)
    sizes = [part.shape[axis] if isinstance(part, torch.Tensor) else size_of(part.dims[axis]) for part in before]
    missing = max(tokens.inside - tokens.count, 0)  # positions of the canvas that are still none of the sequence
    front = [tokens.front] if isinstance(tokens.front, View) else []
    for part, size in zip(reversed(before), reversed(sizes), strict=True):
        assert not isinstance(part, Tokens)
        if missing:
            canvas = _laid(canvas, axis, part, missing, where)
        if size > missing:
            whole = token_map([part], canvas, axis, where)
            front = [_cut(whole, axis, 0, size - missing, where), *front]
        missing = max(missing - size, 0)
    return _plain(Tokens(POSITIONS, tokens.count + sum(sizes),
                         token_map(front, canvas, axis, where) if front else None, canvas))


def pad(part: Part, axis: int, amounts: tuple[int, int], value: float, where: Where) -> Part:
    """The sequence with tokens of one number before it, or with less of it."""
    before, after = amounts
    if after > 0:
        raise UnsupportedOpError(f"{where} adds tokens behind the pixels', which is not understood.")
    low, total = min(before, 0), size_of(part.dims[axis])
    part = narrow(part, axis, -low, total + low + after, where)
    if before <= 0:
        return part
    sizes = [1] * len(part.dims)
    sizes[axis] = before
    canvas = part.canvas if isinstance(part, Tokens) else part
    assert isinstance(canvas, View)
    return join([torch.full(sizes, value, dtype=canvas.node.dtype), part], axis, where)


def _has_pixels(part: Part | torch.Tensor, axis: int) -> bool:
    return isinstance(part, Tokens) or (isinstance(part, View) and (part.node.pixel or is_raster(part, axis)))


def _sequence(part: Part, where: Where) -> tuple[Tokens, View]:
    """Any sequence as tokens, and what it is on the canvas."""
    tokens = part if isinstance(part, Tokens) else Tokens(POSITIONS, _places(part), None, part)
    if tokens.kind != POSITIONS or not isinstance(tokens.canvas, View):
        raise UnsupportedOpError(f"{where} cuts or joins along the keys of attention, which is not understood.")
    return tokens, tokens.canvas


def _places(view: View) -> int:
    return math.prod(view.frame or ())


def _plain(tokens: Tokens) -> Part:
    """A sequence of as many tokens as pixels is the canvas."""
    return tokens.canvas if tokens.count == tokens.inside else tokens


def _cut(front: Part | None, axis: int, start: int, size: int, where: Where) -> View:
    """`size` tokens from `start` of those in front."""
    assert isinstance(front, View) and front.frame is not None
    behind = front.frame[1] - start - size
    if not start and not behind:
        return front
    zero = torch.zeros((), dtype=front.node.dtype)
    return pad_window(front, (None, axis), (0, -start), (0, -behind), zero, where)


def _laid(canvas: View, axis: int, part: View | torch.Tensor, end: int, where: Where) -> View:
    """The canvas with the last tokens of `part` on its positions before `end`."""
    assert canvas.frame is not None
    places, rank = _places(canvas), len(canvas.dims)
    size = part.shape[axis] if isinstance(part, torch.Tensor) else size_of(part.dims[axis])
    start = max(end - size, 0)
    position = torch.arange(places)
    mask = along((position >= start) & (position < end), axis, rank)
    if size == 1 and (isinstance(part, torch.Tensor) or part.frame is None):
        return chosen(mask, part, canvas, where)
    if isinstance(part, torch.Tensor):
        number = (position - end + size).clamp(0, size - 1)  # of the token at every position
        return chosen(mask, part.index_select(axis, number), canvas, where)
    if end > canvas.frame[1]:
        raise UnsupportedOpError(f"{where}: {end} tokens of conditions on the first positions of a canvas of "
                                 f"{canvas.frame[1]} columns, which is not understood.")
    (height, width), zero = canvas.frame, torch.zeros((), dtype=canvas.node.dtype)
    row = token_map([part], canvas, axis, where)
    window = pad_window(row, (axis, axis), (0, end - size), (height - 1, width - end), zero, where)
    return chosen(mask, window, canvas, where)
