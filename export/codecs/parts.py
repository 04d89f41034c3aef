"""The halves of a first stage as modules of their own, with the shapes of the contract: images `[B, H, W, C]`."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from pixelsnail_infer.codec import CodesSpec, ImageSpec

__all__ = ["CodecConfig", "DecoderPart", "EncoderPart", "FirstStageModule"]


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
