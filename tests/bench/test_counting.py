"""Multiplications and bytes that are counted, against a count by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pixelsnail_infer.errors import EngineError
from pixelsnail_infer.runtime.backends.onnxruntime_counting import products_in
from pixelsnail_infer.runtime.backends.onnxruntime_cpu import CpuBackend
from pixelsnail_infer.runtime.backends.products import Product
from pixelsnail_infer.runtime.bench.bandwidth import StreamingRead
from pixelsnail_infer.runtime.bench.floors import PARTS, Floors, count_products, read_bytes
from pixelsnail_infer.runtime.drawing.loading import opened
from pixelsnail_infer.runtime.files.graphfile import read_graph
from pixelsnail_infer.runtime.files.product_model import product_model

from .networks import FIRST, LEVELS, ROW, SECOND, STEP, WIDTH


def counts(path: Path, size: int) -> dict[str, list[Product]]:
    files, _, _ = opened(path, siblings=None, device="cpu", backend="auto", threads=1)
    return count_products(files, size)[1]


@pytest.mark.parametrize("size", [1, 3, 16])
@pytest.mark.parametrize("which", [0, 1], ids=["onnx", "archive"])
def test_multiplications_are_those_of_the_network(counted: tuple[Path, Path], which: int, size: int) -> None:
    found = counts(counted[which], size)
    totals = {part: sum(product.multiplications for product in found[part]) for part in PARTS}
    assert totals == {"row": size * ROW, "step": size * STEP}


def test_the_shapes_are_those_that_occur(counted: tuple[Path, Path]) -> None:
    found = counts(counted[0], 3)
    assert [product.shape for product in found["row"]] == [(1, 3 * WIDTH, 6 * FIRST, SECOND)]
    assert {product.shape for product in found["step"]} == {(1, 3, 2 * FIRST, SECOND), (1, 3, SECOND, LEVELS)}


def test_attention_is_counted_the_same_in_both_formats(digits_graphs: dict[str, Path], digits_archive: Path) -> None:
    graphs, archive = counts(digits_graphs["step"], 2), counts(digits_archive, 2)
    for part in PARTS:
        one, other = (sum(product.multiplications for product in found[part]) for found in (graphs, archive))
        assert one == other > 0


def test_bytes_are_weights_keys_and_values(counted: tuple[Path, Path], digits_graphs: dict[str, Path]) -> None:
    files, _, _ = opened(counted[0], siblings=None, device="cpu", backend="auto", threads=1)
    for size in (1, 3):
        found = counts(counted[0], size)
        assert read_bytes(files.manifest, size, "row", found["row"]) == 4 * 6 * FIRST * SECOND
        bias = SECOND * LEVELS + LEVELS
        assert read_bytes(files.manifest, size, "step", found["step"]) in (
            4 * (2 * FIRST * SECOND + bias), 4 * (2 * FIRST * SECOND + SECOND * LEVELS))  # fmt: skip
    manifest = opened(digits_graphs["step"], siblings=None, device="cpu", backend="auto", threads=1)[0].manifest
    attended = sum(spec.bytes_per_slot for spec in manifest.states if spec.role in ("keys", "values"))
    values = [product.value_bytes or 0 for product in counts(digits_graphs["step"], 2)["step"]]
    assert attended and sum(values) == 2 * attended, "the products read the whole caches of both slots"


def test_a_node_that_is_not_counted_is_told() -> None:
    event = {"cat": "Node", "name": "a_kernel_time", "args": {"op_name": "Einsum"}}
    with pytest.raises(EngineError, match="Einsum are not counted"):
        list(products_in([event]))


def test_the_file_of_a_product_is_one_that_onnx_knows() -> None:
    for left, right, constant in (([3, 8], [8, 5], True), ([2, 3, 8], [2, 8, 5], False)):
        data = product_model(left, right, 2, constant)
        read_graph(data)
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model, full_check=True)
        assert [node.op_type for node in model.graph.node] == ["MatMul", "MatMul"]
        engine = CpuBackend(1)
        graph = engine.load(read_graph(data))
        told = {**graph.inputs, **graph.outputs}
        held = {name: engine.allocate(tuple(size or 1 for size in told[name].shape), "float32") for name in told}
        for name in graph.inputs:
            held[name].array[...] = np.random.default_rng(1).standard_normal(held[name].array.shape)
        graph.bind(held, held).run()
        weights = numpy_helper.to_array(model.graph.initializer[0]) if constant else held["w1"].array
        assert np.allclose(held["y1"].array, held["x1"].array @ weights, atol=1e-5)


@pytest.mark.parametrize("which", [0, 1], ids=["onnx", "archive"])
def test_a_floor_is_the_longer_of_its_two(counted: tuple[Path, Path], which: int) -> None:
    files, engine, _ = opened(counted[which], siblings=None, device="cpu", backend="auto", threads=1)
    with StreamingRead(2, 1 << 20) as memory:
        floors = Floors(files, engine, 3, memory)
        floors.measure()
    found = floors.found()
    for part, total in (("row", 3 * ROW), ("step", 3 * STEP)):
        told = found[part]
        assert told["multiplications"] == total
        assert told["floor_ms"] == max(told["multiplying_ms"], told["reading_ms"]) > 0
        assert sum(one["count"] * one["ms"] for one in told["products"]) == pytest.approx(told["multiplying_ms"])
