"""The original's TensorFlow checkpoints: its own code's results are ours, and what does not fit is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pixelsnail_infer.checkpoints import CheckpointOptions, load_checkpoint
from pixelsnail_infer.checkpoints.tf_bundle import read_bundle
from pixelsnail_infer.checkpoints.tf_snail import load_tf_snail
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.models.mixture import log_likelihood
from pixelsnail_infer.models.snail import Snail, original_names
from pixelsnail_infer.models.snail_config import NAMED, SnailConfig

from .bundles import DATA, write_bundle
from .write_tf_bundle import known_value

COMMITTED = {"h12_noup_smallkey": ("h12.ckpt", (4, 6)), "h6_shift": ("h6.ckpt", (4, 4))}
SHADOW = "/ExponentialMovingAverage"
Tensors = dict[str, tuple[int, NDArray[Any]]]


def small(arch: str, **sizes: Any) -> SnailConfig:
    return replace(NAMED[arch], shape=(4, 4), nr_resnet=1, nr_filters=4, nr_mix=1, **sizes)


def theirs(name: str, values: torch.Tensor) -> NDArray[Any]:
    """A parameter of ours in the original's layout."""
    array = values.detach().numpy()
    if name.endswith("/V"):
        array = array.transpose(2, 3, 1, 0)
        array = array[0, 0] if name.startswith("dense") else array
    return np.ascontiguousarray(array)


def variables(model: Snail) -> Tensors:
    """What the original would save of the model, averages that are the parameters and variables that are zeros."""
    parameters = dict(model.named_parameters())
    result: Tensors = {}
    for path, name in original_names(model).items():
        values = theirs(name, parameters[path])
        result[f"model/{name}"] = (1, np.zeros_like(values))
        result[f"model/{name}{SHADOW}"] = (1, values)
    return result


@pytest.fixture
def save(tmp_path: Path) -> Callable[[Tensors], Path]:
    def write(tensors: Tensors) -> Path:
        write_bundle(tmp_path / "params.ckpt", tensors)
        return tmp_path / "params.ckpt"

    return write


@pytest.fixture
def h6() -> Tensors:
    torch.manual_seed(0)
    return variables(Snail(small("h6_shift")))


@pytest.mark.parametrize("ema", [True, False])
@pytest.mark.parametrize("arch", list(COMMITTED))
def test_the_originals_own_code_gives_the_same_parameters_and_loss(arch: str, ema: bool) -> None:
    name, shape = COMMITTED[arch]
    known = np.load(DATA / f"{name}.npz")
    model = load_tf_snail(DATA / name, arch, ema=ema, shape=shape).module.double()
    pixels = torch.from_numpy(known["x"]).double().permute(0, 3, 1, 2)
    given = {"h": torch.from_numpy(known["h"]).double()} if "h" in known else {}
    with torch.no_grad():
        ours = model(pixels, **given)
    expected = known["ema" if ema else "raw"]
    np.testing.assert_allclose(ours.permute(0, 2, 3, 1).numpy(), expected, atol=5e-6 * expected.std(), rtol=0)
    if not ema:
        np.testing.assert_allclose(-log_likelihood(ours, pixels).sum().item(), known["loss"], rtol=1e-5)


@pytest.mark.parametrize("ema", [True, False])
@pytest.mark.parametrize("arch", list(COMMITTED))
def test_every_parameter_comes_from_its_variable(arch: str, ema: bool) -> None:
    name, shape = COMMITTED[arch]
    model = load_tf_snail(DATA / name, arch, ema=ema, shape=shape).module
    parameters = dict(model.named_parameters())
    names = original_names(model)
    assert names.keys() == parameters.keys()
    for path, variable in names.items():
        values = theirs(variable, parameters[path])
        stored = f"model/{variable}{SHADOW if ema else ''}"
        np.testing.assert_array_equal(values, known_value(stored, values.shape))
    assert {f"model/{n}{s}" for n in names.values() for s in ("", SHADOW)} == {
        n for n in read_bundle(DATA / name) if n.startswith("model/")
    }


@pytest.mark.parametrize("arch", list(NAMED))
@pytest.mark.parametrize("nonlinearity", ["elu", "concat_elu", "relu"])
@pytest.mark.parametrize(
    "condition", [{}, {"condition": "vector", "condition_size": 3}, {"condition": "label", "n_class": 2}]
)
def test_sizes_and_parameters_of_every_network_come_back(
    arch: str, nonlinearity: Any, condition: dict[str, Any], save: Callable[[Tensors], Path]
) -> None:
    torch.manual_seed(1)
    config = replace(small(arch, **condition), nonlinearity=nonlinearity, nr_resnet=2 if arch == "h6_shift" else 1)
    model = Snail(config)
    loaded = load_tf_snail(
        save(variables(model)),
        arch,
        shape=config.shape,
        nonlinearity="relu" if nonlinearity == "relu" else "elu",
        condition_kind=config.condition,
    )
    assert loaded.config == config and loaded.family == "pixelsnail" and len(loaded.sha256) == 64
    state = loaded.module.state_dict()
    assert all(torch.equal(state[name], values) for name, values in model.state_dict().items())
    assert torch.equal(loaded.module.background, model.background)
    assert not loaded.module.training and not any(p.requires_grad for p in loaded.module.parameters())


