"""What operations that write in place write: the new value of their target, in operations that change nothing.

Most are their namesake without the underscore. Assignments (`copy_`, `fill_`), and writes at indices that a mask or a
few slices can say, have forms of their own here; `scatter_` at a pixel's value is a comparison, as a one-hot is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from pixelsnail_infer.errors import UnsupportedOpError
from pixelsnail_infer.export.tracing.traced import Where

__all__ = ["FORMS", "Recording", "result"]

MOST = 64  # entries that one write at indices is cut into
TRUTHS = ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_not", "logical_xor", "isnan")


class Recording(Protocol):
    """What a form needs of the recorder: whether a tensor is traced, what it stands for, and a new operation."""

    def traced(self, tensor: torch.Tensor) -> bool: ...

    def value(self, tensor: Any) -> Any: ...

    def emit(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any], shape: tuple[int, ...], where: Where
             ) -> Any: ...


class _Write:
    """One write: the recording, the tensor that it changes, and where it stands."""

    def __init__(self, recording: Recording, target: torch.Tensor, where: Where) -> None:
        self.recording, self.target, self.where = recording, target, where
        self.shape = tuple(target.shape)

    def make(self, op: str, *args: Any, shape: tuple[int, ...] | None = None, **kwargs: Any) -> Any:
        args, kwargs = self.recording.value(args), self.recording.value(kwargs)
        return self.recording.emit(op, args, kwargs, self.shape if shape is None else shape, self.where)

    def refuse(self, why: str) -> UnsupportedOpError:
        return UnsupportedOpError(f"{self.where} {why}")

    def known(self, tensor: Any) -> bool:
        return isinstance(tensor, torch.Tensor) and not self.recording.traced(tensor)

    def filled(self, value: Any) -> Any:
        """`value`, a number or a tensor, in the target's shape and dtype."""
        if not isinstance(value, torch.Tensor):
            return self.make("clone", torch.full(self.shape, value, dtype=self.target.dtype))
        if self.known(value):
            return self.make("clone", value.detach().to(self.target.dtype).expand(self.shape))
        made: Any = value
        if tuple(value.shape) != self.shape:
            made = self.make("expand", value, list(self.shape))
        if value.dtype != self.target.dtype:
            made = self.make("_to_copy", made, dtype=self.target.dtype)
        return self.recording.value(made) if made is value else made

    def masked(self, mask: Any, value: Any) -> Any:
        """The target with `value`, a number or a tensor that broadcasts, where `mask` is true."""
        if not isinstance(value, torch.Tensor):
            value = torch.tensor(value, dtype=self.target.dtype)
        if self.known(value):
            value = value.detach().to(self.target.dtype)
        return self.make("where", mask, value, self.target)


def result(recording: Recording, op: str, args: tuple[Any, ...], kwargs: dict[str, Any], target: torch.Tensor,
           where: Where) -> Any:
    """The value that `target` has after `op`, as a reference into the trace."""
    write = _Write(recording, target, where)
    form = FORMS.get(op)
    if form is not None:
        return form(write, *args[1:], **kwargs)
    name = op[:-1] if op.endswith("_") else op
    new = write.make(name, *args, **{key: value for key, value in kwargs.items() if key != "out"})
    return write.make("_to_copy", new, dtype=target.dtype) if name in TRUTHS and target.dtype != torch.bool else new


def _copy(write: _Write, source: torch.Tensor, non_blocking: bool = False) -> Any:
    return write.filled(source)


def _fill(write: _Write, value: Any = 0) -> Any:
    return write.filled(value)


def _index_put(write: _Write, indices: Any, values: torch.Tensor, accumulate: bool = False, unsafe: bool = False
               ) -> Any:
    target, given = write.target, [(k, index) for k, index in enumerate(indices) if index is not None]
    if accumulate:
        raise write.refuse("adds at indices, which is not understood. Add to slices, or a tensor of the whole shape.")
    if all(write.known(index) for _, index in given):
        return _known_index_put(write, list(indices), values)
    if len(given) == 1 and given[0][1].dtype == torch.bool and values.numel() == 1:
        place, mask = given[0]
        shape = (*mask.shape, *(1 for _ in range(target.ndim - place - mask.ndim)))
        return write.masked(write.make("view", mask, list(shape), shape=shape), _one(write, values))
    if len(indices) == target.ndim == 2 and len(given) == 2 and write.known(indices[0]) and values.numel() == 1 and \
            torch.equal(indices[0], torch.arange(target.shape[0])) and indices[1].ndim == 1:  # one-hots, a row each
        return write.masked(_equal(write, indices[1].shape, indices[1], 1), _one(write, values))
    raise write.refuse("writes at indices that depend on pixels or conditions. Write it with torch.where, or with "
                       "torch.nn.functional.one_hot.")


