"""Pipelines of toy priors and codecs against their closed form: draws through all stages, batches, streams, stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import ManifestError, RequestError
from pixelsnail_infer.noise import gumbel_row, image_keys
from pixelsnail_infer.runtime import Generated, Pipeline, Sampler, load, load_decoder, load_pipeline
from pixelsnail_infer.runtime.pipeline.stage_requests import stage_keys

from .chain import BOTTOM, CODEC, LABEL, TOP
from .counting import counting_sampler


@pytest.fixture(scope="module")
def pipeline(chain: dict[str, Path]) -> Iterator[Pipeline]:
    with load_pipeline([chain["top"], chain["bottom"], chain["decoder"]], threads=1) as opened:
        yield opened


def slowly(n: int, label: Any, seed: Any = 0, top: Any = {}, bottom: Any = {}) -> Generated:  # noqa: B006
    """What `generate` must return; `top` and `bottom` hold each stage's settings."""
    keys = image_keys(seed, n)
    first = TOP.sample_slowly(keys, label=label, **top)
    second = BOTTOM.sample_slowly(stage_keys(keys, 1), label=label, condition=first, **bottom)
    return Generated(CODEC.decode(first, second), (first, second), ("top", "bottom"))


def same(found: Generated, expected: Generated) -> bool:
    assert found.images is not None and found.images.dtype == np.float32
    assert [codes.dtype for codes in found.codes] == [np.int64] * len(found.codes)
    codes = all(np.array_equal(a, b) for a, b in zip(found.codes, expected.codes, strict=True))
    return codes and np.array_equal(found.images, expected.images) and found.names == expected.names


@pytest.mark.parametrize("max_batch", [None, 1, 2, 5])
@pytest.mark.parametrize("seed", [0, [9, 9, 2, 0, 2**64 - 1]])
def test_generate_equals_the_closed_form_in_any_batches(pipeline: Pipeline, seed: Any, max_batch: int | None) -> None:
    found = pipeline.generate(5, seed=seed, label=LABEL, max_batch=max_batch)
    assert same(found, slowly(5, LABEL, seed))
    assert list(found.by_name) == ["top", "bottom"] and found.by_name["bottom"] is found.codes[1]


@pytest.mark.parametrize(
    "given, top, bottom",
    [
        ({"temperature": 0}, {"temperature": 0}, {"temperature": 0}),
        ({"temperature": (0.5, 0)}, {"temperature": 0.5}, {"temperature": 0}),
        ({"temperature": [None, [0, 1, 2, 3, 4]]}, {}, {"temperature": [0, 1, 2, 3, 4]}),
        ({"top_k": 2}, {"top_k": 2}, {"top_k": 2}),
        ({"top_k": [None, 2], "top_p": [0.5, None]}, {"top_p": 0.5}, {"top_k": 2}),
        ({"top_k": np.array([1, 5])}, {"top_k": 1}, {}),
    ],
)
def test_settings_are_for_all_stages_or_for_each(pipeline: Pipeline, given: Any, top: Any, bottom: Any) -> None:
    found = pipeline.generate(5, label=LABEL, max_batch=3, **given)
    assert same(found, slowly(5, LABEL, top=top, bottom=bottom))


def test_an_image_depends_on_its_seed_only(pipeline: Pipeline) -> None:
    whole = pipeline.generate(5, seed=[4, 7, 1, 9, 3], label=LABEL)
    alone = pipeline.generate(1, seed=[1], label=2)
    assert whole.images is not None and alone.images is not None
    assert np.array_equal(alone.images[0], whole.images[2]) and np.array_equal(alone.codes[1][0], whole.codes[1][2])
    assert not np.array_equal(whole.codes[0], pipeline.generate(5, seed=1, label=LABEL).codes[0])


def test_the_first_stage_is_sample_and_the_others_have_noise_of_their_own(
    pipeline: Pipeline, chain: dict[str, Path]
) -> None:
    found = pipeline.generate(4, seed=3, label=1)
    with load(chain["top"], threads=1) as top, load(chain["bottom"], threads=1) as bottom:
        assert np.array_equal(found.codes[0], top.sample(4, seed=3, label=1))
        assert not np.array_equal(found.codes[1], bottom.sample(4, seed=3, label=1, condition=found.codes[0]))
    keys = image_keys(3, 4)
    assert stage_keys(keys, 0).tolist() == keys.tolist() == [[3, 0], [3, 1], [3, 2], [3, 3]]
    assert stage_keys(keys, 2).tolist() == [[3, k + 2 * 2**32] for k in range(4)]
    assert stage_keys(image_keys([5, 2**64 - 1], 2), 1).tolist() == [[5, 2**32], [2**64 - 1, 2**32]]


