"""Reading and writing cells in PyTorch: functions that TorchScript compiles into the archive as they stand.

Everything is addressed as rows of a matrix, which PyTorch gathers and writes several times faster than it indexes by
several axes.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gather", "gather_cells", "pick", "places", "put", "spread", "sums_before", "write"]


def gather(value: Tensor, index: Tensor, axis: int) -> Tensor:
    """`index`, of any shape, picks along an axis: its axes stand in the place of that axis."""
    picked = torch.index_select(value, axis, index.reshape(-1))
    if index.dim() == 1:
        return picked
    sizes = list(value.shape)
    return picked.reshape(sizes[:axis] + list(index.shape) + sizes[axis + 1:])


def gather_cells(value: Tensor, index: Tensor) -> Tensor:
    """`value [B, …]` at `index [B, *places, n]`: the last axis of the index picks on the first n axes behind B."""
    axes = index.size(-1)
    cells = torch.arange(value.size(0), device=value.device).reshape([-1] + [1] * (index.dim() - 2))
    for axis in range(axes):
        cells = cells * value.size(axis + 1) + index.select(-1, axis)  # [B, *places]
    rest = list(value.shape)[axes + 1:]
    rows = value.reshape([-1] + rest)
    return torch.index_select(rows, 0, cells.reshape(-1)).reshape(list(index.shape)[:-1] + rest)


def spread(value: Tensor, sizes: list[int]) -> Tensor:
    """Broadcast against `sizes`, of which a 1 leaves the value's own size; they are no fewer than its axes."""
    new = len(sizes) - value.dim()
    shape: list[int] = []
    for axis in range(len(sizes)):
        own = sizes[axis] == 1 and axis >= new
        shape.append(value.size(axis - new) if own else sizes[axis])
    return torch.broadcast_to(value, shape)


def sums_before(value: Tensor, axis: int) -> Tensor:
    """At each place along an axis the sum of what stands before it."""
    before = torch.cumsum(torch.narrow(value, axis, 0, value.size(axis) - 1), axis)
    return torch.cat([torch.zeros_like(torch.narrow(value, axis, 0, 1)), before], axis)


def places(state: Tensor, start: Tensor) -> Tensor:
    """The rows of `state [B, N, S, C]`, seen as a matrix of C columns, that begin at `start [B]`: `[B, N, 1]`."""
    slots, members = state.size(0), state.size(1)
    heads = torch.arange(slots * members, device=state.device).reshape(slots, members, 1) * state.size(2)
    return heads + start.reshape(-1, 1, 1)


def write(state: Tensor, update: Tensor, rows: Tensor) -> Tensor:
    """Write `update [B, N, n, C]` into `state [B, N, S, C]` from its rows `places` on, in place; gives the state."""
    count, channels = update.size(2), state.size(3)
    if count > 1:
        rows = rows + torch.arange(count, device=state.device)
    state.view(-1, channels).index_copy_(0, rows.reshape(-1), update.reshape(-1, channels))
    return state


def pick(value: Tensor, index: Tensor) -> Tensor:
    """`value` at `index [*places, n]`: the last axis of the index picks on the first n axes."""
    axes = index.size(-1)
    cells = index.select(-1, 0)
    for axis in range(axes - 1):
        cells = cells * value.size(axis + 1) + index.select(-1, axis + 1)  # [*places]
    rest = list(value.shape)[axes:]
    rows = value.reshape([-1] + rest)
    return torch.index_select(rows, 0, cells.reshape(-1)).reshape(list(index.shape)[:-1] + rest)


def put(state: Tensor, update: Tensor, index: Tensor) -> Tensor:
    """Write `update [*places, C]` into `state [B, N, S, C]` at `index [*places, 3]`, in place; gives the state."""
    cells = (index.select(-1, 0) * state.size(1) + index.select(-1, 1)) * state.size(2) + index.select(-1, 2)
    channels = state.size(3)
    state.view(-1, channels).index_copy_(0, cells.reshape(-1), update.reshape(-1, channels))
    return state
