"""`Sampler` against the closed form: draws, replays and scores are equal to the bit where arithmetic is exact."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer import distributions
from pixelsnail_infer.errors import RequestError, VerificationError
from pixelsnail_infer.runtime import Sampler, load
from pixelsnail_infer.runtime.backends.onnxruntime_cpu import CpuBackend
from pixelsnail_infer.runtime.drawing.states import SlotStates

from .synthetic import MEMORY, RING, H, L, W, build, logits_of, row_graph, sample_slowly

GOLDEN = [
    [0, 0, 4, 0, 4, 2, 4, 5, 4, 5, 3, 4, 0, 1, 0, 5, 3, 0, 0, 4],
    [2, 5, 4, 1, 4, 2, 5, 2, 5, 2, 2, 5, 2, 2, 3, 2, 5, 3, 3, 2],
]
LABELS = np.array([0, 1, 2, 0, 1])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"seed": 7},
        {"seed": [3, 3, 0, 2**64 - 1, 5]},
        {"temperature": 0},
        {"temperature": [0.0, 0.5, 1.0, 2.0, 0.0]},
        {"top_k": 2},
        {"top_k": [1, 2, 3, L, L]},
        {"top_p": 0.6, "temperature": 1.5},
        {"top_k": 4, "top_p": [0.1, 0.5, 0.9, 1.0, 0.3]},
    ],
)
def test_sample_equals_the_closed_form(sampler: Sampler, settings: dict[str, Any]) -> None:
    codes = sampler.sample(5, label=LABELS, **settings)
    assert codes.dtype == np.int64 and codes.shape == (5, H, W)
    assert np.array_equal(codes, sample_slowly(5, LABELS, **settings))


def test_golden_images(sampler: Sampler) -> None:
    """Seeds mean the same images from version to version."""
    codes = sampler.sample(2, seed=5, label=[1, 2])
    assert codes.reshape(2, -1).tolist() == GOLDEN
    assert np.array_equal(sampler.sample(1, seed=[5], label=1)[0], codes[0])


def test_settings_matter(sampler: Sampler) -> None:
    """The comparisons above would see a setting that is ignored."""
    base = sampler.sample(5, label=LABELS)
    others: list[dict[str, Any]] = [{"seed": 1}, {"temperature": 0}, {"temperature": 3}, {"top_k": 1}, {"top_p": 0.1}]
    for changed in others:
        assert not np.array_equal(base, sampler.sample(5, label=LABELS, **changed)), changed
    assert not np.array_equal(base, sampler.sample(5, label=0))


@pytest.mark.parametrize("max_batch", [1, 2, 3, 16])
def test_an_image_is_the_same_alone_in_any_slot_and_in_any_batch(sampler: Sampler, max_batch: int) -> None:
    seeds = [11, 12, 13, 14, 15]
    whole = sampler.sample(5, seed=seeds, label=LABELS, top_k=[6, 2, 6, 3, 6])
    assert np.array_equal(
        whole, sampler.sample(5, seed=seeds, label=LABELS, top_k=[6, 2, 6, 3, 6], max_batch=max_batch)
    )
    order = [4, 2, 0, 3, 1]
    shuffled = sampler.sample(5, seed=[seeds[k] for k in order], label=LABELS[order], top_k=[6, 6, 6, 3, 2])
    assert np.array_equal(shuffled, whole[order])
    alone = sampler.sample(1, seed=[13], label=2)
    assert np.array_equal(alone[0], whole[2])


def test_an_integer_seed_counts_images_across_batches(sampler: Sampler) -> None:
    assert np.array_equal(sampler.sample(5, seed=9, label=0, max_batch=2), sampler.sample(5, seed=9, label=0))
    assert np.array_equal(sampler.sample(1, seed=9, label=0), sampler.sample(1, seed=[9], label=0))


@pytest.mark.parametrize("rows", range(H + 1))
def test_known_leading_rows_are_filled_by_the_score_graph(
    sampler: Sampler, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = np.random.default_rng(rows).integers(0, L, (5, H, W))
    mask = np.zeros((5, H, W), bool)
    mask[:, :rows] = True
    ran: list[int] = []
    monkeypatch.setattr("pixelsnail_infer.runtime.drawing.batch.Batch.run_row", _counting(ran))
    codes = sampler.sample(5, label=LABELS, known=np.where(mask, known, -7), known_mask=mask)
    assert ran == list(range(rows, H))
    assert np.array_equal(codes[:, :rows], known[:, :rows])
    assert np.array_equal(codes, sample_slowly(5, LABELS, known=known, mask=mask))


def _counting(ran: list[int]) -> Callable[..., None]:
    from pixelsnail_infer.runtime.drawing.batch import Batch

    original = Batch.run_row

    def run_row(self: Batch, row: int) -> None:
        ran.append(row)
        original(self, row)

    return run_row


def test_scattered_known_pixels_are_kept(sampler: Sampler) -> None:
    rng = np.random.default_rng(5)
    known, mask = rng.integers(0, L, (H, W)), rng.random((5, H, W)) < 0.4
    mask[:, :1] = True
    mask[3] = False
    codes = sampler.sample(5, label=LABELS, known=known, known_mask=mask, seed=2)
    full = np.broadcast_to(known, mask.shape)
    assert np.array_equal(codes, sample_slowly(5, LABELS, seed=2, known=full, mask=mask))


@pytest.mark.parametrize("byte", [2, 64, 255])
def test_any_byte_but_zero_of_a_mask_is_true(sampler: Sampler, byte: int) -> None:
    """A mask of a file, or of `view(bool)`, may hold bytes other than 0 and 1."""
    known, mask = np.full((H, W), 3), np.arange(H * W).reshape(H, W) % 2 == 0
    odd = (mask.astype(np.uint8) * byte).view(bool)
    expected = sampler.sample(2, label=1, known=known, known_mask=mask)
    assert (expected[:, mask] == 3).all()
    for given in (odd, np.asfortranarray(odd), np.repeat(odd, 2, axis=1)[:, ::2]):
        assert np.array_equal(sampler.sample(2, label=1, known=known, known_mask=given), expected)


def test_known_rows_go_step_by_step_without_a_score_graph() -> None:
    parts = build(without=("score", "filtered"))
    known, mask = np.full((2, H, W), 3), np.zeros((2, H, W), bool)
    mask[:, :2] = True
    with load(parts.pop("step"), siblings=parts, threads=1) as sampler:
        codes = sampler.sample(2, label=1, known=known, known_mask=mask)
        assert np.array_equal(codes, sample_slowly(2, 1, known=known, mask=mask))


def test_on_row_sees_rows_and_stops_and_the_call_can_be_resumed(sampler: Sampler) -> None:
    whole = sampler.sample(5, label=LABELS, seed=4)
    seen: list[tuple[int, int]] = []

    def on_row(row: int, codes: np.ndarray, first: int) -> bool:
        assert np.array_equal(codes, whole[first : first + len(codes), row])
        codes[:] = 99  # a copy: the result does not change
        seen.append((first, row))
        return first == 2 and row == 1

    part = sampler.sample(5, label=LABELS, seed=4, max_batch=2, on_row=on_row)
    assert seen == [(0, 0), (0, 1), (0, 2), (0, 3), (2, 0), (2, 1)]
    assert np.array_equal(part[:2], whole[:2]) and np.array_equal(part[2:4, :2], whole[2:4, :2])
    assert (part[2:4, 2:] == -1).all() and (part[4] == -1).all()
    resumed = sampler.sample(5, label=LABELS, seed=4, known=part, known_mask=part >= 0)
    assert np.array_equal(resumed, whole)


def test_progress_counts_pixels(sampler: Sampler) -> None:
    calls: list[tuple[int, int]] = []
    sampler.sample(3, label=0, max_batch=2, progress=lambda done, total: calls.append((done, total)))
    assert [done for done, _ in calls] == [10, 20, 30, 40, 45, 50, 55, 60]
    assert {total for _, total in calls} == {3 * H * W}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_call_leaves_the_sampler_usable(sampler: Sampler, error: type[BaseException]) -> None:
    def on_row(row: int, codes: np.ndarray, first: int) -> bool:
        raise error

    with pytest.raises(error):
        sampler.sample(5, label=LABELS, on_row=on_row)
    assert np.array_equal(sampler.sample(5, label=LABELS), sample_slowly(5, LABELS))


def test_dirty_states_of_an_earlier_call_do_not_matter(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sampler.sample(5, label=LABELS, seed=1)
    sampler.sample(5, label=LABELS, seed=2)
    assert np.array_equal(sampler.sample(5, label=LABELS, seed=1), first)
    monkeypatch.setattr("pixelsnail_infer.runtime.drawing.states.SlotStates.reset", lambda self: None)
    assert not np.array_equal(sampler.sample(5, label=LABELS, seed=1), first), "a missing reset must be seen here"


@pytest.mark.parametrize("twice", [False, True])
def test_replay_sees_the_logits_of_the_closed_form(sampler: Sampler, twice: bool) -> None:
    codes = np.random.default_rng(1).integers(0, L, (5, H, W))
    logits = sampler.replay(codes, label=LABELS, twice=twice, max_batch=3)
    assert logits.dtype == np.float32 and np.array_equal(logits, logits_of(codes, LABELS))
    assert np.array_equal(sampler.replay(codes[0], label=0)[0], logits[0])


def test_replay_twice_sees_a_row_graph_that_accumulates() -> None:
    graph = row_graph()
    scatter = next(node for node in graph.graph.node if node.op_type == "TensorScatter")
    scatter.op_type, total = "Add", scatter.input[1]  # state + m, broadcast, instead of a scatter at the row
    scatter.input[:] = ["state.memory", total]
    del scatter.attribute[:]
    parts = build(row=graph)
    with load(parts.pop("step"), siblings=parts, threads=1) as sampler:
        codes = np.ones((1, H, W), np.int64)
        sampler.replay(codes, label=0)
        with pytest.raises(VerificationError, match=r"row graph, run twice for row 0.*state\.memory"):
            sampler.replay(codes, label=0, twice=True)


def test_states_that_differ_in_one_bit_or_are_not_finite_are_named(sampler: Sampler) -> None:
    states = SlotStates(sampler.manifest, CpuBackend(1), 2)
    states.reset()
    whole, real = "state.ring", "state.memory"
    up = np.nextafter(np.float32(1), np.float32(2))
    for name, before, after, told in (
        (whole, 5, 5, []), (whole, 5, 6, [whole]), (real, 0, 0, []), (real, 0, -0.0, [real]), (real, 1, up, [real]),
        (real, np.nan, np.nan, [real]), (real, np.inf, np.inf, [real]),
    ):
        last = states.buffers[name].array[-1, -1, -1]
        last[:] = before
        snapshot = states.snapshot()
        last[:] = after
        assert states.differing(snapshot) == told
        last[:] = 0


def test_score_and_bits_per_dim_equal_the_closed_form(sampler: Sampler) -> None:
    codes = np.random.default_rng(2).integers(0, L, (5, H, W))
    expected = distributions.log_probability(logits_of(codes, LABELS), codes)
    score = sampler.score(codes, label=LABELS)
    assert score.dtype == np.float32 and np.abs(score - expected).max() < 1e-5
    assert np.array_equal(sampler.score(codes, label=LABELS, max_batch=1), score)
    bits = -expected.reshape(5, -1).mean(axis=1) / np.log(2)
    assert np.abs(sampler.bits_per_dim(codes, label=LABELS) - bits).max() < 1e-5
    nats = sampler.log_likelihood(codes, label=LABELS)
    assert nats.dtype == np.float64 and np.array_equal(nats, score.sum(axis=(1, 2), dtype=np.float64))
    assert np.abs(nats + bits * H * W * np.log(2)).max() < 1e-3


def test_score_reports_progress_in_pixels(sampler: Sampler) -> None:
    calls: list[tuple[int, int]] = []
    codes = np.zeros((5, H, W), np.int64)
    for call in (sampler.score, sampler.bits_per_dim, sampler.log_likelihood):
        call(codes, label=0, max_batch=2, progress=lambda done, total: calls.append((done, total)))
        assert calls == [(done * H * W, 5 * H * W) for done in (2, 4, 5)]
        calls.clear()


def test_score_samples_and_replays_mix(sampler: Sampler) -> None:
    codes = sampler.sample(3, label=1)
    sampler.score(codes, label=1)
    assert np.array_equal(sampler.replay(codes, label=1), logits_of(codes, 1))
    assert np.array_equal(sampler.sample(3, label=1), codes)


def test_state_bytes_are_exact(sampler: Sampler) -> None:
    assert sampler.state_bytes(3) == 3 * (8 * np.prod(RING) + 4 * np.prod(MEMORY))
    sampler.warm_up(3, filtered=True, score=True)
    assert sampler._work.batch is not None
    batch = sampler._work.batch
    held = [*batch.buffers.values(), *batch.prologue.tensors.values(), *batch.prologue._inputs.values()]
    assert sampler.buffer_bytes(3) == sum(buffer.array.nbytes for buffer in held)
    assert sampler.state_bytes(3) == sum(buffer.array.nbytes for buffer in batch.states.buffers.values())
    assert np.array_equal(sampler.sample(3, label=1), sample_slowly(3, 1))


def test_buffers_of_the_last_batch_size_are_kept(sampler: Sampler) -> None:
    sampler.sample(2, label=0)
    batch = sampler._work.batch
    sampler.sample(2, label=1)
    assert sampler._work.batch is batch
    sampler.sample(3, label=1)
    assert sampler._work.batch is not batch


def test_after_close_calls_say_so(toy: Any) -> None:
    with load(toy, threads=1) as sampler:
        assert sampler.manifest.shape == (H, W)
    sampler.close()
    for call in (lambda: sampler.sample(1, label=0), lambda: sampler.score(np.zeros((H, W), int), label=0)):
        with pytest.raises(RequestError, match="closed; load the"):
            call()
    with pytest.raises(RequestError, match="closed"):
        sampler.__enter__()


def test_a_callback_may_not_call_back(sampler: Sampler) -> None:
    with pytest.raises(RequestError, match="own callback"):
        sampler.sample(1, label=0, on_row=lambda *_: sampler.sample(1, label=0))
    with pytest.raises(RequestError, match="own callback"):
        sampler.sample(1, label=0, on_row=lambda *_: sampler.close())
    assert sampler.sample(1, label=0).shape == (1, H, W)


def test_calls_of_two_threads_wait_for_each_other(sampler: Sampler) -> None:
    results: dict[int, np.ndarray] = {}

    def work(seed: int) -> None:
        results[seed] = sampler.sample(2, seed=seed, label=0)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, codes in results.items():
        assert np.array_equal(codes, sample_slowly(2, 0, seed=seed))
    assert len(results) == 6
