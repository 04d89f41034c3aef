"""All entries of the zoo, gathered."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

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
from .zoo import LEAKS, NETWORKS, STRIDED, Network

__all__ = ["LEAKS", "NETWORKS", "STRIDED", "first_canvases", "zoo_attention", "zoo_conditions", "zoo_convolutions",
           "zoo_elementwise", "zoo_found", "zoo_fronts", "zoo_images", "zoo_inplace", "zoo_inplace_leaks", "zoo_leaks",
           "zoo_sequences", "zoo_strides", "zoo_units"]


def first_canvases(networks: Iterable[Network]) -> list[Any]:
    """Networks and canvases to parametrize with: of each network the first one, and in the full checks all."""
    return [pytest.param(net, shape, id=f"{net.name}-{shape[0]}x{shape[1]}",
                         marks=[] if shape == net.shapes[0] else pytest.mark.full)
            for net in networks for shape in net.shapes]
