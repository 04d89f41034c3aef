"""What less precision than float32 costs, in bits per dimension."""

from __future__ import annotations

from dataclasses import dataclass

from pixelsnail_infer.checks import among, at_least

__all__ = ["BitsSpec"]


@dataclass(frozen=True, slots=True)
class BitsSpec:
    """What less precision than float32 costs: bits per dimension of the same images by PyTorch in float32 (`reference`)
    and by the graphs (`exported`), and the share by which they differ (`change`), of which `limit` was allowed.

    `images` counts the images, which were "given", or "drawn" by the model in float32.
    """

    reference: float
    exported: float
    change: float
    limit: float
    images: int
    codes: str

    def __post_init__(self) -> None:
        at_least(self.images, 1, "bits_per_dim.images")
        among(self.codes, ("given", "drawn"), "bits_per_dim.codes")
