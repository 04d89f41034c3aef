"""VQ-VAEs and first stages: recognised in every wrapping, explained, and refused with names when they do not fit."""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pixelsnail_infer.checkpoints import CheckpointOptions, load_checkpoint
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.models.first_stage import FirstStage
from pixelsnail_infer.models.first_stage_config import FirstStageConfig
from pixelsnail_infer.models.vqvae import VqVae
from pixelsnail_infer.models.vqvae_config import VqVaeConfig

Write = Callable[[object], Path]
State = dict[str, Tensor]

TWO = VqVaeConfig(shape=(32, 48), levels=(11, 13), channel=6, n_res_block=2, n_res_channel=3, embed_dim=4)
ONE = replace(TWO, levels=(9,), factor=8, n_res_block=1)
AUDIO = replace(TWO, levels=(9,), in_channel=1, kernels=(4, 2, 6, 8), suffix="_b", relu_inplace=True, values="log-mel")
STAGE = FirstStageConfig(
    shape=(8, 16), levels=10, ch=32, widths=(32, 64, 32), n_res_block=1, attention=(1,), z_channels=5, embed_dim=4
)
CONFIGS: dict[str, VqVaeConfig | FirstStageConfig] = {
    "two": TWO,
    "two_by_2": replace(TWO, factor=2, levels=(5, 5), in_channel=1),
    "one": ONE,
    "one_b": replace(ONE, suffix="_b"),
    "no_blocks": replace(ONE, n_res_block=0, n_res_channel=1),
    "audio": AUDIO,
    "stage": STAGE,
    "stage_plain": replace(STAGE, attention=(), mid_attention=False, channels=1, widths=(32, 32)),
    "stage_conv": replace(STAGE, shortcut="conv", resample_conv=False, n_res_block=2),
    "stage_single": replace(STAGE, widths=(64,), attention=(0,)),
}


@pytest.fixture(params=list(CONFIGS))
def config(request: pytest.FixtureRequest) -> VqVaeConfig | FirstStageConfig:
    return CONFIGS[request.param]


def build(config: VqVaeConfig | FirstStageConfig) -> VqVae | FirstStage:
    torch.manual_seed(5)
    return (VqVae(config) if isinstance(config, VqVaeConfig) else FirstStage(config)).eval()


def public_state(config: VqVaeConfig | FirstStageConfig) -> State:
    """As the public code saves it: with the code books' averages and the losses' networks."""
    state = dict(build(config).state_dict())
    if isinstance(config, FirstStageConfig):
        return {**state, "loss.perceptual_loss.lin0.model.1.weight": torch.full((2,), float("nan"))}
    for name in [name for name in state if name.endswith(".embed")]:
        state[name + "_avg"] = state[name].clone()
        state[name.removesuffix("embed") + "cluster_size"] = torch.ones(state[name].shape[1])
    return state


def options(config: VqVaeConfig | FirstStageConfig) -> CheckpointOptions:
    return CheckpointOptions(shape=config.shape)


def decoded(model: nn.Module) -> Tensor:
    assert isinstance(model, (VqVae, FirstStage))
    generator = torch.Generator().manual_seed(1)
    codes = [torch.randint(spec.levels, (2, *spec.shape), generator=generator) for spec in model.config.codes]
    with torch.no_grad():
        return model.decode(*codes)


WRAPPINGS: dict[str, Callable[[State], object]] = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "optimizer_states": []},
    "model": lambda state: {"model": state, "args": argparse.Namespace(size=7, lr=3e-4)},
    "module": lambda state: {"module." + name: tensor for name, tensor in state.items()},
    "half": lambda state: {name: tensor.half() for name, tensor in state.items()},
}


@pytest.mark.parametrize(
    "name, wrapping", [(name, "bare") for name in CONFIGS] + [(n, w) for n in ("two", "stage") for w in WRAPPINGS][1:]
)
def test_every_wrapping_gives_the_same_model(name: str, wrapping: str, write: Write) -> None:
    config = CONFIGS[name]
    loaded = load_checkpoint(write(WRAPPINGS[wrapping](public_state(config))), options=options(config))
    assert loaded.config == config and loaded.module.config == config
    assert loaded.family == ("vq-vae" if isinstance(config, VqVaeConfig) else "vq-first-stage")
    assert not loaded.module.training
    model = build(config)
    if wrapping == "half":
        model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    torch.testing.assert_close(decoded(loaded.module), decoded(model), rtol=0, atol=0)


