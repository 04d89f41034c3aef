"""Caches that grow with the rows of a batch: the same numbers, in the same memory, as caches of full length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelsnail_infer.errors import EngineError
from pixelsnail_infer.runtime import Sampler, load
from pixelsnail_infer.runtime.backends.onnxruntime_cpu import CpuBackend, CpuBuffer
from pixelsnail_infer.runtime.drawing import states
from pixelsnail_infer.runtime.drawing.batch import Batch
from pixelsnail_infer.runtime.drawing.states import SlotStates, lengths
from pixelsnail_infer.runtime.files.whole_axes import with_whole_axes

LABEL = np.array([0, 5, 9])
CODES = np.random.default_rng(8).integers(0, 17, (3, 8, 8))
WAYS = {"onnx": "digits_graphs", "archive": "digits_archive"}


@pytest.fixture(params=WAYS)
def path(request: pytest.FixtureRequest) -> Path:
    found = request.getfixturevalue(WAYS[request.param])
    return found["step"] if isinstance(found, dict) else found  # type: ignore[no-any-return]


@pytest.fixture
def grown(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sampler]:
    """Caches that are two rows longer every two rows."""
    monkeypatch.setattr(states, "_SHORTEST", 16)
    with load(path, threads=1) as sampler:
        yield sampler


@pytest.fixture
def expect_same(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[Sampler], Any]], None]]:
    """That a call gives the same, to the bit, with caches of one length and with those that grow."""
    with load(path, threads=1) as whole, load(path, threads=1) as grown:

        def expect(call: Callable[[Sampler], Any]) -> None:
            found = []
            for sampler, shortest in ((whole, 64), (grown, 16)):
                monkeypatch.setattr(states, "_SHORTEST", shortest)
                found.append(call(sampler))
                assert len(batch_of(sampler).states._lengths) == 64 // shortest
            assert np.array_equal(*found, equal_nan=True)

        yield expect


def batch_of(sampler: Sampler) -> Batch:
    assert sampler._work.batch is not None
    return sampler._work.batch


def caches(batch: Batch) -> dict[str, NDArray[Any]]:
    held = {name: buffer.array for name, buffer in batch.states.buffers.items() if ".keys." in name or ".val" in name}
    assert len(held) == 4
    return held


def test_lengths_are_whole_rows_and_end_with_the_canvas() -> None:
    assert lengths((8, 8)) == (64,)
    assert lengths((32, 32)) == tuple(range(128, 1025, 128))
    assert lengths((64, 64)) == tuple(range(256, 4097, 256))
    assert lengths((33, 32)) == (*range(128, 1025, 128), 33 * 32)
    assert lengths((1, 4096)) == (4096,)
    assert lengths((4096, 1)) == tuple(range(256, 4097, 256))
    assert lengths((20, 30)) == (150, 300, 450, 600)


@pytest.mark.parametrize("n", [1, 3])
def test_the_same_images_and_logits_to_the_bit(expect_same: Any, n: int) -> None:
    for settings in ({}, {"top_k": 5, "top_p": 0.9}, {"temperature": 0}):
        expect_same(lambda sampler, settings=settings: sampler.sample(n, seed=3, label=LABEL[:n], **settings))
    for how in (False, True):
        expect_same(lambda sampler, how=how: sampler.replay(CODES[:n], label=LABEL[:n], filtered=how, twice=True))


@pytest.mark.parametrize("rows", range(9))
def test_after_known_rows_that_end_anywhere(expect_same: Any, rows: int) -> None:
    mask = np.arange(8)[:, None].repeat(8, 1) < rows
    expect_same(lambda sampler: sampler.replay(CODES, label=LABEL, known_rows=rows))
    expect_same(lambda sampler: sampler.sample(3, seed=3, label=LABEL, known=CODES, known_mask=mask))


def test_caches_are_as_long_as_the_row_at_hand_needs(grown: Sampler) -> None:
    seen: dict[int, int] = {}

    def on_row(row: int, codes: NDArray[Any], first: int) -> None:
        batch = batch_of(grown)
        (seen[row],) = {array.shape[2] for array in caches(batch).values()}
        assert batch.states.level == row // 2

    for _ in range(2):  # the second call begins anew
        grown.sample(2, label=[1, 2], on_row=on_row)
        assert seen == {row: 16 * (row // 2 + 1) for row in range(8)}
        seen.clear()


def test_all_lengths_lie_in_the_same_memory(grown: Sampler) -> None:
    grown.sample(2, label=[1, 2])
    batch, before = batch_of(grown), {}
    for rows in (0, 3, 8):
        batch.states.reset()
        batch.states.reach(rows)
        found = {name: array.ctypes.data for name, array in caches(batch).items()}
        assert found == (before or found)
        before = found
    sizes = sum(buffer.array.nbytes for buffer in batch.states.buffers.values())
    assert grown.state_bytes(2) == sizes  # in full


def test_a_write_touches_one_position_of_a_short_cache(grown: Sampler) -> None:
    """In place: the others keep the bytes that were put there."""
    grown.sample(2, label=[0, 1])
    batch = batch_of(grown)
    for row in (0, 1, 5, 7):
        batch.states.reset()
        batch.run_row(row)
        for array in caches(batch).values():
            array[...] = 7.0
        batch.write("col", 3)
        batch.bound("step").run()
        for array in caches(batch).values():
            assert array.shape[2] == 16 * (row // 2 + 1)
            assert (array != 7.0).any((0, 1, 3)).nonzero()[0].tolist() == [8 * row + 3]


def test_entries_stay_where_they_are_when_caches_grow(grown: Sampler) -> None:
    """From every length to every longer one, for slots that all hold other numbers."""
    grown.warm_up(3)
    held = batch_of(grown).states
    for first in range(1, 9):
        for second in range(first, 9):
            held.reset()
            held.reach(first)
            before = {name: buffer.array for name, buffer in held.buffers.items()}
            random = np.random.default_rng(first)
            for array in before.values():
                array[...] = random.normal(size=array.shape)
            copies = {name: array.copy() for name, array in before.items()}
            held.reach(second)
            held.reach(first)  # never shorter again
            for name, buffer in held.buffers.items():
                length = copies[name].shape[2]
                assert np.array_equal(buffer.array[:, :, :length], copies[name])
                assert not buffer.array[:, :, length:].any()


def test_states_of_known_rows_are_taken_as_far_as_there_is_room(grown: Sampler) -> None:
    grown.warm_up(3)
    held = batch_of(grown).states
    held.reset()
    held.reach(3)
    full = {spec.name: np.random.default_rng(2).normal(size=(1, *spec.shape)).astype(np.float32)
            for spec in grown.manifest.states}  # fmt: skip
    held.load(full, slice(1, 2))
    for name, buffer in held.buffers.items():
        assert np.array_equal(buffer.array[1:2], full[name][:, :, : buffer.array.shape[2]])
    assert held.buffers["state.keys.0"].array.shape[2] == 32


def test_a_row_that_nobody_made_room_for_is_an_error(grown: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlotStates, "reach", lambda self, rows: None)
    with pytest.raises((EngineError, AssertionError)):
        grown.sample(1, label=0)


def test_an_older_file_without_free_axes_runs_with_whole_caches(
    digits_graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states, "_SHORTEST", 16)
    siblings = {part: path.read_bytes() for part, path in digits_graphs.items() if part != "step"}
    step = digits_graphs["step"].read_bytes()
    old = with_whole_axes(step)
    assert old != step
    with load(old, siblings=siblings, threads=1) as whole, load(step, siblings=siblings, threads=1) as grown:
        drawn = whole.sample(3, seed=4, label=LABEL)
        assert np.array_equal(drawn, grown.sample(3, seed=4, label=LABEL))
        assert batch_of(whole).states.level == 0 and batch_of(grown).states.level == 3
        assert {array.shape[2] for array in caches(batch_of(whole)).values()} == {64}


def test_an_engine_on_a_device_keeps_whole_caches(grown: Sampler) -> None:
    class Apart:
        """A buffer of which no part can be bound."""

        def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
            held = CpuBuffer(shape, dtype)
            self.array, self.push, self.pull = held.array, held.push, held.pull

    class Device(CpuBackend):
        def allocate(self, shape: tuple[int, ...], dtype: str) -> Apart:
            return Apart(shape, dtype)

    names = [spec.name for spec in grown.manifest.states if spec.role in ("keys", "values")]
    for backend, length in ((Device(1), 64), (CpuBackend(1), 16)):
        held = SlotStates(grown.manifest, backend, 2, names)
        held.reset()
        assert {held.buffers[name].array.shape[2] for name in names} == {length}
        held.reach(8)
        assert {held.buffers[name].array.shape[2] for name in names} == {64}
