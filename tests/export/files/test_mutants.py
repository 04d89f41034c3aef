"""Every checker has a test that must fail: a wrong export is refused, and leaves nothing behind."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pixelsnail_infer.errors import VerificationError
from pixelsnail_infer.export import exporting, staging
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.exporting import export_model

from . import models
from . import mutants as m

compiled = functools.cache(models.compiled)
Patch = pytest.MonkeyPatch


def export(name: str, target: Path) -> Any:
    if name == "inclusive":
        return export_model(m.Inclusive(), target, levels=m.Inclusive.levels, shape=m.Inclusive.shape)
    return models.export(name, target)


def refused(name: str, tmp_path: Path, *says: str) -> None:
    with pytest.raises(VerificationError) as caught:
        export(name, tmp_path / "out.onnx")
    assert any(part in str(caught.value) for part in says), caught.value
    assert list(tmp_path.iterdir()) == []


PROGRAM: dict[str, Callable[[Compiled], None]] = {
    "a dropped tap": m.dropped_tap,
    "a bias behind the border": m.bias_behind_the_border,
    "a bias twice": m.bias_twice,
    "no guards": lambda compiled: compiled.program.guard.clear(),
}


@pytest.mark.parametrize("change", PROGRAM.values(), ids=list(PROGRAM))
def test_a_wrong_program_is_refused_before_anything_is_written(
    change: Callable[[Compiled], None], tmp_path: Path, monkeypatch: Patch
) -> None:
    m.change_program(monkeypatch, change)
    refused("wide_kernel", tmp_path, "float64 interpreter")


GRAPHS: dict[str, tuple[str, m.Edit, str]] = {
    "keys one position too far": ("step", m.next_address("keys"), "replay"),
    "values one position too far": ("step", m.next_address("values"), "replay"),
    "a canvas one column too far": ("step", m.next_address("canvas"), "replay"),
    "pixels one column too far": ("step", m.next_address("pixels"), "replay"),
    "keys not written": ("step", m.lost_write("keys"), "replay"),
    "a canvas not written": ("step", m.lost_write("canvas"), "replay"),
    "pixels not written": ("step", m.lost_write("pixels"), "replay"),
    "values written as zero": ("step", m.zero_write("values"), "replay"),
    "own position attended to": ("step", m.not_strict, "replay"),
    "own position attended to in score": ("score", m.not_strict, "score"),
    "the wrong row of the rings": ("row", m.next_row, "replay"),
    "the row result one column too far": ("step", m.next_column("row_result"), "replay"),
    "the noise one column too far": ("step", m.next_column("noise"), "drawn"),
    "given and drawn exchanged": ("step", m.given_where_drawn, "replay"),
    "no temperature": ("step", m.no_temperature, "drawn"),
    "states of a row less": ("score", m.rows_off_by_one, "replay after"),
    "the least probable levels": ("filtered", m.least_probable, "drawn, filtered"),
    "no temperature, filtered": ("filtered", m.no_temperature, "drawn, filtered"),
    "filtered values not written": ("filtered", m.lost_write("values"), "replay, filtered"),
}


@pytest.fixture
def only_files(monkeypatch: Patch) -> Patch:
    """Compiled once, and the proofs before writing left out: what is tested are the proofs on the files."""
    monkeypatch.setattr(staging, "compile_model", lambda *_: compiled("wide_kernel"))
    monkeypatch.setattr(exporting, "verify_before", lambda *_: [])
    return monkeypatch


@pytest.mark.parametrize("part, edit, says", GRAPHS.values(), ids=list(GRAPHS))
def test_a_wrong_graph_is_refused(part: str, edit: m.Edit, says: str, tmp_path: Path, only_files: Patch) -> None:
    m.change_graph(only_files, part, edit)
    refused("wide_kernel", tmp_path, says, "run twice")


WRITING: dict[str, Callable[[Patch], None]] = {
    "a tap to the left dropped in the step": m.without_taps("step", above=False),
    "a tap above dropped in the row graph": m.without_taps("row", above=True),
    "a tap above dropped in score": m.without_taps("score", above=True),
    "no guards in the graphs": m.no_guards,
    "another border of the canvas": m.initial("canvas", 0.5),
    "a pixel of level 0 outside": m.initial("pixels", 0.0),
}


@pytest.mark.parametrize("install", WRITING.values(), ids=list(WRITING))
def test_wrong_writing_is_refused(install: Callable[[Patch], None], tmp_path: Path, only_files: Patch) -> None:
    install(only_files)
    refused("wide_kernel", tmp_path, "replay", "score")


def test_rings_that_are_too_small_are_refused(tmp_path: Path, monkeypatch: Patch) -> None:
    m.change_program(monkeypatch, m.small_rings)
    refused("wide_kernel", tmp_path, "replay")


def test_another_label_is_refused(tmp_path: Path, monkeypatch: Patch) -> None:
    m.change_graph(monkeypatch, "prologue", m.other_label)
    refused("label", tmp_path, "replay", "score")


@pytest.mark.parametrize("name", ["wide_kernel", "label", "inclusive"])
def test_without_a_mutation_they_pass(name: str, tmp_path: Path) -> None:
    done = export(name, tmp_path / "out.onnx")
    assert done.checks and all(check.passed for check in done.checks)
    assert {path.name for path in done.files} == {path.name for path in tmp_path.iterdir()}


def test_the_unedited_graphs_pass_without_the_first_proofs(tmp_path: Path, only_files: Patch) -> None:
    assert export("wide_kernel", tmp_path / "out.onnx").files
