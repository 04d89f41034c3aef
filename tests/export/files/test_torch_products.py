"""Products with weights as PyTorch's archives compute them, against the plain product."""

from __future__ import annotations

import pytest
import torch

from pixelsnail_infer.export.emission.graph import Graph, Input, Output, Step, Value
from pixelsnail_infer.export.emission.vocabulary import Concat, Constant, MatMul, Slice
from pixelsnail_infer.export.writing.torch_products import layer_products, linear, matmul, product, products
from pixelsnail_infer.export.writing.torch_stacks import LayerProducts, Products, stacked

ROWS = (1, 2, 7, 8, 9, 16, 127, 128, 129)


def double(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("taken", "given", "pieces"), [(5, 7, 1), (1, 6, 2), (12, 8, 8), (16, 1, 1)])
def test_the_plain_product(rows: int, taken: int, given: int, pieces: int) -> None:
    value, weight, bias = double(rows, taken), double(given, taken), double(given)
    expected = value @ weight.T
    torch.testing.assert_close(product(value, weight, pieces), expected)
    torch.testing.assert_close(linear(value, weight, bias, pieces), expected + bias)
    torch.testing.assert_close(product(value.view(rows, 1, taken), weight, pieces), expected.view(rows, 1, given))


@pytest.mark.parametrize("slots", ROWS)
def test_side_by_side(slots: int) -> None:
    values, weights = [double(slots, 5), double(slots, 5) + 1], double(2, 3, 5)
    each = [value @ weight.T for value, weight in zip(values, weights, strict=True)]
    torch.testing.assert_close(products(values, weights), torch.cat(each, 1))


@pytest.mark.parametrize("slots", [1, 3])
def test_layer_by_layer(slots: int) -> None:
    value, weights = double(slots, 2, 4, 5), double(2, 3, 5)
    each = [value[:, k:k + 1] @ weight.T for k, weight in enumerate(weights)]
    torch.testing.assert_close(layer_products(value, weights), torch.cat(each, 1))


@pytest.mark.parametrize("columns", [1, 2])
def test_a_matrix_times_a_column(columns: int) -> None:
    a, b = double(3, 2, 7, 4), double(3, 2, 4, columns)
    torch.testing.assert_close(matmul(a, b), a @ b)
    torch.testing.assert_close(matmul(a[0, 0], b[0, 0]), a[0, 0] @ b[0, 0])


def a_graph(used_twice: bool = False, wider: bool = False) -> Graph:
    """Two products of inputs with weights, side by side."""
    a, b, w, u, p, q, both = (Value(name, "float") for name in ("a", "b", "w", "u", "p", "q", "both"))
    steps = (
        Step(Constant("w", double(4, 3).numpy()), (w,), ""),
        Step(Constant("u", double(4, 3 + wider).numpy()), (u,), ""),
        Step(MatMul(a, w), (p,), ""), Step(MatMul(b, u), (q,), ""), Step(Concat((p, q), 1), (both,), ""),
    )
    outputs = (Output("both", both, ("B", 6 + wider)), *([Output("p", p, ("B", 3))] if used_twice else []))
    return Graph("g", "float64", (Input(a, ("B", 4)), Input(b, ("B", 4))), steps, outputs, 24)


def test_products_of_one_shape_become_one() -> None:
    assert [type(step.operation) for step in stacked(a_graph()).steps] == [Constant, Constant, Products]


@pytest.mark.parametrize("graph", [a_graph(used_twice=True), a_graph(wider=True)], ids=["used twice", "two shapes"])
def test_others_stay(graph: Graph) -> None:
    assert stacked(graph) == graph


def layers(first: int = 0, taken: int = 4) -> Graph:
    """Two layers of one input, cut out along axis 1, times weights."""
    whole, a, b, w, u, p, q, both = (Value(name, "float") for name in ("x", "a", "b", "w", "u", "p", "q", "both"))
    steps = (
        Step(Constant("w", double(taken, 3).numpy()), (w,), ""),
        Step(Constant("u", double(taken, 3).numpy()), (u,), ""),
        Step(Slice(whole, first, first + 1, 1), (a,), ""), Step(Slice(whole, 1, 2, 1), (b,), ""),
        Step(MatMul(a, w), (p,), ""), Step(MatMul(b, u), (q,), ""), Step(Concat((p, q), 1), (both,), ""),
    )
    shape = ("B", 2, 5, taken)
    return Graph("g", "float64", (Input(whole, shape),), steps, (Output("both", both, ("B", 2, 5, 3)),), 24)


def test_layers_of_one_value_become_one_product() -> None:
    found = stacked(layers()).steps[-1].operation
    assert isinstance(found, LayerProducts) and found.value.name == "x"
    assert isinstance(stacked(layers(first=1)).steps[-1].operation, Products)


def test_columns_of_a_matrix_are_no_layers() -> None:
    assert stacked(layers(taken=1)) == layers(taken=1)