def test_two_priors_that_are_alike_draw_different_codes(chain: dict[str, Path]) -> None:
    """With one noise for all stages they would draw the same."""
    with load(chain["top"], threads=1) as one, load(chain["top"], threads=1) as other:
        found = Pipeline([one, other]).generate(16, label=0)
    assert found.images is None and found.names == ("codes0", "codes1")
    keys = image_keys(0, 16)
    assert np.array_equal(found.codes[0], TOP.sample_slowly(keys, label=0))
    assert np.array_equal(found.codes[1], TOP.sample_slowly(stage_keys(keys, 1), label=0))
    assert not np.array_equal(found.codes[0], found.codes[1])


def test_the_noise_of_stages_does_not_correlate() -> None:
    keys = image_keys(0, 4)
    noises = [gumbel_row(stage_keys(keys, stage), 0, 64, 64).ravel() for stage in range(3)]
    assert np.abs(np.corrcoef(noises) - np.eye(3)).max() < 0.03  # 16384 numbers each


def test_progress_and_rows_of_all_stages(pipeline: Pipeline) -> None:
    calls: list[tuple[int, int]] = []
    rows: list[tuple[int, int, int]] = []
    expected = slowly(5, LABEL)

    def on_row(stage: int, row: int, codes: np.ndarray, first: int) -> None:
        rows.append((first, stage, row))
        assert np.array_equal(codes, expected.codes[stage][first : first + len(codes), row])
        codes[:] = 99  # a copy: neither the result nor the next stage changes

    found = pipeline.generate(5, label=LABEL, max_batch=3, on_row=on_row, progress=lambda *step: calls.append(step))
    assert same(found, expected)
    order = [(stage, row) for stage, height in ((0, 2), (1, 4)) for row in range(height)]
    assert rows == [(first, *place) for first in (0, 3) for place in order]
    total = 5 * (2 * 3 + 4 * 6 + 6)  # decoding an image counts as much as a row of the last prior
    done = [9, 18, 36, 54, 72, 90, 108]
    assert calls == [(count, total) for count in done + [108 + count * 2 // 3 for count in done]]


def test_a_stopped_call_says_what_it_has(pipeline: Pipeline) -> None:
    whole = pipeline.generate(5, label=LABEL)
    found = pipeline.generate(
        5, label=LABEL, max_batch=2, on_row=lambda stage, row, codes, first: (stage, row, first) == (1, 2, 2)
    )
    assert found.images is not None and whole.images is not None
    assert np.array_equal(found.images[:2], whole.images[:2]) and np.isnan(found.images[2:]).all()
    assert np.array_equal(found.codes[0][:4], whole.codes[0][:4]) and (found.codes[0][4:] == -1).all()
    assert np.array_equal(found.codes[1][2:4, :3], whole.codes[1][2:4, :3]) and (found.codes[1][2:, 3] == -1).all()


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_call_leaves_the_pipeline_usable(
    pipeline: Pipeline, stage: int, error: type[BaseException]
) -> None:
    def on_row(at: int, row: int, codes: np.ndarray, first: int) -> None:
        if (at, row, first) == (stage, 1, 2):
            raise error

    with pytest.raises(error):
        pipeline.generate(5, label=LABEL, max_batch=2, on_row=on_row)
    assert same(pipeline.generate(5, label=LABEL, max_batch=2), slowly(5, LABEL))

    def progress(done: int, total: int) -> None:
        if done == total:  # while the decoder runs
            raise error

    with pytest.raises(error):
        pipeline.generate(2, label=0, progress=progress)
    assert same(pipeline.generate(2, label=0), slowly(2, 0))


def test_a_shared_label_is_computed_once_for_all_batches(chain: dict[str, Path]) -> None:
    (top, tops), (bottom, bottoms) = (counting_sampler(chain[name]) for name in ("top", "bottom"))
    with load_decoder(chain["decoder"], threads=1) as decoder:
        found = Pipeline([top, bottom, decoder]).generate(5, label=1, max_batch=2)
        assert same(found, slowly(5, 1)) and tops == [1]
        drawn = [{codes.tobytes() for codes in found.codes[0][first : first + 2]} for first in (0, 2, 4)]
        assert bottoms == [len(batch) for batch in drawn], "equal codes share, too"
        bottoms.clear()
        Pipeline([top, bottom, decoder]).generate(4, label=1, temperature=0)
        assert bottoms == [1], "at temperature 0 all top codes are equal"


def test_no_more_than_a_batch_is_in_work(pipeline: Pipeline) -> None:
    pipeline.generate(7, label=0, max_batch=2)
    for prior in pipeline._priors:
        assert prior._work.batch is not None and prior._work.batch.size <= 2
    assert pipeline._decoder is not None and pipeline._decoder._batch is not None and pipeline._decoder._batch[0] <= 2


def test_one_prior_is_a_pipeline(chain: dict[str, Path]) -> None:
    with load(chain["top"], threads=1) as top:
        found = Pipeline([top]).generate(3, label=2, seed=6, temperature=[0.5])
        assert found.images is None and found.names == ("codes0",)
        assert np.array_equal(found.codes[0], top.sample(3, label=2, seed=6, temperature=0.5))


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"n": 0}, "n is 0"),
        ({"max_batch": 0}, "max_batch is 0"),
        ({"seed": [1]}, "seed has 1 entries for 2 images"),
        ({"label": None}, "Stage 0: The condition 'label' is missing"),
        ({"label": 3}, "Stage 0: label holds 3"),
        ({"size": 3}, "'size' is not a condition of this pipeline; the caller's part takes label"),
        ({"condition": np.zeros((2, 3), int)}, "'condition' is fed by an earlier stage to stage 1"),
        ({"temperature": [1.0]}, "temperature has 1 entries, expected one value, or one for each of 2 priors"),
        ({"temperature": [1.0, -1.0]}, "Stage 1: temperature holds -1"),
        ({"top_k": 5}, "Stage 0: top_k holds 5, expected integers from 1 to 4"),
        ({"image": np.zeros((8, 12, 3), np.float32)}, "image comes without keep"),
        ({"keep": (0, 0, 4, 4)}, "keep comes without image"),
        ({"image": np.zeros((8, 12, 3), np.float32), "keep": (0, 0, 4, 4)}, "image needs an encoder"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_runs(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(Sampler, "draw_batch", None)  # must not be reached
    arguments: dict[str, Any] = {"n": 2, "label": 0, **changed}
    with pytest.raises(RequestError, match=message):
        pipeline.generate(arguments.pop("n"), **arguments)


def test_a_pipeline_closes_what_it_loaded_and_nothing_else(chain: dict[str, Path]) -> None:
    with load(chain["top"], threads=1) as top:
        with Pipeline([top]) as borrowed:
            pass
        assert top.sample(1, label=0).shape == (1, 2, 3)
        with pytest.raises(RequestError, match="This pipeline is closed"):
            borrowed.generate(1, label=0)
    owner = load_pipeline([chain["top"], chain["bottom"], chain["decoder"]], encoder=chain["encoder"], threads=1)
    stages = owner._owned
    owner.close()
    owner.close()
    assert len(stages) == 4
    for stage in stages:
        with pytest.raises(RequestError, match="is closed"):
            stage.__enter__()


def test_what_was_loaded_is_closed_when_the_next_fails(
    chain: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Sampler] = []
    close = Sampler.close
    monkeypatch.setattr(Sampler, "close", lambda self: (closed.append(self), close(self))[1])
    with pytest.raises(RequestError, match="decoder takes .* but the priors draw"):
        load_pipeline([chain["top"], chain["decoder"]], threads=1)
    assert len(closed) == 1


def test_a_decoder_comes_last_and_an_encoder_beside(chain: dict[str, Path]) -> None:
    with pytest.raises(RequestError, match=r"stages\[0\] is a decoder, which only denoisers can follow; give the"):
        load_pipeline([chain["decoder"], chain["top"]], threads=1)
    with pytest.raises(ManifestError, match="encoder.onnx is an encoder, not a prior or a decoder or a denoiser"):
        load_pipeline([chain["top"], chain["encoder"]], threads=1)
    with pytest.raises(ManifestError, match="decoder.onnx is a decoder, not an encoder"):
        load_pipeline([chain["top"]], encoder=chain["decoder"], threads=1)


def test_callbacks_may_not_call_back_and_threads_wait(pipeline: Pipeline) -> None:
    for call in (lambda *_: pipeline.generate(1, label=0), lambda *_: pipeline.close()):
        with pytest.raises(RequestError, match="This pipeline cannot be called from its own callback"):
            pipeline.generate(1, label=0, on_row=call)
    results: dict[int, Generated] = {}
    threads = [
        threading.Thread(target=lambda k=k: results.update({k: pipeline.generate(2, seed=k, label=0, max_batch=1)}))
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and all(same(found, slowly(2, 0, k)) for k, found in results.items())
