"""Schedule, target and precision go from the call through the compiled program to the writer and the manifest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export import artifacts, export_model, plans
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.writing.onnx_writer import write_onnx
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.plan import KNOWN, Plan
from pixelsnail_infer.runtime import load
from pixelsnail_infer.runtime.backends import onnxruntime_cpu

from . import models

PLANTED = [Plan(schedule="wavefront"), Plan(target="tensorrt"), Plan(precision="int4")]
Patch = pytest.MonkeyPatch


def lacks(plan: Plan) -> str:
    """How a writer names what it lacks."""
    name = next(name for name in KNOWN if getattr(plan, name) != getattr(Plan(), name))
    return f"has no {name} '{getattr(plan, name)}', only '{KNOWN[name][0]}'"


@pytest.mark.parametrize("plan", [*PLANTED, plans.TEST_PLAN], ids=str)
def test_an_export_refuses_by_name(plan: Plan, tmp_path: Path) -> None:
    config = models.CONFIGS["one_row"]
    with pytest.raises(ModelError, match=f"the export of priors {lacks(plan)}"):
        export_model(models.prior("one_row"), tmp_path / "out.onnx", levels=7, shape=config.shape, plan=plan)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("plan", PLANTED, ids=str)
def test_the_writer_refuses_by_name(plan: Plan) -> None:
    compiled = replace(models.compiled("one_row"), plan=plan)
    with pytest.raises(ModelError, match=f"the ONNX writer {lacks(plan)}"):
        artifacts.build_part(compiled, "row")


def test_float64_is_for_tests() -> None:
    compiled = replace(models.compiled("one_row"), plan=plans.TEST_PLAN)
    graph = write_onnx(artifacts.build_part(compiled, "row"), {}).graph
    (packed,) = (value for value in graph.output if value.name == "row_result")
    assert packed.type.tensor_type.elem_type == TensorProto.DOUBLE


def test_one_more_target_is_an_entry_in_three_places(tmp_path: Path, monkeypatch: Patch) -> None:
    """A name of the format, a plan of the writer, a plan of the backend: the file says it, and the runtime runs it."""
    plan = Plan(target="tensorrt")
    monkeypatch.setitem(KNOWN, "target", ("generic", "tensorrt"))
    monkeypatch.setattr(plans, "PRIOR_PLANS", (Plan(), plan))
    monkeypatch.setattr(onnxruntime_cpu.CpuBackend, "plans", (Plan(), plan))
    config, written, build_part = models.CONFIGS["one_row"], set[Plan](), artifacts.build_part

    def seen(compiled: Compiled, part: str) -> Any:
        written.add(compiled.plan)
        return build_part(compiled, part)

    monkeypatch.setattr(artifacts, "build_part", seen)
    done = export_model(models.prior("one_row"), tmp_path / "out.onnx", levels=7, shape=config.shape, plan=plan)
    assert done.manifest.plan == plan and written == {plan}
    with load(tmp_path / "out.onnx", threads=1) as sampler:
        manifest: Manifest = sampler.manifest
    assert (manifest.schedule, manifest.target, manifest.precision) == ("raster", "tensorrt", "float32")
