"""Small causal networks that the exporter must take, each by name, and the words they are written in.

An entry is a factory: it gets the canvas and gives a module whose forward takes codes `[B, H, W]` (then the conditions)
and gives logits `[B, LEVELS, H, W]`. The networks themselves stand in `zoo_*.py`; importing `networks` gathers them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pixelsnail_infer.distributions import Distribution
from pixelsnail_infer.export.tracing.trace import InputSpec

LEVELS, WIDTH = 5, 6
CANVASES = ((4, 5), (1, 4), (4, 1))

Shape = tuple[int, int]
NETWORKS: dict[str, Network] = {}
STRIDED: dict[str, Network] = {}  # of coarser lattices than the pixels'
LEAKS: dict[str, Network] = {}


@dataclass(frozen=True)
class Network:
    """One entry of the zoo. `error` and `says` are for those that must be refused."""

    name: str
    make: Callable[[Shape], nn.Module]
    shapes: tuple[Shape, ...]
    conditions: Callable[[Shape], tuple[InputSpec, ...]] = lambda shape: ()
    error: type[Exception] | None = None
    says: tuple[str, ...] = ()
    pixels: Callable[[Shape], InputSpec] = lambda shape: InputSpec("pixels", shape, torch.int64, LEVELS)
    distribution: Distribution | None = None  # of pixels that are numbers

    def module(self, shape: Shape) -> nn.Module:
        """A module with random weights (the same at every call), float64, in eval mode."""
        torch.manual_seed(sum(map(ord, self.name)))
        module = self.make(shape)
        for child in module.modules():
            if isinstance(child, nn.BatchNorm2d):
                assert child.running_mean is not None and child.running_var is not None
                nn.init.normal_(child.running_mean)
                nn.init.uniform_(child.running_var, 0.5, 2.0)
                nn.init.normal_(child.bias)
        return module.double().eval()

    def inputs(self, shape: Shape) -> tuple[InputSpec, ...]:
        return (self.pixels(shape), *self.conditions(shape))


def network(*, shapes: tuple[Shape, ...] = CANVASES, into: dict[str, Network] = NETWORKS, **inputs: Any
            ) -> Callable[..., Any]:
    """Register a factory as a network that must pass."""

    def register(make: Callable[[Shape], nn.Module]) -> Callable[[Shape], nn.Module]:
        assert make.__name__ not in {**NETWORKS, **STRIDED, **LEAKS}
        into[make.__name__] = Network(make.__name__, make, shapes, **inputs)
        return make

    return register


def leak(error: type[Exception], *says: str, shape: Shape = (4, 5), **inputs: Any) -> Callable[..., Any]:
    """Register a factory as a network that must be refused with `error`, whose message says all of `says`."""

    def register(make: Callable[[Shape], nn.Module]) -> Callable[[Shape], nn.Module]:
        assert make.__name__ not in {**NETWORKS, **STRIDED, **LEAKS}
        LEAKS[make.__name__] = Network(make.__name__, make, (shape,), error=error, says=says, **inputs)
        return make

    return register


class Sketch(nn.Module):
    """A module written as one function `(self, codes, *conditions) -> logits` over the submodules given by name."""

    def __init__(self, run: Callable[..., Tensor], **parts: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.run(self, *inputs)


def hot(codes: Tensor) -> Tensor:
    """`[B, H, W]` -> one-hot `[B, LEVELS, H, W]`."""
    return F.one_hot(codes, LEVELS).permute(0, 3, 1, 2).to(torch.float64)


def down(x: Tensor, by: int = 1) -> Tensor:
    return F.pad(x, [0, 0, by, 0])[:, :, : x.shape[2]]


def right(x: Tensor, by: int = 1) -> Tensor:
    return F.pad(x, [by, 0, 0, 0])[:, :, :, : x.shape[3]]


def conv(into: int = WIDTH, out: int = WIDTH, kernel: int | tuple[int, int] = 1, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(into, out, kernel, **options)


def head(into: int = WIDTH) -> nn.Conv2d:
    return nn.Conv2d(into, LEVELS, 1)


class First(nn.Module):
    """Rows above, shifted down after the convolution, plus pixels to the left, shifted right after theirs."""

    def __init__(self, out: int = WIDTH, into: int = LEVELS) -> None:
        super().__init__()
        self.above, self.left = conv(into, out, (2, 3)), conv(into, out, (1, 2))

    def forward(self, x: Tensor) -> Tensor:
        above = down(self.above(F.pad(x, [1, 1, 1, 0])))
        return above + right(self.left(F.pad(x, [1, 0, 0, 0])))


class DownRight(nn.Module):
    """A 2x2 convolution that sees its own position, its left and upper neighbours and the one between."""

    def __init__(self, into: int = WIDTH, out: int = WIDTH) -> None:
        super().__init__()
        self.conv = conv(into, out, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, [1, 0, 1, 0]))


class Masked(nn.Conv2d):
    """The masked convolution of PixelCNN, its mask written into `.data` by every forward, as public code does."""

    mask: Tensor

    def __init__(self, kind: str, into: int, out: int, kernel: int) -> None:
        super().__init__(into, out, kernel, padding=kernel // 2)
        mask = torch.ones_like(self.weight)
        mask[:, :, kernel // 2, kernel // 2 + (kind == "B"):] = 0
        mask[:, :, kernel // 2 + 1:] = 0
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data *= self.mask
        return super().forward(x)
