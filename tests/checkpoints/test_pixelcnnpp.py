"""PixelCNN++ from its three kinds of files: TensorFlow's, the PyTorch port's and this project's."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelsnail_infer.checkpoints import CheckpointOptions, load_checkpoint
from pixelsnail_infer.checkpoints.tf_bundle import read_bundle
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.models.mixture import log_likelihood
from pixelsnail_infer.models.pixelcnnpp import PixelCNNpp, PixelCNNppConfig
from pixelsnail_infer.models.snail import original_names

from ..models.pixelcnnpp_reference import Original
from .bundles import DATA, write_bundle, write_slices
from .write_tf_bundle import known_value

Write = Callable[[object], Path]
Tensors = dict[str, tuple[int, NDArray[Any]]]
SHADOW = "/ExponentialMovingAverage"
SMALL = PixelCNNppConfig(shape=(4, 8), nr_filters=3, nr_resnet=1, nr_logistic_mix=2)
LABEL = replace(SMALL, condition="label", n_label=3)
SHAPE = CheckpointOptions(shape=(4, 8))
SAVED: dict[str, CheckpointOptions] = {
    "cpp.ckpt": CheckpointOptions(shape=(8, 12)),
    "cpp1.ckpt": CheckpointOptions(shape=(8, 8), nonlinearity="relu", condition_kind="vector"),
}
"""Bundle and single file, written by the original's own code."""


