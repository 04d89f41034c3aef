"""Exported decoders and encoders equal PyTorch through the runtime, and their files hold what the contract says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pixelsnail_infer.codec import CodecManifest
from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export import Exported, export_codec
from pixelsnail_infer.export.codecs.graph import GroupwiseNorm, build_graph, weights
from pixelsnail_infer.manifest import METADATA_KEY
from pixelsnail_infer.runtime import load_decoder, load_encoder
from pixelsnail_infer.runtime.files.graphfile import read_graph

from .networks import CONFIGS, TWO, build

KINDS = ("decoder", "encoder")
Exports = dict[str, dict[str, Exported[CodecManifest]]]


@pytest.fixture(scope="module")
def modules() -> dict[str, torch.nn.Module]:
    """Every small network, in training mode."""
    return {name: build(config).train() for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def exports(modules: dict[str, torch.nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Both halves of every small network, by its name and the kind."""
    folder = tmp_path_factory.mktemp("codecs")
    return {name: {kind: export_codec(module, folder / f"{name}.{kind}.onnx", kind=kind) for kind in KINDS}
            for name, module in modules.items()}


@pytest.mark.parametrize("name", list(CONFIGS))
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_images_equal_pytorchs(name: str, batch: int, exports: Exports) -> None:
    config, model = CONFIGS[name], build(CONFIGS[name])
    random = np.random.default_rng(batch)
    codes = [random.integers(0, spec.levels, (batch, *spec.shape)) for spec in config.codes]
    with torch.no_grad():
        expected = model.decode(*map(torch.from_numpy, codes)).permute(0, 2, 3, 1).numpy()
    with load_decoder(exports[name]["decoder"].file, threads=1) as decoder:
        found = decoder.decode(*codes, max_batch=batch)
    assert found.shape == (batch, *config.shape, config.image.channels)
    assert np.abs(found - expected).max() <= 1e-4 * expected.std()


@pytest.mark.parametrize("name", list(CONFIGS))
def test_codes_are_the_nearest_and_many_and_decode_as_in_pytorch(name: str, exports: Exports) -> None:
    config, model = CONFIGS[name], build(CONFIGS[name])
    images = np.random.default_rng(1).uniform(-1, 1, (3, *config.shape, config.image.channels)).astype(np.float32)
    images = images.mean((1, 2), keepdims=True) + images * np.linspace(0, 1, config.shape[1])[:, None].astype("f4")
    images = np.clip(images, -1, 1) * (6 if config.image.values == "log-mel" else 1)
    with load_encoder(exports[name]["encoder"].file, threads=1) as encoder:
        found = encoder.encode(images)
    given = tuple(torch.from_numpy(level) for level in found)
    _, vectors = model.encode(torch.from_numpy(images).permute(0, 3, 1, 2), given)
    for level, flat, table in zip(found, vectors, model.tables, strict=True):
        away = (flat.permute(0, 2, 3, 1)[..., None, :].double() - table.double()).norm(dim=-1).numpy()  # [n, h, w, L]
        taken = np.take_along_axis(away, level[..., None], -1)[..., 0]
        assert (taken <= away.min(-1) + 1e-4 * float(flat.std())).all() and len(np.unique(level)) >= 3
    with load_decoder(exports[name]["decoder"].file) as decoder, torch.no_grad():
        image, expected = decoder.decode(*found), model.decode(*given).permute(0, 2, 3, 1).numpy()
    assert np.abs(image - expected).max() <= 1e-4 * expected.std()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(CONFIGS))
def test_a_file_holds_one_plain_graph_and_every_weight_once(name: str, kind: str, exports: Exports) -> None:
    path = exports[name][kind].file
    model = onnx.load(path)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 24)]
    assert not model.functions and not model.graph.value_info
    assert {node.domain for node in model.graph.node} == {""}
    free = [dim.dim_param for value in (*model.graph.input, *model.graph.output)
            for k, dim in enumerate(value.type.tensor_type.shape.dim) if k == 0 or dim.dim_param]
    assert set(free) == {"B"} and len(free) == len(model.graph.input) + len(model.graph.output)
    held = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    module = build(CONFIGS[name])
    assert held <= sum(tensor.numel() for tensor in module.state_dict().values()) + 3 * sum(
        table.numel() + len(table) for table in module.tables
    )
    assert path.stat().st_size < 4 * held + 60_000
    assert b".py" not in path.read_bytes() and b"stack" not in path.read_bytes()  # no trace of who exported it


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", list(CONFIGS))
def test_the_manifest_says_what_the_file_is(name: str, kind: str, exports: Exports) -> None:
    exported, config = exports[name][kind], CONFIGS[name]
    text = read_graph(exported.file).metadata[METADATA_KEY]
    manifest = CodecManifest.from_json(text)
    assert manifest == exported.manifest and manifest.kind == kind
    assert manifest.image == config.image and manifest.codes == config.codes
    assert manifest.parameters == weights(onnx.load(exported.file)) > 0
    assert set(manifest.verification) == {check.name for check in exported.checks}
    assert [json.loads(text)["verification"][check.name]["value"] for check in exported.checks] == [
        check.value for check in exported.checks
    ]
    assert {"torch", "onnx", "onnxscript", "pixelsnail_infer"} == set(manifest.versions)


def test_the_checks_name_every_level_and_batch(exports: Exports) -> None:
    decode, encode = ([check.name for check in exports["two"][kind].checks] for kind in KINDS)
    assert decode == ["decode, batch 1", "decode, batch 3", "decode, batch 5"]
    assert encode == [f"encode {level}, batch {batch}" for batch in (1, 3, 5) for level in ("top", "bottom")]
    assert all(check.passed and check.limit == 1e-4 for check in exports["two"]["encoder"].checks)


@pytest.mark.parametrize("name", list(CONFIGS))
def test_the_module_is_not_changed(name: str, exports: Exports, modules: dict[str, torch.nn.Module]) -> None:
    assert set(exports[name]) == set(KINDS)
    exported, untouched = modules[name], build(CONFIGS[name])
    assert all(module.training for module in exported.modules())
    assert [type(module) for module in exported.modules()] == [type(module) for module in untouched.modules()]
    before, after = untouched.state_dict(), exported.state_dict()
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        torch.testing.assert_close(after[key], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("affine", [True, False])
def test_the_groupwise_norm_is_the_group_norm(affine: bool) -> None:
    torch.manual_seed(0)
    norm = torch.nn.GroupNorm(4, 12, eps=1e-3, affine=affine)
    if affine:
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    x = torch.randn(3, 12, 5, 7) * 3 + 2
    torch.testing.assert_close(GroupwiseNorm(norm)(x), norm(x), rtol=1e-5, atol=1e-5)


def test_what_is_no_first_stage_and_what_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="Linear has no 'config', so it cannot be exported as a first stage"):
        export_codec(torch.nn.Linear(2, 2), tmp_path / "d.onnx")
    with pytest.raises(ModelError, match="kind is 'both', expected one of decoder, encoder"):
        export_codec(build(TWO), tmp_path / "d.onnx", kind="both")
    monkeypatch.setattr("pixelsnail_infer.export.codecs.graph.LIMIT", 1000)
    with pytest.raises(ModelError, match="GiB of weights; a file holds at most 2 GiB"):
        export_codec(build(TWO), tmp_path / "d.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_operation_that_pytorch_cannot_export_is_named(tmp_path: Path) -> None:
    model = build(TWO)
    model.decode = lambda *codes: torch.linalg.eigvals(codes[0].float())  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="PyTorch's ONNX exporter cannot write this decoder"):
        build_graph(model, "decoder")