@pytest.mark.parametrize(
    "name, given, shape, said",
    [
        ("two", None, (256, 256), "assumed images of 256x256: the file does not tell (--shape)"),
        ("stage", None, (256, 256), "assumed images of 256x256: the file does not tell (--shape)"),
        ("audio", None, (80, 344), "assumed images of 80x344: the file does not tell (--shape)"),
        ("two", 64, (64, 64), "images of 64x64, as the file's args say (--shape)"),
    ],
)
def test_the_image_size_is_assumed_and_said(
    name: str, given: int | None, shape: tuple[int, int], said: str, write: Write
) -> None:
    content = {"model": public_state(CONFIGS[name]), "args": argparse.Namespace(**({"size": given} if given else {}))}
    loaded = load_checkpoint(write(content))
    assert loaded.config.shape == shape and said in loaded.findings


def test_what_was_seen_is_said(write: Write) -> None:
    loaded = load_checkpoint(write(public_state(TWO)), options=options(TWO))
    assert loaded.findings[0] == (
        "VQ-VAE of 2 levels: images of 32x48, 3 channels; codes top 4x6 of 11, bottom 8x12 of 13; width 6, "
        "2 residual blocks"
    )
    assert any("--relu-inplace yes" in line for line in loaded.findings)
    assert any("moving averages" in line for line in loaded.findings)
    audio = load_checkpoint(write(public_state(AUDIO)), options=options(AUDIO))
    assert "log-mel spectrograms" in audio.findings[0] and any("--relu-inplace no" in line for line in audio.findings)
    stage = load_checkpoint(write(public_state(STAGE)), options=options(STAGE))
    assert stage.findings[0].startswith("left out 1 tensors that only training needs, loss.perceptual")
    assert "factor 4: images of 8x16, 3 channels; codes 2x4 of 10, vectors of 4; widths 32, 64, 32" in stage.findings[1]


@pytest.mark.parametrize("name, usual", [("two", False), ("audio", True)])
def test_the_in_place_activation_can_be_chosen(name: str, usual: bool, write: Write) -> None:
    path = write(public_state(CONFIGS[name]))
    for choice in (None, True, False):
        wanted = replace(options(CONFIGS[name]), relu_inplace=choice)
        assert load_checkpoint(path, options=wanted).config.relu_inplace == (usual if choice is None else choice)


def test_a_first_stage_is_taken_out_of_a_diffusion_model(write: Write) -> None:
    state: dict[str, Tensor] = {f"first_stage_model.{name}": tensor for name, tensor in public_state(STAGE).items()}
    state |= {"model.diffusion_model.out.weight": torch.ones(2), "model_ema.num_updates": torch.tensor(3)}
    state |= {"betas": torch.ones(4)}
    loaded = load_checkpoint(write({"state_dict": state}), options=options(STAGE))
    assert loaded.config == STAGE
    assert loaded.findings[0].startswith("took the first stage ('first_stage_model.…'")
    torch.testing.assert_close(decoded(loaded.module), decoded(build(STAGE)), rtol=0, atol=0)


def test_the_averages_of_training_are_left_out_and_said(write: Write) -> None:
    state = public_state(STAGE) | {"model_ema.decay": torch.ones(()), "model_ema.num_updates": torch.tensor(3)}
    state |= {"quantize.embedding.cluster_size": torch.ones(10), "quantize.embedding.embed_avg": torch.ones(10, 4)}
    loaded = load_checkpoint(write(state), options=options(STAGE))
    assert any("(model_ema) are among them: the bare weights are taken" in line for line in loaded.findings)
    assert loaded.config == STAGE


def test_a_trainer_that_names_the_class_of_a_callback_is_read_without_importing_it(tmp_path: Path) -> None:
    name = "pytorch_lightning.callbacks.model_checkpoint"
    callback = type("ModelCheckpoint", (), {"__module__": name})
    for part in (name.rpartition(".callbacks")[0], name.rpartition(".")[0], name):
        assert part not in sys.modules
        sys.modules[part] = types.ModuleType(part)
    sys.modules[name].ModelCheckpoint = callback  # type: ignore[attr-defined]
    try:
        content = {"callbacks": {callback: {"best": 1.0}}, "state_dict": public_state(STAGE)}
        torch.save(content, tmp_path / "model.ckpt")
    finally:
        for part in [part for part in sys.modules if part.split(".")[0] == "pytorch_lightning"]:
            del sys.modules[part]
    assert load_checkpoint(tmp_path / "model.ckpt", options=options(STAGE)).config == STAGE
    assert "pytorch_lightning" not in sys.modules


