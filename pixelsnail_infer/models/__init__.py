"""The full-image networks, in eager PyTorch."""

from pixelsnail_infer.models.config import PriorConfig
from pixelsnail_infer.models.prior import Prior

__all__ = ["Prior", "PriorConfig"]
