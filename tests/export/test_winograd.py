"""Winograd's form along a line: the same numbers as tap by tap, and which products of a row take it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pixelsnail_infer.export.analysis import row_forms
from pixelsnail_infer.export.analysis.row_forms import PLAIN, ROW_FORMS, WINOGRAD, RowProduct, tap_groups
from pixelsnail_infer.export.analysis.winograd import Winograd, winograd
from pixelsnail_infer.export.fields import Edge, Node
from pixelsnail_infer.export.tracing.traced import Where

WIDTHS = (2, 3, 4, 5, 7, 8, 9, 13, 32)


def tap_by_tap(line: Tensor, taps: Tensor, width: int) -> Tensor:
    """`[B, width, out]` of `line [B, width + taps - 1, in]` under `taps [taps, in, out]`."""
    return torch.stack([line[:, k:k + width] @ tap for k, tap in enumerate(taps)]).sum(0)


def transformed(form: Winograd, line: Tensor, taps: Tensor) -> Tensor:
    """The same in this form, in the dtype of the line; the taps are transformed in float64."""
    data, weights, results = (one.to(line.dtype) for one in (
        form.of_data, torch.einsum("pt,tio->pio", form.of_weights, taps.double()), form.of_results))
    products = torch.einsum("pq,bqti->bpti", data, line[:, form.columns]) @ weights
    return torch.einsum("mp,bpto->btmo", results, products).flatten(1, 2)[:, form.places]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("taps", range(2, 8))
def test_exact_in_float64(taps: int, batch: int) -> None:
    """Also where tiles do not fill the line, and where a line is shorter than a tile."""
    generator = torch.Generator().manual_seed(taps)
    for width in WIDTHS:
        form = winograd(taps, width)
        assert form is not None and form.results == min(4, 9 - taps, width)
        line = torch.randn(batch, width + taps - 1, 5, generator=generator, dtype=torch.float64)
        weights = torch.randn(taps, 5, 3, generator=generator, dtype=torch.float64)
        expected = tap_by_tap(line, weights, width)
        torch.testing.assert_close(transformed(form, line, weights), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("taps", range(2, 8))
def test_float32_rounds_little(taps: int) -> None:
    """At the sizes of a stock prior: a hundredth of what the files' replay allows is left to every layer."""
    generator = torch.Generator().manual_seed(taps)
    form = winograd(taps, 32)
    assert form is not None
    line = torch.randn(1, 31 + taps, 1024, generator=generator)
    weights = torch.randn(taps, 1024, 64, generator=generator) / (1024 * taps) ** 0.5
    expected = tap_by_tap(line.double(), weights.double(), 32)
    worst = float((transformed(form, line, weights) - expected).abs().max() / expected.std())
    assert worst < 2e-5, worst


@pytest.mark.parametrize(("taps", "width"), [(1, 8), (8, 8), (9, 8), (5, 1)])
def test_no_form(taps: int, width: int) -> None:
    assert winograd(taps, width) is None


def test_fewer_products_than_taps() -> None:
    counted = {taps: (form.results, form.points) for taps in range(2, 8) if (form := winograd(taps, 32)) is not None}
    assert counted == {2: (4, 5), 3: (4, 6), 4: (4, 7), 5: (4, 8), 6: (3, 8), 7: (2, 8)}


def layer(taken: int, given: int, rows: int, taps: int, *, channels: tuple[int, ...] = (), own: bool = False,
          pixel: bool = True, dtype: torch.dtype = torch.float32) -> Node:
    """A linear node with so many taps in each of `rows` rows above, and perhaps in its own."""
    where = Where("layer", "conv2d", "net.py:1")
    source = Node("map", [], (8, 8), (*channels, taken), dtype, where, pixel=pixel)
    offsets = [(dy, dx - taps // 2) for dy in range(-rows, int(own)) for dx in range(taps)]
    generator = torch.Generator().manual_seed(0)
    weights = {offset: torch.randn(given, taken, generator=generator, dtype=torch.float64) for offset in offsets}
    return Node("linear", [Edge(source)], (8, 8), (given,), dtype, where, attrs={"taps": weights, "bias": None})


def product(node: Node, width: int) -> RowProduct:
    return RowProduct(node, tuple(tap_groups(node)[-1]), width)


@pytest.mark.parametrize(("taken", "given", "rows", "taps", "width", "pays"), [
    (256, 256, 4, 5, 32, True), (256, 512, 4, 5, 32, True), (256, 256, 2, 5, 32, True),
    (256, 256, 4, 5, 64, True), (512, 512, 1, 3, 64, True),
    (256, 256, 4, 5, 16, False), (512, 512, 1, 3, 32, False), (64, 64, 4, 5, 64, False), (256, 256, 1, 2, 32, False),
])
def test_auto_takes_what_is_faster_at_every_batch_size(taken: int, given: int, rows: int, taps: int, width: int,
                                                       pays: bool) -> None:
    """By the shapes that were timed, see docs/benchmarks.md."""
    one = product(layer(taken, given, rows, taps), width)
    forms = {choice: one.form(choice) for choice in ROW_FORMS}
    assert forms["auto"] == (winograd(taps, width) if pays else None)
    assert forms[PLAIN] is None and forms[WINOGRAD] == winograd(taps, width)


@pytest.mark.parametrize("node", [
    layer(4, 4, 2, 3, pixel=False), layer(4, 4, 2, 3, channels=(2,)), layer(4, 4, 2, 3, dtype=torch.int64),
    layer(4, 4, 2, 1)], ids=["a condition", "two axes", "integers", "one column"])
def test_what_has_no_form(node: Node) -> None:
    assert product(node, 8).form(WINOGRAD) is None


def test_taps_of_the_own_row_are_a_product_of_their_own() -> None:
    node = layer(4, 3, 2, 3, own=True)
    own, above = tap_groups(node)
    assert {dy for dy, _ in own} == {0} and {dy for dy, _ in above} == {-2, -1}


def test_multiplications_are_counted() -> None:
    one = product(layer(6, 5, 2, 3), 9)
    form = one.form(WINOGRAD)
    assert form is not None and form.starts == [0, 4, 5]
    assert one.multiplications == 9 * 2 * 3 * 6 * 5
    assert one.multiplications_in(form) == 3 * 6 * 2 * 6 * 5


def test_taps_that_are_missing_weigh_nothing() -> None:
    """A row above may have fewer taps than another."""
    node = layer(4, 3, 2, 3)
    del node.attrs["taps"][-2, 1]
    one = product(node, 8)
    form = one.form(WINOGRAD)
    assert form is not None and form.taps == 3
    weights = one.weights(form)
    assert weights.shape == (6, 2 * 4, 3)
    line = torch.randn(2, 10, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))  # both rows' channels
    channels = {-2: slice(0, 4), -1: slice(4, 8)}
    expected = sum(line[:, 1 + dx:9 + dx, channels[dy]] @ tap.T for (dy, dx), tap in node.attrs["taps"].items())
    products = torch.einsum("pq,bqti->bpti", form.of_data, line[:, form.columns]) @ weights
    found = torch.einsum("mp,bpto->btmo", form.of_results, products).flatten(1, 2)[:, form.places]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_the_rule_is_what_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    small = product(layer(4, 4, 2, 3), 8)
    assert small.form("auto") is None
    monkeypatch.setattr(row_forms, "PER_NUMBER", 0)
    assert small.form("auto") is None
    monkeypatch.setattr(row_forms, "PER_WEIGHT", 0)
    assert small.form("auto") is not None
