"""What a pipeline draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Generated", "generated"]


@dataclass(frozen=True, slots=True)
class Generated:
    """What `Pipeline.generate` returns; the arrays belong to the caller.

    `images` are float32 [n, H, W, C] as the decoder gives them (pixels lie about in [-1, 1]; `to_uint8` clips them), or
    as a prior of images drew them, or None where there is neither. `codes` holds the int64 [n, h, w] of every level, in
    the order of drawing, and `names` their names.
    """

    images: NDArray[np.float32] | None
    codes: tuple[NDArray[np.int64], ...]
    names: tuple[str, ...]

    @property
    def by_name(self) -> dict[str, NDArray[np.int64]]:
        """The codes of every level by its name: the decoder's, or `codes0`, `codes1`, … without one."""
        return dict(zip(self.names, self.codes, strict=True))


def generated(
    pixels: Sequence[NDArray[Any]], names: tuple[str, ...], decoded: NDArray[np.float32] | None
) -> Generated:
    """The result of what every prior drew and what was decoded; a last prior without a level drew the images."""
    levels = len(names)
    return Generated(pixels[levels] if len(pixels) > levels else decoded, tuple(pixels[:levels]), names)
