"""Arguments of calls: what is refused, in which words, and how values are spread over images."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import ManifestError, RequestError
from pixelsnail_infer.manifest import ConditionSpec, FileSpec
from pixelsnail_infer.runtime import Sampler
from pixelsnail_infer.runtime.requests.conditions import resolve_condition
from pixelsnail_infer.runtime.requests.request import make_request

from .synthetic import H, L, W, make_manifest

CODES = np.zeros((2, H, W), np.int64)
BAD = CODES.copy()
BAD[1, 2, 3] = L


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"n": 0}, "n is 0, expected an integer of at least 1"),
        ({"n": 2.5}, "n is 2.5"),
        ({"n": True}, "n is True"),
        ({"max_batch": 0}, "max_batch is 0"),
        ({"seed": -1}, "seed is -1, expected an integer from 0"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"seed": "7"}, "seed is '7'"),
        ({"seed": True}, "seed is True"),
        ({"seed": [1]}, "seed has 1 entries for 2 images"),
        ({"temperature": -1}, "temperature holds -1"),
        ({"temperature": float("nan")}, "temperature holds nan"),
        ({"temperature": float("inf")}, "temperature holds inf"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"temperature": [1, 2, 3]}, r"temperature has shape \[3\]"),
        ({"top_k": 0}, "top_k holds 0, expected integers from 1 to 6"),
        ({"top_k": L + 1}, "top_k holds 7"),
        ({"top_k": 2.0}, "top_k is 2.0"),
        ({"top_p": 0}, "top_p holds 0"),
        ({"top_p": 1.1}, "top_p holds 1.1"),
        ({"label": 3}, "label holds 3, expected values from 0 to 2"),
        ({"label": -1}, "label holds -1"),
        ({"label": 1.0}, "label has dtype float64, expected integers"),
        ({"label": [0, 1, 2]}, r"label has shape \[3\], expected \[\] or \[2\] for 2 images"),
        ({"label": None}, "condition 'label' is missing; give label=<class 0…2>"),
        ({"labels": 3}, "'labels' is not a condition of this model, which takes label"),
        ({"known": CODES}, "known comes without known_mask"),
        ({"known_mask": CODES > 0}, "known_mask comes without known"),
        ({"known": CODES, "known_mask": CODES}, "known_mask has dtype int64, expected bool"),
        ({"known": CODES[:, :2], "known_mask": CODES == 0}, "trained for 4×5 positions and takes no other canvas"),
        ({"known": BAD, "known_mask": CODES == 0}, r"known\[1, 2, 3\] is 6, expected codes from 0 to 5"),
        ({"known": CODES * 1.0, "known_mask": CODES == 0}, "known has dtype float64"),
    ],
)
def test_a_wrong_argument_is_named(sampler: Sampler, changed: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"n": 2, "label": 0, **changed}
    with pytest.raises(RequestError, match=message):
        sampler.sample(arguments.pop("n"), **arguments)


@pytest.mark.parametrize(
    "codes, message",
    [
        (np.zeros((1, H, W + 1), int), r"codes has shape \[1, 4, 6\].*takes no other canvas"),
        (np.zeros((0, H, W), int), r"codes has shape \[0, 4, 5\]"),
        (np.zeros((H, W)), "codes has dtype float64, expected integers"),
        (BAD, r"codes\[1, 2, 3\] is 6"),
        (CODES - 1, r"codes\[0, 0, 0\] is -1"),
        ([[1, 2], [3]], "codes is not a regular array"),
    ],
)
def test_wrong_codes_are_named(sampler: Sampler, codes: Any, message: str) -> None:
    for call in (sampler.score, sampler.replay):
        with pytest.raises(RequestError, match=message):
            call(codes, label=0)


@pytest.mark.parametrize(
    "spec, value, expected",
    [
        (ConditionSpec("c", "codes", (2, 3), "int64", 9), np.ones((2, 3), np.uint8), np.ones((4, 2, 3), np.int64)),
        (ConditionSpec("v", "vector", (2,), "float32"), [1, 2.5], np.tile(np.float32([1, 2.5]), (4, 1))),
        (ConditionSpec("m", "map", (1, 2, 2), "float32"), np.ones((4, 1, 2, 2)), np.ones((4, 1, 2, 2), np.float32)),
    ],
)
def test_conditions_of_every_kind(spec: ConditionSpec, value: Any, expected: np.ndarray) -> None:
    result = resolve_condition(spec, value, 4)
    assert result.dtype == spec.dtype and result[0].flags.c_contiguous and np.array_equal(result, expected)
    assert (result.strides[0] == 0) == (np.ndim(value) == len(spec.shape)), "a shared value is held once"


@pytest.mark.parametrize(
    "spec, value, message",
    [
        (ConditionSpec("c", "codes", (2, 3), "int64", 9), np.full((2, 3), 9), "c holds 9, expected values from 0 to 8"),
        (ConditionSpec("c", "codes", (2, 3), "int64", 9), np.ones((3, 2), int), r"expected \[2, 3\] or \[4, 2, 3\]"),
        (ConditionSpec("v", "vector", (2,), "float32"), [1, float("nan")], "not finite in float32"),
        (ConditionSpec("v", "vector", (2,), "float32"), [1, 1e300], "not finite in float32"),
        (ConditionSpec("v", "vector", (2,), "float32"), ["a", "b"], "expected real numbers"),
        (ConditionSpec("v", "vector", (2,), "float32"), [True, False], "expected real numbers"),
    ],
)
def test_wrong_conditions_are_named(spec: ConditionSpec, value: Any, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        resolve_condition(spec, value, 4)


def test_a_condition_named_like_an_argument_is_refused() -> None:
    manifest = make_manifest({part: FileSpec("0" * 64, 1) for part in ("row", "prologue")})
    clash = dataclasses.replace(manifest, conditions=(ConditionSpec("seed", "class", (), "int64", 3),))
    with pytest.raises(ManifestError, match="'seed' has the name of an argument"):
        Sampler(clash, None, None)  # type: ignore[arg-type]


def test_the_callers_arrays_are_not_changed() -> None:
    manifest = make_manifest({part: FileSpec("0" * 64, 1) for part in ("row", "prologue")})
    known, mask = np.full((H, W), -9), np.zeros((H, W), bool)
    mask[0] = True
    known[0] = 2
    before = known.copy(), mask.copy()
    request = make_request(manifest, 2, known=known, known_mask=mask, conditions={"label": [0, 1]})
    assert np.array_equal(known, before[0]) and np.array_equal(mask, before[1])
    assert request.given.shape == (2, H, W) and request.given.min() == 0 and request.leading_rows() == 1
    assert request[1:].n == 1 and request[1:].conditions["label"].tolist() == [1]
