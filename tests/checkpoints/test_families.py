"""The families besides the VQ priors: recognised from names, read into the right network, refused with the reason."""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pixelsnail_infer.checkpoints import CheckpointOptions, load_checkpoint
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.models import Snail, SnailConfig
from pixelsnail_infer.models.kamen import Kamen, KamenConfig
from pixelsnail_infer.models.pixelcnn import PixelCNN, PixelCNNConfig
from pixelsnail_infer.models.snail_config import NAMED

Write = Callable[[object], Path]
SMALL: dict[str, Any] = {"shape": (4, 6), "attn_rep": 2, "nr_resnet": 1, "nr_filters": 8, "nr_mix": 2}
SNAILS = {
    "plain": ("h12_noup_smallkey", replace(NAMED["h12_noup_smallkey"], **SMALL)),
    "pooled": ("h12_pool2_smallkey", replace(NAMED["h12_pool2_smallkey"], **SMALL, nonlinearity="relu")),
    "shift": ("h6_shift", replace(NAMED["h6_shift"], **SMALL, condition="vector", condition_size=3)),
    "label": ("h8_noup_smallkey", replace(NAMED["h8_noup_smallkey"], **SMALL, condition="label", n_class=3)),
    "embedding": (
        "h8_noup_smallkey",
        replace(
            NAMED["h8_noup_smallkey"],
            **SMALL,
            channels=1,
            nonlinearity="concat_elu",
            condition="label",
            n_class=3,
            condition_size=5,
            embedding=True,
        ),
    ),
}
KAMEN = KamenConfig(shape=(4, 5), n_channels=4, n_res_layers=1, attn_n_layers=2, attn_dv=6, n_logistic_mix=2)
APPROXIMATE = CheckpointOptions(approximate="first-position")
PIXELCNN = PixelCNNConfig(shape=(5, 6), n_bins=4, n_features=6, n_layers=2, n_class=3)
SHAPE = CheckpointOptions(shape=(5, 6))


def conditions(model: nn.Module, batch: int) -> dict[str, Tensor]:
    config: Any = model.config
    return {
        name: torch.tensor([1, 0])[:batch] if name == "label" else torch.rand(batch, *shape)
        for name, shape in config.condition_shapes.items()
    }


@torch.no_grad()
def assert_same(ours: nn.Module, theirs: nn.Module) -> None:
    config: Any = theirs.config
    shape = (2, config.channels, *config.shape) if hasattr(config, "channels") else (2, *config.shape)
    pixels = torch.rand(shape) if len(shape) == 4 else torch.randint(4, shape)
    given = conditions(theirs, 2)
    torch.testing.assert_close(ours(pixels, **given), theirs.eval()(pixels, **given), rtol=0, atol=0)


def snail_file(name: str, **changed: object) -> tuple[Snail, dict[str, Any]]:
    arch, config = SNAILS[name]
    model = Snail(config)
    args = {**asdict(config), "arch": arch, **changed}
    stored = argparse.Namespace(**{k: v for k, v in args.items() if v is not None})
    return model, {"model": model.state_dict(), "args": stored}


@pytest.mark.parametrize("name", list(SNAILS))
def test_snail(name: str, write: Write) -> None:
    model, content = snail_file(name)
    loaded = load_checkpoint(write(content))
    assert loaded.family == "pixelsnail"
    width = {"key_width": model.config.keys, "value_width": model.config.values, "condition_size": model.config.hidden}
    assert replace(loaded.config, **width) == replace(model.config, **width, dropout=loaded.config.dropout)
    assert_same(loaded.module, model)


def test_snail_sizes_come_from_the_tensors(write: Write) -> None:
    model, content = snail_file("plain", nr_filters=99)
    loaded = load_checkpoint(write(content))
    assert loaded.config.nr_filters == 8 and any("nr_filters=99" in finding for finding in loaded.findings)
    bare = {"model": content["model"], "args": argparse.Namespace(arch="h12_noup_smallkey")}
    assert_same(load_checkpoint(write(bare), options=CheckpointOptions(shape=(4, 6))).module, model)


@pytest.mark.parametrize(
    ("changed", "options", "message"),
    [
        ({"arch": None}, {}, "h12_noup_smallkey"),
        ({"arch": "h13"}, {}, "'h13'"),
        ({"shape": None}, {}, "--shape"),
        ({}, {"shape": (5, 5)}, "4x6"),
        ({"att_downsample": 3}, {}, "att_downsample"),
        ({"shape": "46"}, {}, "--shape"),
    ],
)
def test_snail_refused(changed: dict[str, Any], options: dict[str, Any], message: str, write: Write) -> None:
    _, content = snail_file("plain", **changed)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(write(content), options=CheckpointOptions(**options))


