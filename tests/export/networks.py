"""All entries of the zoo, gathered."""

from __future__ import annotations

from . import (
    zoo_attention,
    zoo_conditions,
    zoo_convolutions,
    zoo_elementwise,
    zoo_found,
    zoo_fronts,
    zoo_images,
    zoo_inplace,
    zoo_inplace_leaks,
    zoo_leaks,
    zoo_sequences,
    zoo_strides,
    zoo_units,
)
from .zoo import LEAKS, NETWORKS, STRIDED

__all__ = ["LEAKS", "NETWORKS", "STRIDED", "zoo_attention", "zoo_conditions", "zoo_convolutions", "zoo_elementwise",
           "zoo_found", "zoo_fronts", "zoo_images", "zoo_inplace", "zoo_inplace_leaks", "zoo_leaks", "zoo_sequences",
           "zoo_strides", "zoo_units"]
