"""Random networks with exactly one leak: causal up to a layer that lets the current or a later pixel in, and after it.

Not every planted leak reaches a prediction (later taps may fall off the canvas, an activation may be flat): whether it
does is the oracle's to say, see `judge`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..zoo_attention import exp_with_future_maximum, inclusive, plain_fill, start_mask, strict, zero_by_mask
from .causal import STEPS, WIDTHS, Builder, Case, Sees, Value, finish, join, kernel, start, strictly
from .choices import Choices
from .layers import Attend, Kernel, Reach, Shift


def pixels(build: Builder) -> Value:
    """A value that sees the pixel itself."""
    seen = [v for v in build.values if v.sees == Sees.INCLUSIVE and not v.vector]
    return build.choices.of(seen)


def past(build: Builder) -> Value:
    """A value that depends on pixels, the latest first."""
    seen = [v for v in reversed(build.values) if v.sees > Sees.NOTHING and not v.vector]
    return seen[build.choices.up_to(min(2, len(seen) - 1))]


def the_pixel_itself(build: Builder) -> Value:
    """A value that sees the pixel is used without a shift, as a condition made of the pixels would be."""
    return build.add(nn.Tanh(), (x := pixels(build),), x.width, x.sees, "no shift")


def a_tap_at_the_pixel(build: Builder) -> Value:
    """The first layer's kernel with its centre, as of kind B where kind A belongs."""
    x, rows, columns = pixels(build), 1 + build.choices.up_to(1), 2 + build.choices.up_to(1)
    seen = torch.ones(rows, columns)
    return _kernel(build, x, Reach(rows, columns, columns - 1), seen)


def a_tap_after_the_pixel(build: Builder) -> Value:
    """A kernel that is centred, as ordinary convolutions are."""
    x, size = past(build), build.choices.of(((1, 3), (3, 3), (3, 1), (2, 2)))
    return _centred(build, x, size)


