"""Which keys attention reaches, for every way of masking."""

from __future__ import annotations

import pytest
import torch

from pixelsnail_infer.export.analysis import support

from .looking import exported, supports
from .zoo_attention import INCLUSIVE, STRICT, inclusive, rows_above, strict

SHAPE = (4, 5)


@pytest.mark.parametrize("weigh", STRICT, ids=lambda f: f.__name__)
def test_strict(weigh: object) -> None:
    (found,) = supports(exported(f"strict_{weigh.__name__}"))  # type: ignore[attr-defined]
    assert torch.equal(found.used, strict(SHAPE))
    assert (found.values, found.keys, found.constant_row) == ((0, -1), (0, -1), None)


@pytest.mark.parametrize("weigh", INCLUSIVE, ids=lambda f: f.__name__)
def test_inclusive(weigh: object) -> None:
    (found,) = supports(exported(f"inclusive_{weigh.__name__}"))  # type: ignore[attr-defined]
    assert torch.equal(found.used, inclusive(SHAPE))
    assert (found.values, found.keys, found.constant_row) == ((0, 0), (0, 0), None)


@pytest.mark.parametrize(("name", "mask"), [
    ("sdpa_causal", inclusive), ("sdpa_bool_mask", inclusive), ("sdpa_float_mask", inclusive),
    ("sdpa_strict_bool_mask", strict), ("multihead_attention", inclusive), ("keys_first", strict),
    ("values_first", strict), ("einsum_attention", strict), ("position_bias", strict), ("over_rows_above", rows_above),
    ("raw_pixels_in_keys", strict), ("one_hot_values", strict), ("widths_that_differ", strict)])
def test_other_forms(name: str, mask: object) -> None:
    (found,) = supports(exported(name))
    assert torch.equal(found.used, mask(SHAPE))  # type: ignore[operator]


def test_rows_above() -> None:
    (found,) = supports(exported("over_rows_above"))
    assert found.values == found.keys == (-1, 4)  # column 0 sees column 4 of the row above


def test_without_a_mask_over_a_condition() -> None:
    (found,) = supports(exported("cross_attention"))
    assert bool(found.used.all()) and found.values == (3, 4)


def test_two_layers_have_two() -> None:
    assert [s.values for s in supports(exported("two_that_share_a_mask"))] == [(0, -1)] * 2


def test_blocks_of_rows_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = supports(exported("strict_exp_with_masked_maximum"))[0]
    monkeypatch.setattr(support, "BLOCK", 3 * 20)  # three query rows at a time
    parts = supports(exported("strict_exp_with_masked_maximum"))[0]
    assert torch.equal(whole.used, parts.used)
    assert (whole.values, whole.keys) == (parts.values, parts.keys)