@pytest.mark.parametrize("edit", ["missing", "added", "shape", "zero", "nan"])
def test_snail_damaged(edit: str, write: Write) -> None:
    _, content = snail_file("plain")
    state = dict(content["model"])
    name = "blocks.1.content.V"
    if edit == "missing":
        del state[name]
    elif edit == "added":
        state["blocks.0.more.V"] = torch.zeros(1)
    else:
        state[name] = {
            "shape": state[name][:, :-1],
            "zero": torch.zeros_like(state[name]),
            "nan": torch.full_like(state[name], torch.nan),
        }[edit]
    with pytest.raises(CheckpointError, match="more.V" if edit == "added" else name):
        load_checkpoint(write({**content, "model": state}))


def kamen_state(config: KamenConfig) -> tuple[Kamen, dict[str, Tensor]]:
    model = Kamen(config)
    mask = torch.ones(1, 1, 20, 20, dtype=torch.uint8).tril(-1)
    return model, {**model.state_dict(), "attn_mask": mask}


def test_kamen_needs_the_approximation(write: Write) -> None:
    _, state = kamen_state(KAMEN)
    with pytest.raises(CheckpointError, match=r"not causal.*--approximate first-position"):
        load_checkpoint(write({"epoch": 3, "global_step": 9, "state_dict": state}))


@pytest.mark.parametrize("classes", [{}, {"n_cond_classes": 3, "condition": "label"}, {"channels": 1}])
def test_kamen(classes: dict[str, Any], write: Write) -> None:
    model, state = kamen_state(replace(KAMEN, **classes, approximate_first_position=True))
    loaded = load_checkpoint(write({"epoch": 3, "global_step": 9, "state_dict": state}), options=APPROXIMATE)
    assert loaded.family == "pixel-models" and loaded.config == model.config
    assert any(finding.startswith("APPROXIMATE") for finding in loaded.findings)
    assert_same(loaded.module, model)


def test_kamen_averages(write: Write, tmp_path: Path) -> None:
    model, state = kamen_state(replace(KAMEN, approximate_first_position=True))
    content = {"epoch": 3, "global_step": 9, "state_dict": state}
    averages = [torch.randn_like(parameter) for parameter in model.parameters()]
    entries = {i: {"step": 1, "ema": average} for i, average in enumerate(averages)}
    side = tmp_path / "optim_checkpoint.pt"
    torch.save({"state": entries, "param_groups": [{"lr": 1.0, "params": list(entries)}]}, side)
    options = replace(APPROXIMATE, ema=side)
    loaded = load_checkpoint(write(content), options=options)
    for ours, average in zip(loaded.module.parameters(), averages, strict=True):
        assert torch.equal(ours, average)
    for bad in ({"state": entries}, {"state": {}, "param_groups": [{"params": list(entries)}]}, [1]):
        torch.save(bad, side)
        with pytest.raises(CheckpointError, match=side.name):
            load_checkpoint(write(content), options=options)


@pytest.mark.parametrize("kind", ["label", "vector"])
def test_pixelcnn(kind: Any, write: Write) -> None:
    model = PixelCNN(replace(PIXELCNN, condition=kind))
    loaded = load_checkpoint(write(model.state_dict()), options=replace(SHAPE, condition_kind=kind))
    assert loaded.family == "pixelcnn" and loaded.config == replace(model.config, dropout=loaded.config.dropout)
    assert_same(loaded.module, model)


def test_pixelcnn_refused(write: Write) -> None:
    state = PixelCNN(PIXELCNN).state_dict()
    with pytest.raises(CheckpointError, match="--shape"):
        load_checkpoint(write(state))
    with pytest.raises(CheckpointError, match=r"layers\.1\.conv\.mask is not the causal mask"):
        load_checkpoint(write({**state, "layers.1.conv.mask": torch.ones(1, 1, 3, 3)}), options=SHAPE)
    with pytest.raises(CheckpointError, match="odd number of layers"):
        load_checkpoint(write({**state, "layers.5.y_embed.bias": torch.ones(3)}), options=SHAPE)


def test_whole_modules_only_when_asked(tmp_path: Path) -> None:
    """The public code pickles its own classes, from a module named `model` that is not there when the file is read."""
    model = PixelCNN(PIXELCNN)
    tree = nn.Module.__new__(type("PixelCNN", (nn.Module,), {"__module__": "model", "__qualname__": "PixelCNN"}))
    nn.Module.__init__(tree)
    tree.layers = model.layers
    tree.input_batchnorm = model.input_batchnorm
    path = tmp_path / "best_checkpoint"
    fake = types.ModuleType("model")
    vars(fake)["PixelCNN"] = type(tree)
    sys.modules["model"] = fake
    try:
        torch.save(tree, path)
    finally:
        del sys.modules["model"]
    with pytest.raises(CheckpointError, match="refused"):
        load_checkpoint(path, options=SHAPE)
    loaded = load_checkpoint(path, options=replace(SHAPE, unsafe_pickle=True))
    assert any("could have run anything" in finding for finding in loaded.findings)
    assert_same(loaded.module, model)
    torch.save(model.state_dict(), path)
    with pytest.raises(CheckpointError, match="needs no unsafe pickle"):
        load_checkpoint(path, options=replace(SHAPE, unsafe_pickle=True))


def test_configs_are_what_the_defaults_say() -> None:
    assert SnailConfig() == NAMED["h12_noup_smallkey"]