def made(config: PixelCNNppConfig) -> PixelCNNpp:
    torch.manual_seed(2)
    model = PixelCNNpp(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def same(ours: torch.nn.Module, theirs: PixelCNNpp) -> bool:
    state = ours.state_dict()
    return all(torch.equal(state[name], values) for name, values in theirs.state_dict().items())


# TensorFlow -----------------------------------------------------------------------------------------------------------


def theirs(name: str, values: Tensor) -> NDArray[Any]:
    """A parameter of ours in the original's layout."""
    array = values.detach().numpy()
    if name.endswith("/V"):
        array = array.transpose(2, 3, 1, 0)
        array = array[0, 0] if name.startswith("dense") else array
    return np.ascontiguousarray(array)


def variables(model: PixelCNNpp, scope: str = "model/") -> Tensors:
    """What the original would save of the model, averages that are the parameters and variables that are zeros."""
    parameters = dict(model.named_parameters())
    result: Tensors = {}
    for path, name in original_names(model).items():
        values = theirs(name, parameters[path])
        result |= {f"{scope}{name}": (1, np.zeros_like(values)), f"{scope}{name}{SHADOW}": (1, values)}
    return result


@torch.no_grad()
@pytest.mark.parametrize("no_ema", [True, False])
@pytest.mark.parametrize("name", list(SAVED))
def test_the_originals_own_code_gives_the_same_parameters_and_loss(name: str, no_ema: bool) -> None:
    known = np.load(DATA / f"{name}.npz")
    loaded = load_checkpoint(DATA / name, options=replace(SAVED[name], no_ema=no_ema))
    pixels = torch.from_numpy(known["x"]).double().permute(0, 3, 1, 2)
    given = {"h": torch.from_numpy(known["h"]).double()} if "h" in known else {}
    ours = loaded.module.double()(pixels, **given)
    expected = known["raw" if no_ema else "ema"]
    np.testing.assert_allclose(ours.permute(0, 2, 3, 1).numpy(), expected, atol=5e-6 * expected.std(), rtol=0)
    if no_ema:
        np.testing.assert_allclose(-log_likelihood(ours, pixels).sum().item(), known["loss"], rtol=1e-5)


@pytest.mark.parametrize("name", list(SAVED))
def test_every_parameter_comes_from_its_variable(name: str) -> None:
    loaded = load_checkpoint(DATA / name, options=SAVED[name])
    assert loaded.family == "pixelcnn++" and len(loaded.sha256) == 64
    names = original_names(loaded.module)
    parameters = dict(loaded.module.named_parameters())
    assert names.keys() == parameters.keys()
    for path, variable in names.items():
        values = theirs(variable, parameters[path])
        np.testing.assert_array_equal(values, known_value(f"model/{variable}{SHADOW}", values.shape))
    if name == "cpp.ckpt":
        model = {held for held in read_bundle(DATA / name) if held.startswith("model/")}
        assert model == {f"model/{variable}{s}" for variable in names.values() for s in ("", SHADOW)}


@pytest.mark.parametrize("nonlinearity", ["concat_elu", "elu", "relu"])
@pytest.mark.parametrize("sizes", [{}, {"nr_resnet": 0, "channels": 1}, {"nr_resnet": 2, "nr_filters": 1}])
@pytest.mark.parametrize("condition", [None, "label", "vector"])
def test_sizes_and_parameters_come_back(nonlinearity: Any, sizes: Any, condition: Any, tmp_path: Path) -> None:
    config = replace(SMALL, resnet_nonlinearity=nonlinearity, condition=condition, n_label=2 * bool(condition), **sizes)
    model = made(config)
    (write_slices if condition else write_bundle)(tmp_path / "m.ckpt", variables(model))
    options = replace(SHAPE, nonlinearity="relu" if nonlinearity == "relu" else None, condition_kind=condition)
    loaded = load_checkpoint(tmp_path / "m.ckpt", options=options)
    assert loaded.config == config and same(loaded.module, model)
    assert not loaded.module.training and not any(p.requires_grad for p in loaded.module.parameters())


def test_findings_say_what_was_taken_assumed_and_ignored() -> None:
    said = "; ".join(load_checkpoint(DATA / "cpp1.ckpt").findings)
    for part in ("moving averages", "5 other variables", "assumed elu", "32x32 pixels: assumed", "label of 3",
                 "1 residual blocks a stage, 2 filters", "2 logistics"):  # fmt: skip
        assert part in said
    said = "; ".join(load_checkpoint(DATA / "cpp.ckpt", options=CheckpointOptions(no_ema=True)).findings)
    assert "bare variables" in said and "concat_elu" in said and "assumed elu" not in said


def refused(path: Path, part: str, **options: Any) -> None:
    with pytest.raises(CheckpointError, match=part) as error:
        load_checkpoint(path, options=CheckpointOptions(**options))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"conv2d_0/V": np.ones((2, 3, 3, 3))}, "takes 3 channels"),
        ({"conv2d_38/b": None}, "no variable conv2d_38/b"),
        ({"conv2d_38/V": None}, "its 38 conv2d, 4 deconv2d and 14 dense"),
        ({"deconv2d_3/V": None}, "its 39 conv2d, 3 deconv2d"),
        ({"deconv2d_3/V": np.zeros((2, 2, 3, 3))}, "deconv2d_3/V has an output whose norm is 0"),
        ({"deconv2d_0/V": np.ones((2, 2, 3, 3))}, r"deconv2d_0/V has shape \[2, 2, 3, 3\].*\[2, 3, 3, 3\]"),
        ({"dense_13/g": np.ones(19)}, "dense_13, gives 19 numbers"),
        ({f"dense_{n}/V": np.ones((3, 3)) for n in (14, 15, 16)}, "energy distance"),
        ({"dense_14/V": np.ones((3, 3))}, "15 dense"),
        ({"conditional_weights_0/hw": np.ones((3, 6))}, "no variable conditional_weights_1/hw"),
        ({"other/deconv2d_0/V": np.ones(2)}, "holds 2 networks"),
        ({"conv2d_3/g": np.full(3, np.nan)}, "conv2d_3/g holds NaN"),
    ],
)
def test_variables_that_do_not_fit(change: dict[str, Any], part: str, tmp_path: Path) -> None:
    held = variables(made(SMALL))
    for name, values in change.items():
        for whole in (f"{'' if name.startswith('other') else 'model/'}{name}{s}" for s in ("", SHADOW)):
            held.pop(whole, None)
            held |= {} if values is None else {whole: (1, np.asarray(values, "<f4"))}
    write_bundle(tmp_path / "m.ckpt", held)
    refused(tmp_path / "m.ckpt", part)


def test_a_dead_input_of_a_transposed_convolution_is_none_of_its_outputs(tmp_path: Path) -> None:
    held = variables(made(SMALL))
    _, values = held["model/deconv2d_3/V" + SHADOW]
    values[..., 0] = 0
    write_bundle(tmp_path / "m.ckpt", held)
    assert load_checkpoint(tmp_path / "m.ckpt", options=SHAPE).config == SMALL
    values[..., 0], values[:, :, 0] = 1, 0
    write_bundle(tmp_path / "m.ckpt", held)
    refused(tmp_path / "m.ckpt", "deconv2d_3/V has an output whose norm is 0")


def test_other_options_of_tensorflow_files(tmp_path: Path) -> None:
    write_slices(tmp_path / "m.ckpt", {n: v for n, v in variables(made(SMALL)).items() if not n.endswith(SHADOW)})
    refused(tmp_path / "m.ckpt", "171 of its 171 variables have no moving average.*--no-ema")
    refused(DATA / "cpp.ckpt", "multiples of 4", shape=(8, 6))
    refused(DATA / "cpp.ckpt", "--key", key="model")


