"""Layers of random networks that write in place, and leaks that come in through such writes.

A `Written` layer begins with a copy, zeros or unwritten memory, and writes into slices and views of it. It sees no
later pixel than what it is given: slices are written from the same places, from rows above, or from columns before.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..zoo import conv
from .causal import STEPS, Builder, Sees, Value
from .choices import Choices
from .layers import ACTS
from .leaks import PLANTS, past, pixels

Change = Callable[[Tensor, Tensor], object]  # what is changed, and something in its shape
Write = Callable[[Tensor, Tensor, Tensor], object]  # the memory, the layer's input, and a value made of it

CHANGES: dict[str, Change] = {
    "=": lambda z, y: z.copy_(y), "+=": lambda z, y: z.add_(y), "*=": lambda z, y: z.mul_(torch.sigmoid(y)),
    "relu_": lambda z, y: z.relu_().sub_(y), "clamp_": lambda z, y: z.clamp_(-0.6, 0.8).add_(0.1),
    "masked_fill_": lambda z, y: z.masked_fill_(y > 0.2, -0.4), "zero_": lambda z, y: z.zero_(),
    "fill_": lambda z, y: z.fill_(0.3), "where": lambda z, y: z.__setitem__(z > 0.1, 0.25),
    "tanh_": lambda z, y: z.neg_().tanh_(),
}
Cut = tuple[slice, slice, slice, slice]


def _span(choices: Choices, size: int) -> slice:
    """Some or all of so many entries, never none."""
    start = choices.pick(size)
    return slice(start, start + 1 + choices.pick(size - start))


def _somewhere(choices: Choices, width: int, shape: tuple[int, int]) -> Cut:
    every = slice(None)
    sizes = (width, *shape)
    found = [_span(choices, size) if choices.chance(2) else every for size in sizes]
    return every, found[0], found[1], found[2]


def _local(choices: Choices, change: str, width: int, shape: tuple[int, int]) -> tuple[Write, str]:
    """A part of the memory from the same part of the value, through one of several views."""
    act, how = CHANGES[change], choices.of(("slice", "permuted", "flat", "unsqueezed", "groups", "one channel",
                                            "one row", "one column", "narrowed", "unbound"))
    cut, k = _somewhere(choices, width, shape), choices.pick(width)
    row, column = choices.pick(shape[0]), choices.pick(shape[1])
    _, channels, rows, columns = cut
    writes: dict[str, Write] = {
        "slice": lambda z, x, y: act(z[cut], y[cut]),
        "permuted": lambda z, x, y: act(z.permute(0, 2, 3, 1)[:, rows, :, channels],
                                        y.permute(0, 2, 3, 1)[:, rows, :, channels]),
        "flat": lambda z, x, y: act(z.flatten(2)[:, channels], y.flatten(2)[:, channels]),
        "unsqueezed": lambda z, x, y: act(z.unsqueeze(1).transpose(2, 3)[:, 0, rows, channels],
                                          y.transpose(1, 2)[:, rows, channels]),
        "groups": lambda z, x, y: act(z.view(z.shape[0], -1, 1, *shape)[:, channels], y[:, channels].unsqueeze(2)),
        "one channel": lambda z, x, y: act(z[:, k], y[:, k]),
        "one row": lambda z, x, y: act(z[:, :, row], y[:, :, row]),
        "one column": lambda z, x, y: act(z[..., column], y[..., column]),
        "narrowed": lambda z, x, y: act(z.narrow(2, row, 1).narrow(3, column, shape[1] - column),
                                        y[:, :, row:row + 1, column:]),
        "unbound": lambda z, x, y: act(z.unbind(1)[k], z.chunk(width, 1)[-1][:, 0] + y[:, k]),
    }
    places = {"slice": cut, "one row": row, "one column": column, "narrowed": (row, column)}.get(how, channels)
    return writes[how], f"{how} {change} {places}"


def _shifted(choices: Choices, change: str, shape: tuple[int, int], free: bool) -> tuple[Write, str]:
    """Slices from slices of rows above or of columns before."""
    dy, dx = choices.of(((1, 0), (0, 1), (1, 1), (1, -1), (2, 0), (0, 2)) if not free else ((0, -1), (1, -2), (0, 1)))
    height, width = max(shape[0] - dy, 0), max(shape[1] - abs(dx), 0)
    into = (slice(None), slice(None), slice(dy, None), slice(dx, None) if dx >= 0 else slice(0, width))
    of = (slice(None), slice(None), slice(0, height), slice(0, width) if dx >= 0 else slice(-dx, None))
    act = CHANGES[change]
    return lambda z, x, y: act(z[into], y[of]), f"shift {dy, dx} {change}"


def _looped(choices: Choices, change: str, shape: tuple[int, int]) -> tuple[Write, str]:
    """Every row or column by itself, from its own place, or from the one before that was just written."""
    act, rows, recurrent = CHANGES[change], choices.chance(2), choices.chance(2)

    def run(z: Tensor, x: Tensor, y: Tensor) -> None:
        for k in range(int(recurrent), shape[0 if rows else 1]):
            if rows:
                act(z[:, :, k], torch.tanh(z[:, :, k - 1]) if recurrent else y[:, :, k])
            else:
                act(z[..., k], torch.tanh(z[..., k - 1]) if recurrent else y[..., k])
    return run, f"every {'row' if rows else 'column'} {change}{' from the one before' if recurrent else ''}"


def _placed(choices: Choices, width: int, shape: tuple[int, int]) -> tuple[Write, str]:
    """Known numbers at masks, indices and every other place."""
    how, value = choices.of(("mask", "indices", "every other row", "every other channel", "map")), 0.5
    mask, table = torch.rand(shape) < 0.4, torch.randn(1, width, *shape)
    index = torch.randperm(width)[: 1 + choices.pick(width)]
    cut = _somewhere(choices, width, shape)
    writes: dict[str, Write] = {
        "mask": lambda z, x, y: z.__setitem__((slice(None), slice(None), mask), value),
        "indices": lambda z, x, y: z.__setitem__((slice(None), index), y[:, : len(index)]),
        "every other row": lambda z, x, y: z[:, :, ::2].fill_(value),
        "every other channel": lambda z, x, y: z[:, ::2].copy_(y[:, : (width + 1) // 2]),
        "map": lambda z, x, y: z[cut].copy_(table.to(z.dtype)[cut]),
    }
    return writes[how], f"{how} {index.tolist() if how == 'indices' else cut if how == 'map' else ''}"


class Written(nn.Module):
    """`begin`: what is written into. Afterwards all of its names are read."""

    BEGIN = ("copy", "zeros", "empty", "ones")

    def __init__(self, begin: str, width: int, act: str, writes: list[Write]) -> None:
        super().__init__()
        self.begin, self.act, self.writes, self.mix = begin, ACTS[act], writes, conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(self.act(x))
        z = {"copy": x.clone, "zeros": lambda: torch.zeros_like(y), "ones": lambda: torch.ones_like(y),
             "empty": lambda: torch.empty(y.shape, dtype=y.dtype)}[self.begin]()
        name, half = z.view(z.shape[0], -1, *z.shape[2:]), z[:, : (z.shape[1] + 1) // 2]
        if self.begin == "empty":
            z[:, 1:], z[:, :1] = y[:, 1:], x[:, :1]
        for write in self.writes:
            write(z, x, y)
        half.add_(0.1)
        return 0.5 * name + z


def written(build: Builder, x: Value) -> Value:
    choices, writes, text = build.choices, [], []
    for _ in range(1 + choices.up_to(2)):
        change, kind = choices.of(tuple(CHANGES)), choices.of(("local", "shifted", "placed", "looped", "local"))
        if kind == "local":
            write, told = _local(choices, change, x.width, build.shape)
        elif kind == "shifted":
            write, told = _shifted(choices, change, build.shape, x.sees <= Sees.ABOVE)
        elif kind == "placed":
            write, told = _placed(choices, x.width, build.shape)
        else:
            write, told = _looped(choices, change, build.shape)
        writes.append(write)
        text.append(told)
    begin, act = choices.of(Written.BEGIN), choices.of(tuple(ACTS))
    return build.add(Written(begin, x.width, act, writes), (x,), x.width, x.sees,
                     f"{begin} written ({'; '.join(text)}), {act}")


def a_write_from_later(build: Builder) -> Value:
    """A slice from the rows below or from the columns behind."""
    x, change = past(build), build.choices.of(("=", "+=", "*="))
    rows, act = build.choices.chance(2) and build.shape[0] > 1, CHANGES[change]

    def run(z: Tensor, _: Tensor, y: Tensor) -> None:
        act(*((z[:, :, :-1], y[:, :, 1:]) if rows else (z[..., :-1], y[..., 1:])))
    return build.add(Written("copy", x.width, "tanh", [run]), (x,), x.width, x.sees,
                     f"written from later {'rows' if rows else 'columns'} {change}")


def a_write_of_the_pixel(build: Builder) -> Value:
    """The pixel's own value in some rows or columns of what it may not be in."""
    x, choices = pixels(build), build.choices
    cut, act = _somewhere(choices, x.width, build.shape), CHANGES[choices.of(("=", "+="))]

    def run(z: Tensor, given: Tensor, _: Tensor) -> None:
        act(z[cut], torch.tanh(given)[cut])
    return build.add(Written("zeros", x.width, "tanh", [run]), (x,), x.width, x.sees, f"pixels written into {cut}")


STEPS.append(lambda build: written(build, build.recent()))
PLANTS.extend((a_write_from_later, a_write_of_the_pixel))
