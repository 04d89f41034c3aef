"""Everything that the backend calls is there in the real TensorRT: where engines cannot be run, a wrong name would show
only on a GPU."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from pixelsnail_infer.runtime.backends import tensorrt_builder, tensorrt_graph, tensorrt_package

pytestmark = pytest.mark.full
trt = pytest.importorskip("tensorrt_rtx_bindings", reason="needs the tensorrt-rtx extra (make test-full)")

CLASSES = {
    "context": ["IExecutionContext"], "_engine": ["ICudaEngine"], "engine": ["ICudaEngine"], "runtime": ["Runtime"],
    "builder": ["Builder"], "network": ["INetworkDefinition"], "parser": ["OnnxParser"], "layer": ["ILayer"],
    "profile": ["IOptimizationProfile"], "config": ["IBuilderConfig", "IRuntimeConfig"], "error": ["ParserError"],
    "cache": ["ITimingCache"], "tensor": ["ITensor"],
}  # fmt: skip


def used(module: Any) -> set[tuple[str, str]]:
    """Every `variable.name` of a module whose variable is one of TensorRT's objects, or the package."""
    tree = ast.parse(Path(module.__file__).read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            what = getattr(node.value, "id", getattr(node.value, "attr", ""))
            names.add((what, node.attr))
    return {(what, name) for what, name in names if what in CLASSES or what == "trt"}


@pytest.mark.parametrize("module", [tensorrt_builder, tensorrt_graph])
def test_every_name_is_there(module: Any) -> None:
    found = used(module)
    assert len(found) > 20
    for what, name in found:
        owners = [trt] if what == "trt" else [getattr(trt, owner) for owner in CLASSES[what]]
        assert any(hasattr(owner, name) for owner in owners), f"{what}.{name}"


def test_enumerations_have_their_members() -> None:
    assert trt.ExecutionContextAllocationStrategy.USER_MANAGED.name == "USER_MANAGED"
    assert trt.DynamicShapesKernelSpecializationStrategy.EAGER.name == "EAGER"
    assert trt.IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy.fset is not None
    assert trt.TensorIOMode.INPUT != trt.TensorIOMode.OUTPUT and trt.TensorLocation.DEVICE != trt.TensorLocation.HOST
    assert [kind.name for kind in (trt.float32, trt.float16, trt.int64, trt.bool)] == list(tensorrt_graph._DTYPES)
    assert tensorrt_package.find_package().capabilities == ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
