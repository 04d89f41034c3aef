"""Random networks that are causal by construction: every value knows which pixels it may see.

A network is a list of layers over numbered values: the pixels, the conditions, and what layers made of them. Layers are
chosen so that what each value sees follows from what its inputs see, without looking at the exporter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.distributions import Categorical, Distribution, LogisticMixture
from pixelsnail_infer.export.tracing.trace import InputSpec

from ..zoo import Shape, conv
from ..zoo_attention import (
    additive_billion,
    additive_infinity,
    exp_with_masked_maximum,
    exp_without_maximum,
    float_mask,
    inclusive,
    nan_by_where,
    nan_to_zero,
    plain_fill,
    rows_above,
    soft_ratio,
    start_mask,
    strict,
    zero_by_mask,
)
from .choices import Choices
from .layers import ACTS, Attend, Join, Kernel, Pointwise, Reach, Shift, Valid

CANVASES = ((3, 4), (4, 3), (2, 3), (3, 3), (1, 5), (5, 1), (2, 2), (4, 4), (2, 6), (4, 2))
LAWS: tuple[Distribution, ...] = (Categorical(4), Categorical(2), LogisticMixture(1, 1), LogisticMixture(1, 3))
WIDTHS = (3, 4, 2, 1)
BORDERS = (0.0, 0.0, -0.7, 0.3)
ANY_ROW = (zero_by_mask, nan_to_zero, nan_by_where, additive_billion, float_mask, exp_with_masked_maximum,
           exp_without_maximum, soft_ratio)  # queries that may see nothing give 0
FULL_ROW = (*ANY_ROW, plain_fill, additive_infinity)  # every query sees something


class Sees(IntEnum):
    """The latest pixel that a value may see: none, one of the rows above, an earlier one, the pixel itself."""

    NOTHING = 0
    ABOVE = 1
    STRICT = 2
    INCLUSIVE = 3


@dataclass(frozen=True)
class Value:
    number: int
    width: int
    sees: Sees
    vector: bool = False  # [B, C, 1, 1]


class Encode(nn.Module):
    """Codes, labels, images or vectors as floating-point maps or vectors."""

    def __init__(self, how: str, levels: int, width: int, shape: Shape, factors: Shape = (1, 1)) -> None:
        super().__init__()
        self.how, self.levels, self.shape, self.factors = how, levels, shape, factors
        size = shape[0] * shape[1] if how == "laid out" else width
        self.table = nn.Embedding(max(levels, 1), size)
        self.mix = conv(levels if how == "coarse" else width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "one-hot":
            return F.one_hot(x, self.levels).movedim(-1, 1).to(self.table.weight.dtype)
        if self.how == "embedding":
            return self.table(x).permute(0, 3, 1, 2)
        if self.how == "scaled":
            y = x.unsqueeze(1).to(self.table.weight.dtype) / self.levels - 0.4
            return torch.cat([y, torch.ones_like(y)], 1)
        if self.how == "with ones":
            return F.pad(x, [0, 0, 0, 0, 0, 1], value=1.0)
        if self.how == "label":
            return self.table(x)[:, :, None, None]
        if self.how == "laid out":
            return self.table(x).view(-1, 1, *self.shape)
        if self.how == "vector":
            return torch.tanh(x)[:, :, None, None]
        if self.how == "coarse":
            y = F.one_hot(x, self.levels).permute(0, 3, 1, 2).to(self.table.weight.dtype)
            return F.interpolate(F.elu(self.mix(y)), size=self.shape, mode="nearest")
        return torch.tanh(x)  # "as it is"


class Places(nn.Module):
    """A learned map, the same for all images."""

    def __init__(self, width: int, shape: Shape) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, width, *shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.table.expand(x.shape[0], -1, -1, -1)


class Net(nn.Module):
    """Encoders for the inputs, layers over numbered values, and a head on the last one."""

    def __init__(self, encoders: list[nn.Module], layers: list[tuple[nn.Module, tuple[int, ...]]], head: nn.Module,
                 log: bool) -> None:
        super().__init__()
        self.encoders, self.layers = nn.ModuleList(encoders), nn.ModuleList(layer for layer, _ in layers)
        self.reads, self.head, self.log = [reads for _, reads in layers], head, log

    def forward(self, *inputs: Tensor) -> Tensor:
        values = [encode(x) for encode, x in zip(self.encoders, inputs, strict=True)]
        for layer, reads in zip(self.layers, self.reads, strict=True):
            values.append(layer(*(values[k] for k in reads)))
        out = self.head(values[-1])
        return F.log_softmax(out, 1) if self.log else out


@dataclass
class Case:
    """A network, what it takes and gives, and what is known about it by construction."""

    net: nn.Module
    inputs: tuple[InputSpec, ...]
    shape: Shape
    law: Distribution
    text: list[str]
    leak: str | None = None


@dataclass
class Builder:
    choices: Choices
    shape: Shape
    law: Distribution
    values: list[Value] = field(default_factory=list)
    inputs: list[InputSpec] = field(default_factory=list)
    encoders: list[nn.Module] = field(default_factory=list)
    layers: list[tuple[nn.Module, tuple[int, ...]]] = field(default_factory=list)

    def _value(self, width: int, sees: Sees, text: str, vector: bool = False) -> Value:
        value = Value(len(self.values), width, sees, vector)
        self.values.append(value)
        self.choices.text.append(f"{value.number}: {text} -> {width} channels, sees {sees.name}")
        return value

    def add(self, layer: nn.Module, reads: tuple[Value, ...], width: int, sees: Sees, text: str) -> Value:
        self.layers.append((layer, tuple(v.number for v in reads)))
        return self._value(width, sees, f"{text} of {', '.join(str(v.number) for v in reads)}")

    def moves(self, x: Value) -> bool:
        """Whether a value depends on any pixel."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            inputs = [spec.example(1, torch.float32) for spec in self.inputs]
        net = Net(self.encoders, self.layers[: x.number + 1 - len(self.encoders)], nn.Identity(), False).eval()
        with torch.no_grad():
            before = net(*inputs)
            other = inputs[0] + 1
            inputs[0] = other if self.law.pixel_shape else other % self.law.parameters
            return not torch.equal(before, net(*inputs))

    def encode(self, spec: InputSpec, encoder: nn.Module, width: int, sees: Sees, text: str, vector: bool = False
               ) -> None:
        self.inputs.append(spec)
        self.encoders.append(encoder)
        self._value(width, sees, text, vector)

    def recent(self, *, maps: bool = True) -> Value:
        """One of the last values; with `maps` no vector."""
        found = [v for v in reversed(self.values) if not (maps and v.vector)]
        made = [v for v in found if v.number >= len(self.encoders)]  # conditions are recent at first, and seldom meant
        first = self.values[:1] if not made or self.choices.chance(5) else []
        found = [*first, *made, *(v for v in found if v.number < len(self.encoders) and v not in first)]
        return found[self.choices.up_to(min(2, len(found) - 1))]


