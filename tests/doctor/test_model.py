"""The tiny model that the package brings is what its script makes, and a network that is not that one is seen."""

from __future__ import annotations

import importlib.util
import io
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from pixelsnail_infer.export.exporting import module_sha256
from pixelsnail_infer.manifest import PARTS, Manifest
from pixelsnail_infer.runtime.backends import Graph
from pixelsnail_infer.runtime.backends.graphs import GraphSet
from pixelsnail_infer.runtime.doctor.self_test import KNOWN, MODEL, judged, name_in_model, self_test
from pixelsnail_infer.runtime.files.archive import read_archive
from pixelsnail_infer.runtime.files.graphfile import read_graph

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "runtime" / "doctor" / MODEL
SCRIPT = ROOT / "examples" / "make_doctor_model.py"
Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_doctor_model", SCRIPT)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def files_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def known_of(path: Path) -> Arrays:
    with np.load(io.BytesIO(files_of(path)[KNOWN])) as held:
        return dict(held)


@pytest.fixture
def known() -> Arrays:
    return known_of(SHIPPED)


def test_it_is_small_and_whole() -> None:
    assert SHIPPED.stat().st_size < 80_000
    assert set(files_of(SHIPPED)) == {KNOWN, *map(name_in_model, ("step", *PARTS, "archive"))}


def test_the_script_makes_it_again(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["make_doctor_model.py", str(tmp_path / MODEL)])
    script.main()
    works, says = judged(known_of(tmp_path / MODEL), known_of(SHIPPED))
    assert works, says
    assert set(files_of(tmp_path / MODEL)) == set(files_of(SHIPPED))


def test_what_is_known_is_the_networks(script: ModuleType, known: Arrays) -> None:
    """By PyTorch's own forward, from the seed; and both files say that they were made from that network."""
    model, label = script.make_model(script.SEED), torch.arange(script.CLASSES)
    with torch.no_grad():
        logits = model(torch.from_numpy(known["codes"].astype(np.int64)), label=label).permute(0, 2, 3, 1).numpy()
        filtered = model(torch.from_numpy(known["filtered"].astype(np.int64)), label=label).permute(0, 2, 3, 1).numpy()
    assert np.abs(logits - known["logits"]).max() < 1e-4 * logits.std()
    assert script.margin(logits, 0) > script.MARGIN and script.margin(filtered, 1, 3) > script.MARGIN
    held = files_of(SHIPPED)
    texts = (read_graph(held[name_in_model("step")]).metadata["pixelsnail_infer.manifest"],
             read_archive(held[name_in_model("archive")]).manifest)
    assert {Manifest.from_json(text).checkpoint.sha256 for text in texts} == {module_sha256(model)}


def test_the_margin_is_that_of_the_nearest_draw(script: ModuleType) -> None:
    logits = np.zeros((1, 1, 2, 3), np.float32)
    logits[0, 0, :, 0] = 100.0, 50.0
    logits[0, 0, :, 1] = 10.0, 20.0
    keys = script.image_keys(0, 1)
    noise = script.gumbel_row(keys, 0, 2, 3)[0]
    assert script.margin(logits, 0) == pytest.approx(30 + noise[1, 0] - noise[1, 1], abs=1e-4)
    assert script.margin(logits, 0, top_k=2) == pytest.approx(10, abs=1e-4)


@pytest.mark.parametrize(("backend", "archive"), [("onnxruntime", False), ("torch", True)])
def test_the_engines_of_this_machine_pass(backend: str, archive: bool) -> None:
    works, says = self_test(backend, "cpu", archive)
    assert works, says


@pytest.mark.parametrize("name", ["codes", "filtered", "completed"])
def test_one_other_code_is_seen(name: str, known: Arrays) -> None:
    found = {**known, name: known[name].copy()}
    found[name][0, -1, -1] ^= 1
    assert judged(found, known) == (False, f"it gives other codes than it must: 1 of 48 {name}")


@pytest.mark.parametrize("name", ["logits", "logprob"])
@pytest.mark.parametrize("wrong", [5e-3, np.nan])
def test_logits_and_likelihoods_that_are_off_are_seen(name: str, wrong: float, known: Arrays) -> None:
    found = {**known, name: known[name].copy()}
    found[name][0, 0, 0] += wrong
    works, says = judged(found, known)
    assert not works and says.startswith("its logits or likelihoods are off by ")
    found[name] = known[name] + np.float32(1e-4)
    assert judged(found, known)[0]


def test_every_graph_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, right = set(), GraphSet.__call__

    def noting(graphs: GraphSet, part: str) -> Graph:
        asked.add(part)
        return right(graphs, part)

    monkeypatch.setattr(GraphSet, "__call__", noting)
    self_test("onnxruntime", "cpu", False)
    assert asked == {"step", *PARTS}
