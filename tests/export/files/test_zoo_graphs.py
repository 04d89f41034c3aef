"""Every small network of the zoo through the emitter: its graphs, driven by the contract's rules, equal the module."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ..gate import compiled
from ..networks import NETWORKS, STRIDED, zoo_found, zoo_strides, zoo_units
from ..zoo import Network, Shape
from .drive import Driver

TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
NO_KERNEL = ("gelu", "leaky_relu", "selu")  # for doubles; of ELU no exact one
SINGLE = tuple(f"activation_{name}" for name in NO_KERNEL)
EVERY = (zoo_found.__name__, zoo_strides.__name__, zoo_units.__name__)  # on all of their canvases
ZOO = [*NETWORKS.values(), *STRIDED.values()]
UNITS = [net for net in ZOO if net.make.__module__ in EVERY]
CASES = [pytest.param(net, shape, id=f"{net.name}-{shape[0]}x{shape[1]}")
         for net in ZOO for shape in (net.shapes if net in UNITS else net.shapes[:1])]


@pytest.mark.parametrize(("net", "shape"), CASES)
def test_the_graphs_equal_the_module(net: Network, shape: Shape) -> None:
    module, inputs = net.module(shape), net.inputs(shape)
    torch.manual_seed(7)
    precision = "float32" if net.name in SINGLE else "float64"
    given = {spec.name: spec.example(2, torch.float64) for spec in inputs}
    with torch.no_grad():
        expected = module(*(x.clone() for x in given.values())).permute(0, 2, 3, 1).numpy()
    arrays = {name: value.numpy() for name, value in given.items()}
    pixels = arrays.pop("pixels")
    pixels = pixels.transpose(0, 2, 3, 1) if net.distribution else pixels  # the graphs take [B, H, W, C]
    driver = Driver(compiled(net, shape), precision)
    driver.begin(len(pixels), arrays)
    assert np.abs(driver.replay(pixels) - expected).max() < TOLERANCE[precision]
    score = driver.run("score", pixels=pixels, rows=np.full(len(pixels), shape[0]))
    assert np.abs(score["logits"] - expected).max() < TOLERANCE[precision]
