"""What a backend lacks is refused by name before a graph is loaded; a name that no file may hold, by the manifest."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import onnx
import pytest
from onnx import helper

from pixelsnail_infer import codec
from pixelsnail_infer.errors import BackendError, ManifestError
from pixelsnail_infer.manifest import METADATA_KEY
from pixelsnail_infer.plan import KNOWN, Plan, require
from pixelsnail_infer.runtime import load, load_decoder
from pixelsnail_infer.runtime.backends import onnxruntime_cpu

from . import synthetic
from .chain import CODEC

PLANTED = {"schedule": "wavefront", "target": "tensorrt", "precision": "int4"}
Patch = pytest.MonkeyPatch


@pytest.fixture(params=PLANTED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def known(patch: Patch, name: str) -> None:
    """The format has one more name."""
    patch.setitem(KNOWN, name, (*KNOWN[name], PLANTED[name]))


def prior(name: str, folder: Path) -> Path:
    """A toy model whose manifest says something else."""
    parts = synthetic.build()
    old = f'"{name}": "{KNOWN[name][0]}"'.encode()
    step = onnx.load_from_string(parts["step"])
    (text,) = (item.value.encode() for item in step.metadata_props if item.key == METADATA_KEY)
    assert text.count(old) == 1
    helper.set_model_props(step, {METADATA_KEY: text.replace(old, f'"{name}": "{PLANTED[name]}"'.encode()).decode()})
    return synthetic.write(folder, {**parts, "step": step.SerializeToString()})


def test_a_name_that_the_format_lacks(name: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=f"{name} is '{PLANTED[name]}', but this version knows only '"):
        load(prior(name, tmp_path))


def test_a_name_that_the_backend_lacks(name: str, tmp_path: Path, monkeypatch: Patch) -> None:
    path = prior(name, tmp_path)
    known(monkeypatch, name)
    monkeypatch.setattr(onnxruntime_cpu.CpuBackend, "load", None)  # it does not come to that
    with pytest.raises(BackendError) as caught:
        load(path)
    message = f"the backend for device 'cpu' has no {name} '{PLANTED[name]}', only '{KNOWN[name][0]}'"
    assert str(caught.value).startswith(message) and "; which " in str(caught.value)
    assert "toy.onnx was exported with" in str(caught.value)


def test_a_backend_that_has_it_may_try(tmp_path: Path, monkeypatch: Patch) -> None:
    path = prior("target", tmp_path)
    known(monkeypatch, "target")
    monkeypatch.setattr(onnxruntime_cpu.CpuBackend, "plans", (Plan(), Plan(target="tensorrt")))
    with load(path, threads=1) as sampler:
        assert sampler.manifest.plan == Plan(target="tensorrt")
        assert sampler.sample(1, label=0).shape == (1, *sampler.manifest.shape)


def test_codecs_have_a_precision(tmp_path: Path, monkeypatch: Patch) -> None:
    path = CODEC.write(tmp_path, "decoder")
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"float32"', b'"float99"'))  # of the same length: it stands in the manifest alone
    assert data.count(b'"float32"') == 1
    with pytest.raises(ManifestError, match="precision is 'float99', but this version knows only 'float32'"):
        load_decoder(path)
    monkeypatch.setattr(codec, "PRECISIONS", ("float32", "float99"))
    with pytest.raises(BackendError, match=r"'cpu' has no precision 'float99', only 'float32' .*which .*decoder.onnx"):
        load_decoder(path)


def test_names_that_do_not_go_together() -> None:
    has = (Plan(), Plan(precision="int8", target="tensorrt"))
    for plan in has:
        require(plan, has, "it", BackendError, "choose")
    with pytest.raises(BackendError, match="it does not have these together: schedule raster, target generic, precision"
                                           " int8; it has schedule raster, target generic, precision float32 or sched"):
        require(Plan(precision="int8"), has, "it", BackendError, "choose")


def test_the_format_knows_what_a_plan_has() -> None:
    assert list(KNOWN) == [field.name for field in fields(Plan)]
    assert all(getattr(Plan(), name) in names for name, names in KNOWN.items())
