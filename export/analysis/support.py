"""Which keys an attention's weights really reach, whatever way they were masked.

Works in blocks of query rows; a whole matrix at 4,096 positions would not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pixelsnail_infer.export.evaluation.weights import Block
from pixelsnail_infer.export.fields import Node, Offset, key_ends

__all__ = ["Support", "blocks", "support"]

BLOCK = 1 << 20  # entries of one block of query rows


@dataclass(frozen=True, slots=True)
class Support:
    """What a weighted sum reads. Lags are relative to the query, in raster order; None: nothing at all."""

    values: Offset | None  # latest position whose value has a weight other than 0
    keys: Offset | None  # latest position whose key a used weight depends on
    used: torch.Tensor  # bool [P, P]: query, key
    constant_row: int | None  # a query whose weights on later positions are constants (a fully masked row)


def support(mix: Node, scores: set[Node], shape: tuple[int, int]) -> Support:
    """The support of the weighted sum `mix` on a canvas of `shape`."""
    weights = mix.inputs[0].source
    positions, keys = shape[0] * shape[1], weights.keys[0] * weights.keys[1]  # type: ignore[index]
    used = torch.zeros(positions, keys, dtype=torch.bool)
    depends = torch.full((positions,), -1, dtype=torch.int64)
    constant_row = None
    pixels = torch.arange(positions)
    ends = key_ends(mix.inputs[1], shape) if mix.inputs[1].source.pixel else torch.arange(keys)
    for rows in blocks(positions, keys):
        block = Block(scores, rows, keys).of(weights)
        live, nonzero = _per_key(block.live, keys), _per_key(block.live | ~(block.value == 0), keys)
        used[rows] = nonzero
        latest = torch.where(block.live, block.latest, -1)
        depends[rows] = latest.flatten(1).amax(1)
        future = ends[None] > torch.arange(rows.start, rows.stop)[:, None]
        bad = (nonzero & ~live & future).any(1)
        if constant_row is None and weights in scores and bool(bad.any()):
            constant_row = rows.start + int(bad.nonzero()[0])
    last = torch.where(used, torch.arange(keys)[None], -1).amax(1)
    return Support(_lag(last, ends, shape), _lag(depends, pixels, shape), used, constant_row)


def blocks(positions: int, keys: int) -> Iterator[slice]:
    """The queries, so many at a time that a block of their entries is not too large."""
    step = max(1, BLOCK // keys)
    return (slice(start, min(start + step, positions)) for start in range(0, positions, step))


def _per_key(mask: torch.Tensor, keys: int) -> torch.Tensor:
    flat = mask.reshape(mask.shape[0], -1, mask.shape[-1]).any(1)
    return flat.expand(flat.shape[0], keys)


def _lag(latest: torch.Tensor, ends: torch.Tensor, shape: tuple[int, int]) -> Offset | None:
    """The lexicographically latest of the keys relative to their queries; `ends` is where each key ends."""
    query = torch.arange(latest.shape[0])
    valid = latest >= 0
    if not bool(valid.any()):
        return None
    last = ends[latest.clamp(min=0)]
    dy = (last // shape[1] - query // shape[1])[valid]
    dx = (last % shape[1] - query % shape[1])[valid]
    top = int(dy.max())
    return top, int(dx[dy == top].max())