def _centred(build: Builder, x: Value, size: tuple[int, int]) -> Value:
    out = build.choices.of(WIDTHS)
    pads = [size[1] // 2, (size[1] - 1) - (size[1] - 1) // 2, size[0] // 2, (size[0] - 1) - (size[0] - 1) // 2]

    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(x.width, out, size)

        def forward(self, y: Tensor) -> Tensor:
            return self.conv(F.pad(y, [pads[1], pads[0], pads[3], pads[2]]))[:, :, : y.shape[2], : y.shape[3]]
    return build.add(Centred(), (x,), out, x.sees, f"{size} kernel with taps after the pixel")


def _kernel(build: Builder, x: Value, reach: Reach, seen: Tensor) -> Value:
    out = build.choices.of(WIDTHS)
    return build.add(Kernel(x.width, out, reach, seen, act="none"), (x,), out, x.sees,
                     f"{reach.rows}x{reach.columns} kernel with its centre")


def a_shift_back(build: Builder) -> Value:
    dy, dx = build.choices.of(((0, -1), (-1, 0), (-1, 1)))
    x = past(build)
    return build.add(Shift(dy, dx, 0.0, "pad"), (x,), x.width, x.sees, f"shift {dy, dx}")


def _attention(build: Builder, mask: Tensor, weigh: Callable[[Tensor, Tensor], Tensor], text: str, *,
               queries: Value | None = None, keys: Value | None = None, pool: tuple[int, int] | None = None) -> Value:
    choices = build.choices
    x, y = queries or past(build), keys or pixels(build)
    layer = Attend(choices.of(Attend.FORMS), mask, weigh, (x.width, y.width), 1 + choices.pick(2), choices.of((2, 1)),
                   choices.of((2, 1)), pool, False)
    return build.add(layer, (x, y), layer.value, Sees.INCLUSIVE, f"attention, {weigh.__name__}, {text}")


def no_mask(scores: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax(scores, -1)


def filled_only(scores: Tensor, mask: Tensor) -> Tensor:
    """A fully masked query averages all positions."""
    return torch.softmax(scores.masked_fill(~mask, -1e10), -1)


def added_only(scores: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax(scores - 1e10 * (1 - mask.type_as(scores)), -1)


def attention_to_all(build: Builder) -> Value:
    return _attention(build, strict(build.shape), no_mask, "without its mask")


def attention_to_the_future(build: Builder) -> Value:
    return _attention(build, strict(build.shape).T.contiguous(), zero_by_mask, "mask transposed")


def attention_to_the_pixel(build: Builder) -> Value:
    """Inclusive where it must be strict: keys and values see the pixel."""
    weigh = build.choices.of((plain_fill, zero_by_mask))
    return _attention(build, inclusive(build.shape), weigh, "inclusive of the pixel")


def attention_one_too_far(build: Builder) -> Value:
    return _attention(build, torch.ones_like(strict(build.shape)).tril(1), plain_fill, "one position too far")


def queries_that_see_the_pixel(build: Builder) -> Value:
    keys = [v for v in build.values if not v.vector and Sees.NOTHING < v.sees]
    return _attention(build, strict(build.shape), start_mask, "queries see the pixel", queries=pixels(build),
                      keys=build.choices.of(keys))


def a_fully_masked_row(build: Builder) -> Value:
    return _attention(build, strict(build.shape), build.choices.of((filled_only, added_only)), "first row fully masked",
                      keys=past(build))


def a_maximum_of_the_future(build: Builder) -> Value:
    return _attention(build, strict(build.shape), exp_with_future_maximum, "maximum over all", keys=past(build))


def blocks_too_early(build: Builder) -> Value:
    """A pooled block counts as soon as its first position is past."""
    (height, width), pools = build.shape, []
    pools = [(py, px) for py in (1, 2) for px in (2, 1) if py * px > 1 and not height % py and not width % px]
    if not pools:
        return attention_to_all(build)
    py, px = build.choices.of(pools)
    mask = strict(build.shape).view(-1, height, width)[:, ::py, ::px].flatten(1)
    return _attention(build, mask, zero_by_mask, f"blocks {py, px} counted early", pool=(py, px))


class OverTheCanvas(nn.Module):
    """Statistics of all positions."""

    HOW = ("mean", "instance norm", "group norm", "layer norm", "maximum", "painted", "softmax", "sum by product")

    def __init__(self, how: str, width: int, shape: tuple[int, int]) -> None:
        super().__init__()
        self.how, self.shape = how, shape
        self.norm = {"instance norm": nn.InstanceNorm2d(width), "group norm": nn.GroupNorm(1, width),
                     "layer norm": nn.LayerNorm([width, *shape])}.get(how)

    def forward(self, x: Tensor) -> Tensor:
        if self.norm is not None:
            return self.norm(x)
        if self.how == "mean":
            return x * torch.sigmoid(x.mean((2, 3), keepdim=True))
        if self.how == "maximum":
            return x - x.amax((2, 3), keepdim=True)
        if self.how == "painted":  # every value at every position
            flat = x.flatten(2)
            return flat.unsqueeze(2).expand(-1, -1, flat.shape[2], -1).sum(3).view_as(x)
        if self.how == "softmax":
            return torch.softmax(x.flatten(2), -1).view_as(x)
        ones = torch.ones(x.shape[2] * x.shape[3], x.shape[2] * x.shape[3], dtype=x.dtype)
        return (x.flatten(2) @ ones).view_as(x)


def over_the_canvas(build: Builder) -> Value:
    x, how = past(build), build.choices.of(OverTheCanvas.HOW)
    return build.add(OverTheCanvas(how, x.width, build.shape), (x,), x.width, x.sees, how)


class Turned(nn.Module):
    """Positions in another order."""

    HOW = ("transposed", "flipped", "rolled", "pooled")

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "transposed" and x.shape[2] == x.shape[3]:
            return x + x.transpose(2, 3)
        if self.how == "rolled":
            return torch.roll(x, 1, 3)
        if self.how == "pooled" and not x.shape[2] % 2 and not x.shape[3] % 2:
            return F.interpolate(F.max_pool2d(x, 2), scale_factor=2.0)
        return x.flip(3)


def turned(build: Builder) -> Value:
    x, how = past(build), build.choices.of(Turned.HOW)
    return build.add(Turned(how), (x,), x.width, x.sees, how)


PLANTS: list[Callable[[Builder], Value]] = [  # more of them in files of their own
    the_pixel_itself, a_tap_at_the_pixel, a_tap_after_the_pixel, a_shift_back, attention_to_all,
    attention_to_the_future, attention_to_the_pixel, attention_one_too_far, queries_that_see_the_pixel,
    a_fully_masked_row, a_maximum_of_the_future, blocks_too_early, over_the_canvas, turned]


def leaking(choices: Choices) -> Case:
    """A causal network into which one leak is planted, and perhaps layers after it that keep what it lets in."""
    build = start(choices)
    for _ in range(choices.up_to(3)):
        choices.of(STEPS)(build)
    x = strictly(build, build.recent())
    plant = choices.of(PLANTS)
    leak = plant(build)
    for _ in range(choices.up_to(1)):
        leak = kernel(build, leak, False)
    x = join(build, x, leak)
    return finish(build, x, plant.__name__)
