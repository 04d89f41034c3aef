"""Exports with waves: the runtime draws the same images by either schedule, and every other call keeps its meaning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import BackendError, GraphFileError, ManifestError, ModelError, RequestError
from pixelsnail_infer.export import export_model
from pixelsnail_infer.export.analysis import wave as analysis
from pixelsnail_infer.export.from_checkpoint import export_checkpoint, verify_export
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime import Sampler, load
from pixelsnail_infer.runtime.bench.bench import bench
from pixelsnail_infer.runtime.bench.report import report
from pixelsnail_infer.runtime.drawing import wave_batch
from pixelsnail_infer.runtime.drawing.schedules import in_waves, most_images
from pixelsnail_infer.wave import WaveSpec

from . import models, two_stacks

EXAMPLES = Path(__file__).parents[3] / "examples"
SMALL = ("no_attention", "codes", "one_row", "two_stacks", "two_stacks_ahead")
Pair = tuple[Sampler, Sampler]


def export(name: str, folder: Path, schedule: str) -> Manifest:
    if name.startswith("two_stacks"):
        return export_model(two_stacks.two_stacks(), folder / f"{name}.onnx", levels=two_stacks.LEVELS,
                            shape=two_stacks.SHAPE, conditions=two_stacks.CONDITIONS, schedule=schedule).manifest
    config = models.CONFIGS[name]
    return export_model(models.prior(name), folder / f"{name}.onnx", levels=config.levels, shape=config.shape,
                        conditions=models.conditions(config), schedule=schedule).manifest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Small exports; two of them compute ahead, as only large networks do."""
    made = tmp_path_factory.mktemp("waves")
    with pytest.MonkeyPatch.context() as patch:
        for name in SMALL:
            patch.setattr(analysis, "LARGE", 1 if name in ("codes", "two_stacks_ahead") else 2**22)
            export(name, made, "both")
    yield made


@pytest.fixture(params=SMALL)
def pair(folder: Path, request: pytest.FixtureRequest) -> Iterator[Pair]:
    path = folder / f"{request.param}.onnx"
    with load(path, threads=1, schedule="raster") as raster, load(path, threads=1, schedule="wavefront") as waves:
        yield raster, waves


def conditions(sampler: Sampler, n: int) -> dict[str, Any]:
    random = np.random.default_rng(n)
    return {spec.name: random.integers(0, spec.levels or 1, (n, *spec.shape)) for spec in sampler.manifest.conditions}


def test_some_of_them_compute_ahead_and_some_have_a_lead(folder: Path) -> None:
    spans, leads = {}, {}
    for name in SMALL:
        with load(folder / f"{name}.onnx") as sampler:
            assert sampler.manifest.wave is not None and sampler.has_waves
            spans[name], leads[name] = sampler.manifest.wave.span, sampler.manifest.wave.lead
            assert (folder / f"{name}.ahead.onnx").exists() == (spans[name] > 1)
    assert spans["codes"] > 1 == spans["no_attention"] and spans["two_stacks_ahead"] > 1 == spans["two_stacks"]
    assert [name for name, lead in leads.items() if lead] == ["two_stacks", "two_stacks_ahead"]


@pytest.mark.parametrize("settings", [
    {}, {"seed": 7}, {"seed": [3, 3, 0, 2**64 - 1, 5]}, {"temperature": 0},
    {"temperature": [0.0, 0.5, 1.0, 2.0, 0.0]}, {"max_batch": 2},
], ids=str)
def test_both_schedules_draw_the_same(pair: Pair, settings: dict[str, Any]) -> None:
    given = conditions(pair[0], 5)
    raster, waves = (sampler.sample(5, **settings, **given) for sampler in pair)
    assert np.array_equal(raster, waves)
    assert waves.min() >= 0