def start(choices: Choices) -> Builder:
    """Canvas, pixels and conditions."""
    build = Builder(choices, choices.of(CANVASES), choices.of(LAWS))
    shape, law = build.shape, build.law
    choices.text.append(f"canvas {shape}, {law}")
    if law.pixel_shape:
        how = choices.of(("as it is", "with ones"))
        channels = law.pixel_shape[0]
        spec = InputSpec("pixels", (channels, *shape), torch.float64)
        build.encode(spec, Encode(how, 0, 1, shape), channels + (how == "with ones"), Sees.INCLUSIVE, f"image, {how}")
    else:
        levels, how = law.parameters, choices.of(("one-hot", "embedding", "scaled"))
        width = {"one-hot": levels, "embedding": 3, "scaled": 2}[how]
        spec = InputSpec("pixels", shape, torch.int64, levels)
        build.encode(spec, Encode(how, levels, width, shape), width, Sees.INCLUSIVE, f"codes, {how}")
    for number, kind in enumerate(choices.several(("label", "vector", "map", "codes", "laid out"), 2)):
        condition(build, f"condition{number}", kind)
    if choices.chance(5):
        width = choices.of(WIDTHS)
        build.add(Places(width, shape), (build.values[0],), width, Sees.NOTHING, "a learned number for every position")
    return build


