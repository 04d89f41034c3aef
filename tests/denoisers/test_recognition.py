"""Checkpoints: what is read from names and shapes, what is assumed, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pixelsnail_infer.checkpoints import load_checkpoint
from pixelsnail_infer.checkpoints.options import CheckpointOptions
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.models.unet_layers import Attention

from .networks import network

GIVEN = {"n_head": 2, "diffusion_steps": 40, "noise_schedule": "cosine"}


def load(tmp_path: Path, state: dict[str, Any], **options: Any) -> Any:
    path = tmp_path / "model.pt"
    torch.save(state, path)
    return load_checkpoint(path, options=CheckpointOptions(**options))


@pytest.mark.parametrize("changes", [
    {}, {"classes": None}, {"low_res": None}, {"scale_shift": False}, {"attention": ()}, {"attention": (0, 1)},
    {"mult": (1, 1, 2), "n_res_block": 2}, {"channels": 1}])
def test_the_configuration_is_read_from_the_tensors(tmp_path: Path, changes: dict[str, Any]) -> None:
    module = network(**changes)
    sizes = {"shape": (8, 8), **({"low_res": (4, 4)} if module.config.low_res else {})}
    loaded = load(tmp_path, module.state_dict(), **GIVEN, **sizes)
    assert loaded.family == "denoiser" and loaded.config == module.config
    x, time = torch.randn(1, module.config.channels, 8, 8), torch.tensor([7.0])
    label = None if module.config.classes is None else torch.tensor([2])
    small = None if module.config.low_res is None else torch.randn(1, module.config.channels, 4, 4)
    assert torch.equal(loaded.module(x, time, label, small), module(x, time, label, small))


def test_what_the_file_does_not_tell_is_assumed_and_said(tmp_path: Path) -> None:
    state = network(mult=(1, 2, 2, 2), shape=(32, 32), learn_sigma=False, low_res=(8, 8),
                    diffusion=load_spec()).state_dict()
    loaded = load(tmp_path, state, n_head=2)
    assert loaded.config.shape == (32, 32) and loaded.config.low_res == (8, 8)
    assert loaded.config.diffusion == load_spec()
    assumed = " ".join(line for line in loaded.findings if "assumed" in line)
    for flag in ("--shape", "--low-res", "--diffusion-steps", "--noise-schedule", "--predict", "--rescale-timesteps",
                 "--sigma"):
        assert flag in assumed


def load_spec() -> Any:
    from pixelsnail_infer.denoiser import DiffusionSpec

    return DiffusionSpec(1000, "linear", "eps", "fixed-large", True)


def test_heads_on_the_way_up_may_be_others(tmp_path: Path) -> None:
    """The same tensors give another function then, in the blocks on the way up only."""
    module, usual = network(n_head_upsample=4), network()
    state = usual.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    loaded = load(tmp_path, state, shape=(8, 8), low_res=(4, 4), n_head_upsample=4, **GIVEN)
    assert loaded.config == module.config
    heads = {name: layer.heads for name, layer in loaded.module.named_modules() if isinstance(layer, Attention)}
    assert heads == {name: 4 if name.startswith("output") else 2 for name in heads} and len(heads) == 4
    given = torch.randn(1, 3, 8, 8), torch.tensor([7.0]), torch.tensor([2]), torch.randn(1, 3, 4, 4)
    assert torch.equal(loaded.module(*given), module(*given))
    assert not torch.allclose(loaded.module(*given), usual(*given), atol=1e-4)


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    state = {name: tensor.half() for name, tensor in network().state_dict().items()}
    loaded = load(tmp_path, state, shape=(8, 8), **GIVEN)
    assert all(tensor.dtype == torch.float32 for tensor in loaded.module.state_dict().values())
    assert any("float16" in line for line in loaded.findings)


@pytest.mark.parametrize("change, message", [
    (lambda state: state.pop("output_blocks.0.0.in_layers.0.bias"), "without output_blocks.0.0.in_layers.0.bias"),
    (lambda state: state.update({"extra.weight": torch.zeros(1)}), "extra.weight"),
    (lambda state: state.update({"time_embed.2.bias": torch.zeros(3)}), "time_embed.2.bias"),
    (lambda state: state.update({"out.2.bias": torch.full((6,), torch.nan)}), "NaN"),
    (lambda state: state.update({"input_blocks.0.0.weight": torch.zeros(30, 6, 3, 3)}), "no multiple"),
])
def test_files_that_do_not_fit_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    state = network().state_dict()
    change(state)
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path, state, shape=(8, 8), **GIVEN)


@pytest.mark.parametrize("options, message", [
    ({"shape": (9, 8)}, "multiples of 2"), ({"shape": (8, 8), "n_head": 3}, "do not divide"), ({}, "give --shape"),
    ({"shape": (8, 8), "n_head_upsample": 3}, "3 attention heads do not divide the width 64 .--n-head-upsample"),
    ({"shape": (8, 8), "sigma": "small"}, "--sigma"), ({"shape": (8, 8), "diffusion_steps": 0}, "steps"),
    ({"shape": (8, 8), "diffusion_steps": 12, "noise_schedule": "linear"}, "more noise"),
])
def test_options_that_do_not_fit_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load(tmp_path, network().state_dict(), **{**GIVEN, **options})


def test_low_res_is_refused_without_a_small_picture(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="takes no small picture"):
        load(tmp_path, network(low_res=None).state_dict(), shape=(8, 8), low_res=(4, 4), **GIVEN)


def test_a_latent_denoiser_beside_a_first_stage_is_none_of_ours(tmp_path: Path) -> None:
    state = {f"model.diffusion_model.{name}": tensor for name, tensor in network().state_dict().items()}
    with pytest.raises(CheckpointError, match="not known"):
        load(tmp_path, state, shape=(8, 8), **GIVEN)