# The PyTorch port -----------------------------------------------------------------------------------------------------


def port(config: PixelCNNppConfig, norm: str = "plain") -> dict[str, Tensor]:
    """A random state dict with the names and shapes that the public port's modules have."""
    generator = torch.Generator().manual_seed(8)
    filters, state = config.nr_filters, dict[str, Tensor]()
    direction, length = ("weight_v", "weight_g") if norm == "plain" else (
        "parametrizations.weight.original1", "parametrizations.weight.original0")  # fmt: skip

    def layer(name: str, *shape: int, outputs: int | None = None) -> None:
        v = torch.randn(*shape, generator=generator)
        state[f"{name}.bias"] = torch.randn(outputs or shape[0], generator=generator)
        state[f"{name}.{length}"] = torch.rand(shape[0], *[1] * (len(shape) - 1), generator=generator) + 0.5
        state[f"{name}.{direction}"] = v

    def resnet(name: str, columns: int, skips: int) -> None:
        layer(f"{name}.conv_input.conv", filters, 2 * filters, 2, columns)
        if skips:
            layer(f"{name}.nin_skip.lin_a", filters, 2 * skips * filters)
        layer(f"{name}.conv_out.conv", 2 * filters, 2 * filters, 2, columns)

    for stage in range(3):
        for i in range(config.nr_resnet + (stage > 0)):
            resnet(f"down_layers.{stage}.u_stream.{i}", 3, 1)
            resnet(f"down_layers.{stage}.ul_stream.{i}", 2, 2)
        for i in range(config.nr_resnet):
            resnet(f"up_layers.{stage}.u_stream.{i}", 3, 0)
            resnet(f"up_layers.{stage}.ul_stream.{i}", 2, 1)
    for i in range(2):
        layer(f"downsize_u_stream.{i}.conv", filters, filters, 2, 3)
        layer(f"downsize_ul_stream.{i}.conv", filters, filters, 2, 2)
        layer(f"upsize_u_stream.{i}.deconv", filters, filters, 2, 3)
        layer(f"upsize_ul_stream.{i}.deconv", filters, filters, 2, 2)
    layer("u_init.conv", filters, config.channels + 1, 2, 3)
    layer("ul_init.0.conv", filters, config.channels + 1, 1, 3)
    layer("ul_init.1.conv", filters, config.channels + 1, 2, 1)
    layer("nin_out.lin_a", config.n_params, filters)
    return state


def in_order(state: dict[str, Tensor], config: PixelCNNppConfig) -> dict[str, NDArray[Any]]:
    """The port's effective weights under the original's names, in the order in which the original makes its layers."""
    made_so_far: dict[str, int] = {}
    result = {}

    def put(name: str) -> None:
        kind = {"conv": "conv2d", "deconv": "deconv2d", "lin_a": "dense"}[name.rpartition(".")[2]]
        made_so_far[kind] = made_so_far.get(kind, -1) + 1
        weight = torch._weight_norm(state[f"{name}.weight_v"].double(), state[f"{name}.weight_g"].double(), 0)
        array = weight.numpy().transpose(2, 3, 1, 0) if weight.dim() == 4 else weight.numpy().T
        axes = (0, 1, 3) if kind == "deconv2d" else tuple(range(array.ndim - 1))
        scope = f"{kind}_{made_so_far[kind]}"
        result[f"{scope}/V"], result[f"{scope}/b"] = array, state[f"{name}.bias"].double().numpy()
        result[f"{scope}/g"] = np.sqrt((array**2).sum(axis=axes))

    for name in ("u_init.conv", "ul_init.0.conv", "ul_init.1.conv"):
        put(name)
    for way, sized in (("up", "downsize"), ("down", "upsize")):
        for stage in range(3):
            for stream in ("u", "ul") if stage else ():
                put(f"{sized}_{stream}_stream.{stage - 1}.{'conv' if way == 'up' else 'deconv'}")
            for i in range(config.nr_resnet + (way == "down" and stage > 0)):
                for stream in ("u", "ul"):
                    block = f"{way}_layers.{stage}.{stream}_stream.{i}"
                    for part in ("conv_input.conv", "nin_skip.lin_a", "conv_out.conv"):
                        if f"{block}.{part}.bias" in state:
                            put(f"{block}.{part}")
    put("nin_out.lin_a")
    return result