def test_findings_say_what_was_taken_assumed_and_ignored() -> None:
    said = "; ".join(load_tf_snail(DATA / "h6.ckpt", "h6_shift").findings)
    for part in (
        "6 blocks of 1",
        "4 filters, 2 logistics",
        "concat_elu",
        "vector h of 3",
        "32x32",
        "averages",
        "5 other",
    ):
        assert part in said
    said = "; ".join(load_tf_snail(DATA / "h12.ckpt", "h12_pool2_smallkey", ema=False).findings)
    for part in ("assumed elu", "h12_noup_smallkey has the same variables", "bare variables", "--no-ema"):
        assert part in said


def refused(prefix: Path, arch: str | None, part: str, **options: Any) -> None:
    with pytest.raises(CheckpointError, match=part) as error:
        load_tf_snail(prefix, arch, **options)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(prefix))


def test_the_network_must_be_named_and_fit(tmp_path: Path) -> None:
    refused(DATA / "h12.ckpt", None, "needs --arch, one of h12_noup_smallkey, h8")
    refused(DATA / "h12.ckpt", "h13", "h13 is not one of them")
    refused(DATA / "h12.ckpt", "h8_noup_smallkey", "26 conv2d and 109 dense .* as h12_noup_smallkey or h12_pool2")
    refused(DATA / "h12.ckpt", "h6_shift", "26 conv2d")
    refused(DATA / "h6.ckpt", "h12_noup_smallkey", "0 conv2d and 68 dense")
    refused(DATA / "h12.ckpt", "h12_pool2_smallkey", "multiple of the 2×2", shape=(5, 5))
    refused(tmp_path / "none.ckpt", "h6_shift", r"\.index does not exist")


def test_averages_that_are_missing_are_not_replaced(save: Callable[[Tensors], Path], h6: Tensors) -> None:
    del h6["model/dense_3/b" + SHADOW]
    refused(save(h6), "h6_shift", "1 of its 204 variables have no moving average, model/dense_3/b/Exp.*--no-ema")
    bare = {name: values for name, values in h6.items() if not name.endswith(SHADOW)}
    refused(save(bare), "h6_shift", "204 of its 204 .* --no-ema")


@pytest.mark.parametrize(
    ("name", "values", "part"),
    [
        ("dense_0/V", np.full((4, 4), np.nan, "<f4"), "dense_0/V holds NaN"),
        ("dense_9/b", np.full(4, np.inf, "<f4"), "dense_9/b holds NaN or infinite"),
        ("dense_0/V", np.zeros((4, 4), "<f4"), "norm is 0"),
        ("dense_0/V", np.full((4, 4), 1e30, "<f4"), "norm is 0 or infinite"),
        ("dense_0/V", np.ones((5, 4), "<f4"), "takes 5 channels"),
        ("dense_0/g", np.ones(0, "<f4"), "sizes of 1 to"),
        ("dense_0/g", np.ones((), "<f4"), "too few dimensions"),
        ("dense_0/g", np.ones(6, "<f4"), "features in fours"),
        ("dense_0/g", np.ones(8, "<f4"), "has shape"),
        ("dense_5/g", np.ones(3, "<f4"), r"dense_5/g has shape \[3\]"),
        ("dense_67/g", np.ones(9, "<f4"), "dense_67, gives 9 numbers"),
        ("conditional_weights_7/hw", np.ones(3, "<f4"), "conditional_weights_7/hw in addition"),
        ("conditional_weights_0/hw", np.ones((3, 8), "<f4"), "no variable conditional_weights_1/hw"),
        ("conditional_weights_0/hw", np.ones((3, 0), "<f4"), "has shape"),
    ],
)
def test_variables_that_do_not_fit(
    name: str, values: NDArray[Any], part: str, save: Callable[[Tensors], Path], h6: Tensors
) -> None:
    h6 |= {f"model/{name}": (1, values), f"model/{name}{SHADOW}": (1, values)}
    refused(save(h6), "h6_shift", part)


def test_other_checkpoints_of_tensorflow(save: Callable[[Tensors], Path], h6: Tensors) -> None:
    numbers = np.zeros(2, "<f4")
    refused(save({"conv1/kernel": (1, numbers)}), "h6_shift", r"none of its 1 variables \(conv1/kernel")
    refused(save(h6 | {"other/dense_0/V": (1, numbers)}), "h6_shift", "holds 2 networks")
    whole = {name: (3, values.astype("<i4")) for name, (_, values) in h6.items()}
    refused(save(whole), "h6_shift", "data type int32")
    double = save({name: (2, values.astype("<f8")) for name, (_, values) in h6.items()})
    assert next(load_tf_snail(double, "h6_shift").module.parameters()).dtype == torch.float32


def test_load_checkpoint_takes_any_of_its_names_and_the_options(tmp_path: Path) -> None:
    for path in DATA.glob("h6.ckpt.*"):
        shutil.copy(path, tmp_path)
    options = CheckpointOptions(arch="h6_shift", shape=(4, 4), no_ema=True, condition_kind="label")
    bare = known_value("model/dense_0/b", (4,))
    for suffix in ("", ".index", ".data-00000-of-00001"):
        loaded = load_checkpoint(f"{tmp_path / 'h6.ckpt'}{suffix}", options=options)
        assert loaded.config.shape == (4, 4) and loaded.config.n_class == 3
        np.testing.assert_array_equal(loaded.module.first.nin.b.numpy(), bare)
    with pytest.raises(CheckpointError, match="needs --arch"):
        load_checkpoint(tmp_path / "h6.ckpt")