def condition(build: Builder, name: str, kind: str) -> None:
    shape, width = build.shape, build.choices.of(WIDTHS)
    if kind in ("label", "laid out"):
        width = 1 if kind == "laid out" else width
        build.encode(InputSpec(name, (), torch.int64, 3), Encode(kind, 3, width, shape), width, Sees.NOTHING, kind,
                     kind == "label")
    elif kind == "vector":
        build.encode(InputSpec(name, (3,), torch.float64), Encode(kind, 0, 3, shape), 3, Sees.NOTHING, kind, True)
    elif kind == "map":
        spec = InputSpec(name, (2, *shape), torch.float64)
        build.encode(spec, Encode("as it is", 0, 2, shape), 2, Sees.NOTHING, kind)
    else:
        factors = [(fy, fx) for fy in (1, 2, 3) for fx in (2, 1, 3) if not shape[0] % fy and not shape[1] % fx]
        fy, fx = build.choices.of(factors)
        spec = InputSpec(name, (shape[0] // fy, shape[1] // fx), torch.int64, 3)
        build.encode(spec, Encode("coarse", 3, width, shape), width, Sees.NOTHING, f"codes of a {spec.shape} grid")


def kernel(build: Builder, x: Value, exclude: bool | None = None) -> Value:
    """A convolution that sees no later pixel than `x` and its own place allow; `exclude` leaves the pixel out, too."""
    choices, out = build.choices, build.choices.of(WIDTHS)
    rows, columns = 1 + choices.up_to(2), 1 + choices.up_to(3)
    at, down = choices.pick(columns), choices.of((0, 0, 0, 0, 1, 2))
    dilation = (1 + choices.pick(2), 1 + choices.pick(2))
    if exclude is None:
        exclude = choices.chance(4)
    seen = torch.ones(rows, columns)
    if x.sees > Sees.ABOVE and not down:
        seen[-1, at + 1:] = 0
    if exclude and not down:
        seen[-1, at] = 0
    if choices.chance(4):
        seen[0, : at] = 0
    if not bool(seen.any()):
        rows, columns, at, seen = 1, 2, 1, torch.tensor([[1.0, 0.0]])
    sees = x.sees
    if sees > Sees.ABOVE and down:
        sees = Sees.ABOVE
    elif sees == Sees.INCLUSIVE and not bool(seen[-1, at]):
        sees = Sees.STRICT
    style, act, border = choices.of(("pad", "act", "same")), choices.of(tuple(ACTS)), choices.of(BORDERS)
    bias, groups = not choices.chance(3), 1 if choices.up_to(1) == 0 or x.width % 2 or out % 2 else 2
    layer = Kernel(x.width, out, Reach(rows, columns, at, down, dilation), seen, style=style, act=act, border=border,
                   bias=bias, groups=groups, mask=choices.of(("once", "product", "data")))
    text = f"{rows}x{columns} convolution at {at}, {down} down, dilation {dilation}, {style} {act} border {border}, " \
           f"bias {bias}, groups {groups}, mask {layer.mask} {seen.int().tolist()}"
    return build.add(layer, (x,), out, sees, text)


def valid(build: Builder, x: Value) -> Value:
    choices, out = build.choices, build.choices.of(WIDTHS)
    rows, columns = choices.of(((1, 1), (2, 2), (2, 3), (1, 3)))
    second, border, act = 2 + choices.pick(2), choices.of(BORDERS), choices.of(tuple(ACTS))
    layer = Valid(x.width, out, Reach(rows, columns, columns - 1), second, border, act)
    return build.add(layer, (x,), out, x.sees, f"{rows}x{columns}, {second}x{second}, padded once by {border}, {act}")


def shift(build: Builder, x: Value, strictly: bool = False) -> Value:
    """`strictly`: so that the pixel itself is not seen any more."""
    choices = build.choices
    dy = choices.of((0, 1, 0, 1, 2))
    free = x.sees <= Sees.ABOVE and not strictly
    dx = choices.of((0, 1, 2, -1, -2)) if dy or free else choices.of((1, 1, 2))
    sees = x.sees
    if sees > Sees.ABOVE:
        sees = Sees.ABOVE if dy else Sees.STRICT
    border, style = choices.of(BORDERS), choices.of(("pad", "cat"))
    return build.add(Shift(dy, dx, border, style), (x,), x.width, sees, f"shift {dy, dx}, {style}, border {border}")


def pointwise(build: Builder, x: Value) -> Value:
    how, out, act = build.choices.of(Pointwise.HOW), build.choices.of(WIDTHS), build.choices.of(tuple(ACTS))
    return build.add(Pointwise(how, x.width, out, act, build.shape), (x,), out, x.sees, f"{how} {act}")


def join(build: Builder, x: Value, y: Value) -> Value:
    how, out = build.choices.of(Join.HOW), build.choices.of(WIDTHS)
    return build.add(Join(how, (x.width, y.width), out), (x, y), out, max(x.sees, y.sees), how)


def attend(build: Builder, x: Value, y: Value) -> Value:
    """Queries of `x`, keys and values of `y`."""
    choices, shape = build.choices, build.shape
    masks = ["strict", "inclusive", "rows above"] + ["own row"] * (y.sees <= Sees.ABOVE)
    masks += ["all"] * (y.sees == Sees.NOTHING)
    pools = [(py, px) for py in (2, 1) for px in (2, 1) if py * px > 1 and not shape[0] % py and not shape[1] % px]
    kind = choices.of([*masks, *(["blocks"] if pools else [])])
    pool, sees = None, y.sees
    if kind == "blocks":
        pool = choices.of(pools)
        mask = strict(shape).view(-1, *shape)[:, pool[0] - 1::pool[0], pool[1] - 1::pool[1]].flatten(1)
    else:
        mask = {"strict": strict, "inclusive": inclusive, "rows above": rows_above, "own row": own_row,
                "all": lambda shape: torch.ones_like(strict(shape))}[kind](shape)
    if kind in ("strict", "blocks"):
        sees = min(sees, Sees.STRICT)
    elif kind == "rows above":
        sees = min(sees, Sees.ABOVE)
    weigh = choices.of(FULL_ROW if bool(mask.any(1).all()) else (*ANY_ROW, start_mask) if kind == "strict" else ANY_ROW)
    form = choices.of(Attend.FORMS)
    heads, key, value = 1 + choices.pick(2), choices.of((2, 1, 3)), choices.of((2, 1, 3))
    layer = Attend(form, mask, weigh, (x.width, y.width), heads, key, value, pool, choices.chance(4))
    text = f"attention, {kind} {pool or ''} {weigh.__name__}, {form}, {heads} heads of {key}, {value}, queries and keys"
    return build.add(layer, (x, y), layer.value, max(x.sees, sees), text)


def own_row(shape: Shape) -> Tensor:
    row = torch.arange(shape[0] * shape[1]) // shape[1]
    return row[None] <= row[:, None]


def strictly(build: Builder, x: Value) -> Value:
    """`x`, or what no longer sees the pixel itself of it."""
    if x.sees < Sees.INCLUSIVE:
        return x
    return kernel(build, x, True) if build.choices.chance(2) else shift(build, x, True)


STEPS: list[Callable[[Builder], Value]] = [  # more of them in files of their own, which the package gathers
    lambda build: kernel(build, build.recent()), lambda build: pointwise(build, build.recent()),
    lambda build: shift(build, build.recent()), lambda build: join(build, build.recent(), build.recent(maps=False)),
    lambda build: attend(build, build.recent(), build.recent()), lambda build: kernel(build, build.recent(), True),
    lambda build: valid(build, build.recent())]


def finish(build: Builder, x: Value, leak: str | None = None) -> Case:
    """A head on `x`, which must be the last value."""
    log = not build.law.pixel_shape and build.choices.chance(3)
    net = Net(build.encoders, build.layers, conv(x.width, build.law.parameters), log).double().eval()
    return Case(net.requires_grad_(False), tuple(build.inputs), build.shape, build.law, build.choices.text, leak)


def causal(choices: Choices) -> Case:
    """A network whose predictions see earlier pixels only. Weights follow torch's global generator."""
    build = start(choices)
    for _ in range(1 + choices.up_to(5)):
        choices.of(STEPS)(build)
    x = strictly(build, build.recent())
    if choices.chance(2) or x.number != len(build.values) - 1:
        x = join(build, x, strictly(build, build.recent(maps=False)))
    if x.sees == Sees.NOTHING or not build.moves(x):  # conditions alone, or all pixels shifted off the canvas
        dy = int(build.shape[1] == 1)
        pixels = build.values[0]
        beside = build.add(Shift(dy, 1 - dy, 0.0, "pad"), (pixels,), pixels.width, Sees.STRICT, "shift by one")
        x = join(build, x, beside)
    return finish(build, x)