@torch.no_grad()
@pytest.mark.parametrize("norm", ["plain", "parametrizations"])
@pytest.mark.parametrize("config", [SMALL, replace(SMALL, nr_resnet=0, channels=1), replace(SMALL, nr_resnet=2)])
def test_the_ports_weights(config: PixelCNNppConfig, norm: str, write: Write) -> None:
    state = {f"module.{name}": tensor for name, tensor in port(config, norm).items()}
    loaded = load_checkpoint(write(state), options=SHAPE)
    assert loaded.family == "pixelcnn++" and loaded.config == config
    assert any("PyTorch port" in finding for finding in loaded.findings)
    pixels = torch.rand(2, config.channels, 4, 8, dtype=torch.float64) * 2 - 1
    expected = Original(config, in_order(port(config), config), None)(pixels.permute(0, 2, 3, 1).numpy())
    ours = loaded.module.double()(pixels).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5 * expected.std())


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"upsize_u_stream.1.deconv.bias": None}, r"without upsize_u_stream\.1\.deconv\.bias: not complete"),
        ({"class_embedding.weight": torch.ones(3)}, "class_embedding.weight.* in addition"),
        ({"u_init.conv.weight_g": torch.ones(3)}, "one norm along the first axis"),
        ({"u_init.conv.weight_v": torch.zeros(3, 4, 2, 3)}, "u_init.conv.weight_v has a row whose norm is 0"),
        ({"nin_out.lin_a.weight_v": torch.ones(20, 4)}, r"out\.V has shape \[20, 4, 1, 1\]"),
        ({"ul_init.0.conv.bias": torch.ones(4)}, r"ul_above\.b has shape \[4\]"),
        ({"u_init.conv.weight_v": torch.ones(3, 3, 2, 3)}, "describes no valid network: 2 colour"),
    ],
)
def test_port_files_that_do_not_fit(change: dict[str, Any], part: str, write: Write) -> None:
    state = {name: tensor for name, tensor in {**port(SMALL), **change}.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=part):
        load_checkpoint(write(state), options=SHAPE)


def test_the_usual_sizes_are_assumed_and_said(write: Write) -> None:
    for channels, shape in ((3, (32, 32)), (1, (28, 28))):
        loaded = load_checkpoint(write(port(replace(SMALL, channels=channels))))
        assert loaded.config.shape == shape and any("assumed" in finding for finding in loaded.findings)


# This project's own ---------------------------------------------------------------------------------------------------


def own(model: PixelCNNpp, **changed: object) -> dict[str, Any]:
    return {"model": model.state_dict(), "args": argparse.Namespace(**{**asdict(model.config), **changed})}


@pytest.mark.parametrize("config", [
    SMALL, LABEL, replace(LABEL, condition="vector"), replace(SMALL, resnet_nonlinearity="relu"),
    replace(SMALL, nr_resnet=0, channels=1), replace(SMALL, nr_resnet=3),
])  # fmt: skip
def test_own_files(config: PixelCNNppConfig, write: Write) -> None:
    model = made(config)
    loaded = load_checkpoint(write(own(model)))
    assert loaded.family == "pixelcnn++" and loaded.config == config and same(loaded.module, model)
    assert not any("assumed" in finding for finding in loaded.findings)
    bare = load_checkpoint(write(model.state_dict()), options=SHAPE)
    assert bare.config.nr_resnet == config.nr_resnet and same(bare.module, model)
    assert any("assumed ELU" in f for f in bare.findings) == (config.resnet_nonlinearity != "concat_elu")
    kind: Any = "vector" if config.condition else None
    other = load_checkpoint(write(own(model)), options=CheckpointOptions(shape=(8, 8), condition_kind=kind))
    assert other.config.shape == (8, 8) and other.config.condition == kind


@pytest.mark.parametrize("edit", ["missing", "added", "zero", "nan", "shape", "args"])
def test_own_files_that_do_not_fit(edit: str, write: Write) -> None:
    content = own(made(SMALL), **({"shape": (5, 5)} if edit == "args" else {}))
    state, name = dict(content["model"]), "up.1.u.V"
    dead = state[name].clone()
    dead[:, 0] = 0
    changed = {"added": {"up.1.u.more": torch.ones(1)}, "zero": {name: dead}, "nan": {name: dead * torch.nan},
               "shape": {name: dead[1:]}}  # fmt: skip
    state |= changed.get(edit, {})
    if edit == "missing":
        del state[name]
    part = {"added": "up.1.u.more", "zero": r"up\.1\.u\.V has an output whose norm is 0", "args": "multiples of 4"}
    with pytest.raises(CheckpointError, match=part.get(edit, name)):
        load_checkpoint(write({**content, "model": state}))