def test_every_missing_tensor_is_named(config: VqVaeConfig | FirstStageConfig, write: Write) -> None:
    state = build(config).state_dict()
    tried = [name for k, name in enumerate(state) if k % 9 == 0 or "embed" in name or name.endswith("conv_in.weight")]
    for name in tried:
        some = {other: tensor for other, tensor in state.items() if other != name}
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(write(some), options=options(config))
        assert any(other in str(caught.value) for other in state), f"without {name}: {caught.value}"


def kl_regularised(state: State) -> State:
    """The sibling whose encoder gives means and variances."""
    kept = {name: tensor for name, tensor in state.items() if not name.startswith("quantize.")}
    return kept | {"quant_conv.weight": torch.ones(8, 10, 1, 1), "quant_conv.bias": torch.ones(8)}


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("two", lambda s: s | {"dec.blocks.9.weight": torch.ones(2)}, r"dec.blocks.9.weight \[2\] in addition"),
        ("two", lambda s: s | {"dec.blocks.0.bias": torch.ones(7)}, r"dec.blocks.0.bias has shape \[7\]; \[6\] is"),
        ("two", lambda s: s | {"dec.blocks.0.bias": torch.full((6,), torch.nan)}, "dec.blocks.0.bias holds NaN"),
        ("two", lambda s: s | {"quantize_t.embed": torch.full((4, 11), torch.inf)}, "quantize_t.embed holds NaN"),
        ("two", lambda s: s | {"quantize_b.embed": torch.ones(4)}, r"quantize_b.embed is of shape \[4\]"),
        ("two", lambda s: s | {"enc_b.blocks.1.weight": torch.ones(6)}, "a VQ-VAE|no valid VQ-VAE"),
        ("stage", lambda s: s | {"encoder.conv_in.weight": torch.ones(32, 4, 3, 3)}, "images have 4 channels"),
        ("stage", lambda s: s | {"decoder.up.7.block.0.norm1.weight": torch.ones(3)}, "decoder.up.7.block.0.norm1.wei"),
        ("stage", lambda s: s | {"quant_conv.bias": torch.full((4,), torch.nan)}, "quant_conv.bias holds NaN"),
        ("stage", lambda s: s | {"quantize.used": torch.arange(3.0)}, r"codes are renumbered \(quantize.used\)"),
        ("stage", lambda s: s | {"quantize.used": torch.arange(3)}, "quantize.used"),
        ("stage", lambda s: s | {"quantize.proj.weight": torch.ones(3)}, "Gumbel quantiser"),
        ("stage", lambda s: s | {"encoder.mid.attn_1.to_qkv.weight": torch.ones(3)}, "linear attention"),
        ("stage", kl_regularised, "without a code book"),
        ("stage", lambda s: {n: t for n, t in s.items() if n[:9] != "quantize."}, "embedding.weight is missing"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    name: str, change: Callable[[State], State], message: str, write: Write
) -> None:
    state = change(dict(build(CONFIGS[name]).state_dict()))
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(write(state), options=options(CONFIGS[name]))


@pytest.mark.parametrize("name, shape, factor", [("two", (36, 48), 8), ("audio", (80, 342), 4), ("stage", (8, 15), 4)])
def test_a_size_that_the_strides_do_not_divide_is_refused(
    name: str, shape: tuple[int, int], factor: int, write: Write
) -> None:
    message = f"{shape[0]}x{shape[1]} pixels, but this model needs multiples of {factor}; choose another size"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(write(public_state(CONFIGS[name])), options=CheckpointOptions(shape=shape))


def test_an_unknown_file_names_the_decoders_too(write: Write) -> None:
    with pytest.raises(CheckpointError, match="as decoders the VQ-VAEs of .* and the VQ first stages"):
        load_checkpoint(write({"encoder.layer.weight": torch.ones(3), "decoder.layer.weight": torch.ones(3)}))
