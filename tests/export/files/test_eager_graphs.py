"""Every network of the zoo through a second writer, which runs the decided graphs in PyTorch: no ONNX is involved."""

from __future__ import annotations

import pytest

from ..gate import compiled
from ..networks import first_canvases
from ..zoo import Network, Shape
from .drive import Driver
from .eager import Eager
from .held import faults
from .test_zoo_graphs import ZOO


@pytest.mark.parametrize(("net", "shape"), first_canvases(ZOO))
def test_the_graphs_equal_the_network(net: Network, shape: Shape) -> None:
    driver = Driver(compiled(net, shape), "float64", Eager, spoil=True)
    assert faults(driver, net, shape, 1) + faults(driver, net, shape, 3) == []
