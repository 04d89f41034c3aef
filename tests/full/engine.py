"""Build a TensorRT for RTX engine of one ONNX file, without a GPU: `python engine.py FILE.onnx`.

A process of its own, since a fault in the builder ends the process. Prints JSON: {"size", "layers"} or {"error"}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import tensorrt_rtx_bindings as trt

BATCH = (1, 4, 16)  # smallest, typical, largest


class EngineError(Exception):
    """TensorRT's parser or builder refused a graph."""


class Log(trt.ILogger):  # type: ignore[misc]
    """Keeps errors, so that a failing test can show them."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        if severity <= trt.ILogger.Severity.ERROR:
            self.errors.append(message)


def build_engine(model: bytes) -> tuple[int, list[str]]:
    """Parse and compile for SM89; returns the engine's bytes and the kinds of the network's layers."""
    log = Log()
    builder = trt.Builder(log)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        reasons = [parser.get_error(i) for i in range(parser.num_errors)]
        raise EngineError("parser: " + "; ".join(f"{r.node_operator()} {r.node_name()}: {r.desc()}" for r in reasons))
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)
        if -1 in shape:
            profile.set_shape(tensor.name, *(tuple(b if d == -1 else d for d in shape) for b in BATCH))
    config = builder.create_builder_config()
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineError("builder: " + "; ".join(log.errors))
    return int(engine.nbytes), [network.get_layer(i).type.name for i in range(network.num_layers)]


def main() -> None:
    try:
        size, layers = build_engine(Path(sys.argv[1]).read_bytes())
        print(json.dumps({"size": size, "layers": layers}))
    except EngineError as error:
        print(json.dumps({"error": str(error)}))


if __name__ == "__main__":
    main()
