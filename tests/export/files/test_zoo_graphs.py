"""Every small network of the zoo through the emitter: its graphs, driven by the contract's rules, equal the module."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pixelsnail_infer.export.compile import compile_model

from ..networks import NETWORKS
from ..zoo import Network
from .drive import Driver

TOLERANCE = {"float64": 1e-9, "float32": 1e-5}
NO_KERNEL = ("gelu", "leaky_relu", "softplus", "selu")  # for doubles
SINGLE = tuple(f"activation_{name}" for name in NO_KERNEL)
CODES = [net for net in NETWORKS.values() if not net.inputs(net.shapes[0])[0].dtype.is_floating_point]


@pytest.mark.parametrize("net", CODES, ids=[net.name for net in CODES])
def test_the_graphs_equal_the_module(net: Network) -> None:
    shape = net.shapes[0]
    module, inputs = net.module(shape), net.inputs(shape)
    compiled = compile_model(module, lambda m, *given: m(*given), inputs, shape)
    torch.manual_seed(7)
    given = {spec.name: spec.example(2, torch.float64) for spec in inputs}
    with torch.no_grad():
        expected = module(*given.values()).permute(0, 2, 3, 1).numpy()
    arrays = {name: value.numpy() for name, value in given.items()}
    codes = arrays.pop("pixels")
    precision = "float32" if net.name in SINGLE else "float64"
    driver = Driver(compiled, precision)
    driver.begin(len(codes), arrays)
    assert np.abs(driver.replay(codes) - expected).max() < TOLERANCE[precision]
    score = driver.run("score", pixels=codes, rows=np.full(len(codes), shape[0]))
    assert np.abs(score["logits"] - expected).max() < TOLERANCE[precision]