def _one(write: _Write, values: torch.Tensor) -> Any:
    return values.reshape(()) if write.known(values) else write.make("view", values, [], shape=())


def _known_index_put(write: _Write, indices: list[Any], values: torch.Tensor) -> Any:
    """Constant indices: a mask if one number is written, else a slice for each index."""
    given = [k for k, index in enumerate(indices) if index is not None]
    if values.numel() == 1:
        mask = torch.zeros(write.shape, dtype=torch.bool)
        mask[tuple(slice(None) if index is None else index for index in indices)] = True
        return write.masked(mask, _one(write, values))
    axis, index = given[0], indices[given[0]]
    if index.dtype == torch.bool and index.ndim == 1:
        index = index.nonzero()[:, 0]
    if len(given) != 1 or index.ndim != 1 or index.dtype == torch.bool:
        raise write.refuse("writes several numbers at indices of more than one axis, which is not understood. "
                           "Write slices, or a torch.where of the whole shape.")
    return _index_copy(write, axis, index, values)


def _index_copy(write: _Write, axis: int, index: torch.Tensor, values: torch.Tensor) -> Any:
    """`values`, which broadcast to the target with as many entries along `axis` as `index` has, at those entries."""
    rank, size = len(write.shape), write.shape[axis]
    axis %= rank
    if not write.known(index):
        raise write.refuse("writes at indices that depend on pixels or conditions. Write it with torch.where.")
    places = [int(k) % size for k in index.flatten().tolist()]
    if len(set(places)) != len(places) or len(places) > MOST:
        raise write.refuse(f"writes at {len(places)} indices, expected different ones and at most {MOST}. Write "
                           "slices, or a torch.where of the whole shape.")
    shape = (*write.shape[:axis], len(places), *write.shape[axis + 1:])
    values = write.make("expand", values, list(shape), shape=shape)
    new = write.recording.value(write.target)
    for k, place in enumerate(places):
        each = (*write.shape[:axis], 1, *write.shape[axis + 1:])
        part = write.make("slice", values, axis, k, k + 1, shape=each)
        new = write.make("slice_scatter", new, part, axis, place, place + 1, 1)
    return new


def _index_fill(write: _Write, axis: int, index: torch.Tensor, value: Any) -> Any:
    if not write.known(index):
        raise write.refuse("writes at indices that depend on pixels or conditions. Write it with torch.where.")
    mask = torch.zeros(write.shape, dtype=torch.bool).index_fill_(axis, index, True)
    return write.masked(mask, value)


def _scatter(write: _Write, axis: int, index: torch.Tensor, source: Any = None, *, value: Any = None,
             reduce: str | None = None) -> Any:
    """At each place along `axis` that is one of `index`'s entries there: `source`'s entry, or one value."""
    source = value if source is None else source
    axis %= len(write.shape)
    others = [k for k in range(len(write.shape)) if k != axis]
    count = index.shape[axis] if index.ndim else 1
    if reduce is not None or index.ndim != len(write.shape) or count > MOST or \
            any(index.shape[k] != write.shape[k] for k in others):
        raise write.refuse("is understood without reduce= and with indices for every place of the other axes, at most "
                           f"{MOST} each. Write it with torch.nn.functional.one_hot or torch.where.")
    new: Any = None
    for k in range(count):
        shape = (*index.shape[:axis], 1, *index.shape[axis + 1:])
        at = write.make("slice", index, axis, k, k + 1, shape=shape) if count > 1 else index
        mask = _compare(write, at, axis)
        part: Any = source
        if isinstance(source, torch.Tensor) and source.ndim:
            part = write.make("slice", source, axis, k, k + 1, shape=shape)
        elif not isinstance(source, torch.Tensor):
            part = torch.tensor(source, dtype=write.target.dtype)
        new = write.make("where", mask, part, write.target if new is None else new)
    return new


def _equal(write: _Write, shape: Any, index: torch.Tensor, axis: int) -> Any:
    wide = (*shape[:axis], 1, *shape[axis:])
    return _compare(write, write.make("unsqueeze", index, axis, shape=wide), axis)


def _compare(write: _Write, index: Any, axis: int) -> Any:
    """Where the place along `axis` is the one that `index`, of one entry there, names."""
    sizes = [1] * len(write.shape)
    sizes[axis] = write.shape[axis]
    return write.make("eq", index, torch.arange(write.shape[axis]).view(sizes))


FORMS: dict[str, Callable[..., Any]] = {
    "copy_": _copy, "fill_": _fill, "zero_": _fill, "index_put_": _index_put, "_index_put_impl_": _index_put,
    "index_copy_": _index_copy, "index_fill_": _index_fill, "scatter_": _scatter,
}