def test_completion_rows_and_progress(pair: Pair) -> None:
    raster, waves = pair
    given, (height, width) = conditions(raster, 3), raster.manifest.shape
    random = np.random.default_rng(0)
    known = random.integers(0, raster.manifest.levels, (3, height, width))
    mask = random.random(known.shape) < 0.4
    mask[:, : height // 2] = True  # rows that the raster fills in by the score graph
    expected = raster.sample(3, known=known, known_mask=mask, **given)
    rows, told = [], []
    found = waves.sample(3, known=known, known_mask=mask, max_batch=2, progress=lambda *done: told.append(done),
                         on_row=lambda row, pixels, first: rows.append((row, pixels, first)), **given)
    assert np.array_equal(found, expected) and np.array_equal(found[mask], known[mask])
    assert [(row, first) for row, _, first in rows] == [(i, first) for first in (0, 2) for i in range(height)]
    assert all(np.array_equal(pixels, found[first:first + 2, row]) for row, pixels, first in rows)
    assert told[-1] == (found.size, found.size) and [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_call_may_stop_and_the_next_one_starts_afresh(pair: Pair) -> None:
    raster, waves = pair
    given, height = conditions(raster, 2), raster.manifest.height
    whole = raster.sample(2, **given)
    found = waves.sample(2, on_row=lambda row, pixels, first: row == height // 2, **given)
    assert np.array_equal(found[:, : height // 2 + 1], whole[:, : height // 2 + 1])
    assert (found[:, height // 2 + 1:] == -1).all()
    assert np.array_equal(waves.sample(2, **given), whole)
    resumed = waves.sample(2, known=found, known_mask=found >= 0, **given)
    assert np.array_equal(resumed, whole)


def test_replay_through_the_waves(pair: Pair) -> None:
    raster, waves = pair
    given = conditions(raster, 3)
    images = raster.sample(3, seed=9, **given)
    expected = raster.replay(images, **given)
    for sampler in pair:  # whatever it draws by
        assert np.abs(sampler.replay(images, wavefront=True, **given) - expected).max() < 1e-4 * expected.std()
    some = {name: value[:1] for name, value in given.items()}
    assert np.array_equal(waves.replay(images[:1], wavefront=True, twice=True, **some),
                          waves.replay(images[:1], wavefront=True, **some))
    with pytest.raises(RequestError, match="waves have no filters and begin with the first row"):
        waves.replay(images, wavefront=True, known_rows=1, **given)


def test_filters_are_for_steps(pair: Pair) -> None:
    raster, waves = pair
    given = conditions(raster, 2)
    with pytest.raises(RequestError, match="waves have no top-k and top-p"):
        waves.sample(2, top_k=2, **given)
    with pytest.raises(RequestError, match="schedule is 'spiral', expected 'auto', 'raster' or 'wavefront'"):
        Sampler(raster.manifest, raster._backend, raster._work._graphs, "spiral")  # type: ignore[arg-type]


def test_auto_chooses(folder: Path) -> None:
    with load(folder / "no_attention.onnx", threads=1) as sampler:
        raster = load(folder / "no_attention.onnx", threads=1, schedule="raster")
        assert np.array_equal(sampler.sample(2, top_k=3), raster.sample(2, top_k=3))  # by steps
        assert sampler._work.wave is None and sampler._work.batch is not None
        assert np.array_equal(sampler.sample(2), raster.sample(2))
        assert sampler._work.wave is not None and sampler._work.batch is None
        backend, manifest = sampler._backend, sampler.manifest
        known = sampler.sample(2)
        sampler.sample(2, known=known, known_mask=np.arange(manifest.height)[None, :, None] < np.ones((2, 1, 8)))
        assert sampler._work.wave is None  # the score graph fills in leading rows for steps
    assert manifest.wave is not None
    most = most_images(manifest, manifest.wave)
    assert most > 2
    assert in_waves("auto", manifest, backend, most, False, 0)
    assert not in_waves("auto", manifest, backend, most + 1, False, 0)
    assert in_waves("wavefront", manifest, backend, most + 1, False, 1)
    assert not in_waves("raster", manifest, backend, 1, False, 0)


def test_warming_up_waves(folder: Path) -> None:
    for name in SMALL:
        path = folder / f"{name}.onnx"
        with load(path, threads=1, schedule="wavefront") as sampler, load(path, threads=1) as cold:
            sampler.warm_up(1)
            assert sampler._work.wave is not None and sampler._work.batch is None
            given = conditions(sampler, 1)
            assert np.array_equal(sampler.sample(1, **given), cold.sample(1, **given))
            sampler.warm_up(1, filtered=True)
            assert sampler._work.wave is None and sampler._work.batch is not None


def test_bench_times_waves_too(folder: Path) -> None:
    found = bench(str(folder / "codes.onnx"), [1, 2], seconds=0.05, threads=1)
    for batch in found["batches"]:
        waves = batch["in_waves"]
        assert 0 < waves["waves_timed"] <= waves["waves"] and waves["seconds_per_image"] > 0
    assert "In waves at batch 2: " in report(found)


def test_the_rule_of_auto(folder: Path) -> None:
    with load(folder / "no_attention.onnx") as sampler:
        manifest = sampler.manifest

    def most(shape: tuple[int, int], slope: int, per_step: int = 0, **more: Any) -> int:
        read = replace(manifest.parameters, per_row=0, per_step=per_step)
        spec = WaveSpec(**{"slope": slope, "span": 1, "states": (), "parameters": 700, "preferred": False, **more})
        return most_images(replace(manifest, shape=shape, parameters=read), spec)

    assert [most((64, 64), 3), most((16, 16), 2), most((8, 8), 4)] == [64, 22, 7]
    assert most((64, 64), 3, span=4, ahead=1) == 5  # with an ahead graph rows are quicker sooner
    assert most((1, 6), 0) == 4
    # 764 waves of 700 weights, or 4096 steps
    assert [most((64, 64), 11, step, lead=7) for step in (160, 190, 250, 9000)] == [0, 1, 2, 21]


def test_what_has_no_waves(tmp_path: Path) -> None:
    plain = export("one_row", tmp_path, "raster")
    assert plain.wave is None and "wave" not in plain.to_json()
    assert not (tmp_path / "one_row.wave.onnx").exists()
    with pytest.raises(GraphFileError, match="This export has no wave graphs; leave schedule out"):
        load(tmp_path / "one_row.onnx", schedule="wavefront")
    with pytest.raises(ModelError, match="the network has no wavefront: .* attends to pixels .*--schedule raster"):
        export("label", tmp_path, "wavefront")
    assert not list(tmp_path.glob("label*"))
    noted = export("label", tmp_path, "auto")
    assert noted.wave is None and any(note.startswith("Drawn row by row only: the network has") for note in noted.notes)


def test_raster_files_do_not_change(folder: Path, tmp_path: Path) -> None:
    plain = export("no_attention", tmp_path, "raster")
    with load(folder / "no_attention.onnx") as sampler:
        both = sampler.manifest
    assert {part: both.files[part] for part in plain.files} == plain.files
    assert set(both.files) - set(plain.files) == {"wave"} and plain.states == both.states


def test_preferred_waves_are_drawn_in_any_batch(tmp_path: Path) -> None:
    export("one_row", tmp_path, "wavefront")
    with load(tmp_path / "one_row.onnx", threads=1) as sampler:
        assert sampler.manifest.wave is not None and sampler.manifest.wave.preferred
        assert in_waves("auto", sampler.manifest, sampler._backend, 10**6, False, 0)


def test_bytes_of_a_batch_are_exact(folder: Path) -> None:
    for name in SMALL:
        with load(folder / f"{name}.onnx", threads=1, schedule="wavefront") as sampler:
            sampler.sample(3, **conditions(sampler, 3))
            batch, manifest = sampler._work.wave, sampler.manifest
            assert batch is not None and manifest.wave is not None
            held = [*batch.buffers.values(), *batch.states.buffers.values(), *batch.prologue.tensors.values(),
                    *batch.prologue._inputs.values(), *(b for n, b in batch._ahead.items() if n != "ahead")]
            noise = len(batch.lanes("row", 1)) * 4 * manifest.noise.width * manifest.width * (
                len(batch.buffers["row"].array) // 3)
            assert sum(buffer.array.nbytes for buffer in held) + noise * 3 // len(batch.lanes("row", 1)) \
                == wave_batch.wave_bytes(manifest, manifest.wave, 3)


def test_manifests_that_contradict_their_waves(folder: Path) -> None:
    with load(folder / "codes.onnx") as sampler:
        text = sampler.manifest.to_json()
    assert Manifest.from_json(text).to_json() == text
    for old, new, says in [('"span": ', '"span": -', "span"), ('"slope": ', '"slope": -', "slope"),
                           ('"writer": "wave"', '"writer": "step"', "wave.states"),
                           ('"writer": "step"', '"writer": "wave"', "writer"),
                           ('"preferred": false', '"preferred": 0', "preferred")]:
        assert old in text
        with pytest.raises(ManifestError, match=says):
            Manifest.from_json(text.replace(old, new, 1))
    one = text.replace('"span": ', '"span": 1, "was": ', 1)
    with pytest.raises(ManifestError, match="wave"):
        Manifest.from_json(one)


def test_a_missing_or_altered_wave_file(folder: Path, tmp_path: Path) -> None:
    for path in folder.glob("one_row*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    wave = tmp_path / "one_row.wave.onnx"
    data = wave.read_bytes()
    wave.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with load(tmp_path / "one_row.onnx", schedule="wavefront") as sampler, \
            pytest.raises(GraphFileError, match="is not the file that the manifest names"):
        sampler.sample(1)
    wave.unlink()
    with load(tmp_path / "one_row.onnx", schedule="raster") as sampler:
        assert sampler.sample(1).shape == (1, 1, 6)


def test_backends_without_waves(folder: Path) -> None:
    class Elsewhere:
        device = "cuda"

    with load(folder / "one_row.onnx") as sampler, pytest.raises(BackendError, match="'cuda' does not run wave graphs"):
        Sampler(sampler.manifest, Elsewhere(), None, "wavefront")  # type: ignore[arg-type]


@pytest.mark.full
@pytest.mark.parametrize("name", ["pixelcnn_digits.pt", "vqvae_bottom.pt"])
def test_trained_examples(name: str, tmp_path: Path) -> None:
    export_checkpoint(EXAMPLES / name, tmp_path / "out.onnx", schedule="wavefront")
    checks = {check.name for check in verify_export(tmp_path / "out.onnx", EXAMPLES / name)}
    assert {"replay, batch 1, in waves", "replay, batch 3, in waves", "drawn in waves"} <= checks


def test_a_batch_takes_the_place_of_waves(folder: Path) -> None:
    """What waves hold is free for it."""
    with load(folder / "codes.onnx", threads=1, schedule="wavefront") as sampler:
        whole, given = sampler.batch_growth(2), conditions(sampler, 2)
        drawn = sampler.sample(2, seed=1, **given)
        assert sampler.manifest.wave is not None
        assert sampler.batch_growth(2) == whole - wave_batch.wave_bytes(sampler.manifest, sampler.manifest.wave, 2)
        sampler.replay(drawn, **given)
        assert sampler.batch_growth(2) == 0
