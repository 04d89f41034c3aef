"""The full-image networks, in eager PyTorch."""

from pixelsnail_infer.models.config import PriorConfig
from pixelsnail_infer.models.prior import Prior
from pixelsnail_infer.models.snail import Snail
from pixelsnail_infer.models.snail_config import SnailConfig

__all__ = ["Prior", "PriorConfig", "Snail", "SnailConfig"]
