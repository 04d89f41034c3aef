"""The prologue runs once for every set of conditions that images share; results are those of running it for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelsnail_infer.runtime import Sampler
from pixelsnail_infer.runtime.drawing.prologue import CallConditions, condition_sets

from .counting import counting_sampler
from .synthetic import H, K, L, W, logits_of

CODES = np.random.default_rng(8).integers(0, L, (12, H, W))


@pytest.fixture
def counted(toy: Path) -> tuple[Sampler, list[int]]:
    return counting_sampler(toy)


CASES = [
    (0, 6, 16, [1]),  # one value for all
    ([1] * 6, 6, 16, [1]),  # the same value for each
    ([0, 1, 2], 3, 16, [3]),  # nothing shared: straight into the slots
    ([0, 1, 2, 0, 1], 5, 16, [3]),
    ([0, 1, 2] * 4, 12, 3, [3]),  # every set is met in the first batch
    (2, 12, 3, [1]),
    (2, 3, 1, [1]),  # also one image at a time
    ([0, 0, 1, 0, 2, 1], 6, 2, [1, 1, 1]),
    ([0, 1, 0, 1, 2, 0], 6, 2, [2, 1]),
    ([0, 1, 2, 0, 1, 2], 6, 2, [2, 1]),  # a kept one and a new one in one batch
    ([0, 1, 0, 1], 4, 1, [1, 1, 1]),  # no room to keep a second set
]


@pytest.mark.parametrize("label, n, max_batch, runs", CASES)
def test_the_prologue_runs_once_for_each_set(
    counted: tuple[Sampler, list[int]], sampler: Sampler, label: Any, n: int, max_batch: int, runs: list[int]
) -> None:
    shared, seen = counted
    each = np.broadcast_to(label, (n,))
    plain = np.concatenate([sampler.sample(1, seed=[seed], label=one) for seed, one in enumerate(each)])
    drawn = shared.sample(n, seed=list(range(n)), label=label, max_batch=max_batch)
    assert np.array_equal(drawn, plain)
    assert seen == runs
    seen.clear()
    assert np.array_equal(shared.replay(CODES[:n], label=label, max_batch=max_batch), logits_of(CODES[:n], each))
    assert seen == runs
    seen.clear()
    scores = np.concatenate([sampler.score(image, label=one) for image, one in zip(CODES[:n], each, strict=True)])
    assert np.array_equal(shared.score(CODES[:n], label=label, max_batch=max_batch), scores)
    assert seen == runs


def test_known_rows_take_the_tensors_that_the_batch_has(counted: tuple[Sampler, list[int]], sampler: Sampler) -> None:
    shared, seen = counted
    label, mask = np.arange(6) % K, np.zeros((6, H, W), bool)
    mask[:, :2] = True
    drawn = shared.sample(6, label=label, known=CODES[:6], known_mask=mask)
    assert seen == [3], "the score graph's passes of four images run no prologue of their own"
    assert np.array_equal(drawn, sampler.sample(6, label=label, known=CODES[:6], known_mask=mask))
    seen.clear()
    logits = shared.replay(CODES[:6], known_rows=2, label=label)
    assert seen == [3] and np.array_equal(logits[:, 2:], logits_of(CODES[:6], label)[:, 2:])


def test_nothing_is_kept_between_calls(counted: tuple[Sampler, list[int]]) -> None:
    shared, seen = counted
    first = shared.sample(2, label=0)
    assert np.array_equal(shared.sample(2, label=0), first) and seen == [1, 1]
    assert not np.array_equal(shared.sample(2, label=1), first)


class Recorder:
    """In place of a prologue: its one tensor is its one condition."""

    def __init__(self, size: int, runs: list[int]) -> None:
        self.size, self.runs = size, runs
        self.held = np.zeros((size, 2), np.float32)

    def run(self, conditions: dict[str, np.ndarray]) -> None:
        self.held[...] = conditions["c"]
        self.runs.append(self.size)

    def results(self) -> list[dict[str, np.ndarray]]:
        return [{"t": self.held[slot : slot + 1]} for slot in range(self.size)]

    def load(self, results: list[dict[str, np.ndarray]]) -> None:
        self.held[...] = np.concatenate([one["t"] for one in results])

    def fewer(self, size: int) -> Recorder:
        return Recorder(size, self.runs)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 8))
def test_every_slot_gets_its_own_result_and_little_is_kept(values: list[int], size: int) -> None:
    arrays = {"c": np.array(values, np.float32)[:, None] * [1, -1]}
    conditions, runs = CallConditions(arrays, len(values)), list[int]()
    for first in range(0, len(values), size):
        images = slice(first, min(first + size, len(values)))
        slots: Any = Recorder(images.stop - first, runs)
        conditions.fill(images, slots)
        assert np.array_equal(slots.held, arrays["c"][images])
        kept = [number for number, held in conditions._kept.items() if held["t"].base is None]
        assert len(kept) == len(conditions._kept) <= size, "views of buffers, or more than a batch's"
    batches = [values[first : first + size] for first in range(0, len(values), size)]
    assert len(set(values)) <= sum(runs) <= sum(len(set(batch)) for batch in batches)
    if len(set(values)) <= size:
        assert sum(runs) == len(set(values))


def test_sets_are_equal_bytes_of_all_conditions_together() -> None:
    a, b = np.array([0, 0, 1, 0, 1]), np.float32([[1, 2], [1, 2], [1, 2], [3, 2], [1, 2]])
    assert condition_sets({"a": a, "b": b}, 5).tolist() == [0, 0, 1, 2, 1]
    assert condition_sets({"b": b}, 5).tolist() == [0, 0, 0, 1, 0]
    shared = np.broadcast_to(np.float32([1, 2]), (5, 2))
    assert condition_sets({"a": a, "b": shared}, 5).tolist() == [0, 0, 1, 0, 1]
    assert condition_sets({"b": shared}, 5).tolist() == [0] * 5 and condition_sets({}, 2).tolist() == [0, 0]
    assert condition_sets({"b": np.float32([0.0, -0.0])}, 2).tolist() == [0, 1]
