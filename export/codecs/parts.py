"""The halves of a first stage as modules of their own, with the shapes of the contract: images `[B, H, W, C]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from pixelsnail_infer.codec import IMAGE, CodesSpec, ImageSpec

__all__ = ["CodecConfig", "DecoderPart", "EncoderPart", "FirstStageModule", "Half", "half_of"]

BATCH = 2  # of the example inputs; the graphs take any


class CodecConfig(Protocol):
    """What the exporter must know of a first stage."""

    @property
    def image(self) -> ImageSpec: ...

    @property
    def codes(self) -> tuple[CodesSpec, ...]: ...


class FirstStageModule(Protocol):
    """What the exporter asks of a first stage, a module; images are `[B, C, H, W]`, codes int64 `[B, h, w]`."""

    @property
    def config(self) -> CodecConfig: ...

    @property
    def tables(self) -> tuple[Tensor, ...]:
        """The code books of all levels, each `[n, D]`."""
        ...

    def decode(self, *codes: Tensor) -> Tensor:
        """Codes of every level to images."""
        ...

    def encode(self, image: Tensor, given: tuple[Tensor, ...] = ()) -> tuple[list[Tensor], list[Tensor]]:
        """Images to every level's codes, and the vectors `[B, D, h, w]` that they replace; codes that are `given` for
        the first levels are taken in place of the nearest ones."""
        ...


class DecoderPart(torch.nn.Module):
    """Codes of every level to images."""

    def __init__(self, module: FirstStageModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, *codes: Tensor) -> Tensor:
        """int64 `[B, h, w]` each, to `[B, H, W, C]`."""
        return self.module.decode(*codes).permute(0, 2, 3, 1)


class EncoderPart(torch.nn.Module):
    """Images to codes of every level."""

    def __init__(self, module: FirstStageModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`[B, H, W, C]` to int64 `[B, h, w]` each."""
        return tuple(self.module.encode(image.permute(0, 3, 1, 2))[0])


@dataclass(frozen=True, slots=True)
class Half:
    """A half as `torch.export` takes it: the module, example inputs, which of their axes are free, and all names."""

    part: torch.nn.Module
    args: tuple[Tensor, ...]
    free: tuple[Any, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def half_of(module: FirstStageModule, kind: str) -> Half:
    """The "decoder" or the "encoder" of a first stage, in eval mode, with a free batch."""
    batch, levels = torch.export.Dim("B"), tuple(spec.name for spec in module.config.codes)
    if kind == "decoder":
        codes = tuple(torch.zeros((BATCH, *spec.shape), dtype=torch.int64) for spec in module.config.codes)
        return Half(DecoderPart(module).eval(), codes, (tuple({0: batch} for _ in codes),), levels, (IMAGE,))
    image = torch.zeros(BATCH, *module.config.image.shape, module.config.image.channels)
    return Half(EncoderPart(module).eval(), (image,), ({0: batch},), (IMAGE,), levels)
