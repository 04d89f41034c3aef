"""What the tensors tell, what the options add, and which files are refused with one clear line."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pixelsnail_infer.checkpoints import CheckpointOptions, load_checkpoint
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.models import Prior, PriorConfig

Build = Callable[[PriorConfig], Prior]
Write = Callable[[object], Path]
Logits = Callable[[Prior], Tensor]
DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits.pt"


def refusal(path: Path, **options: object) -> str:
    """The message with which a file is refused; it is one line and names the file."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, options=CheckpointOptions(**options))
    message = str(caught.value)
    assert message.isprintable() and path.name in message
    return message


def test_heads_come_from_options_then_args_then_eight(tiny: PriorConfig, build: Build, write: Write) -> None:
    state = build(tiny).state_dict()
    assert load_checkpoint(write(state)).config.n_head == 8
    assert load_checkpoint(write({"model": state, "args": argparse.Namespace(n_head=4)})).config.n_head == 4
    assert load_checkpoint(write({"model": state, "args": {"n_head": 4}})).config.n_head == 4
    both = load_checkpoint(
        write({"model": state, "args": argparse.Namespace(n_head=4)}), options=CheckpointOptions(n_head=2)
    )
    assert both.config.n_head == 2
    assert any("args name 4 heads; 2 were asked for" in line for line in both.findings)
    assert "3 heads do not divide the 16 channels" in refusal(write(state), n_head=3)
    assert "n_head is 0" in refusal(write(state), n_head=0)


def test_heads_without_attention_are_mentioned(bottom: PriorConfig, build: Build, write: Write) -> None:
    loaded = load_checkpoint(write(build(bottom).state_dict()), options=CheckpointOptions(n_head=3))
    assert any("no attention" in line for line in loaded.findings)


def test_inplace_elu_is_an_option(tiny: PriorConfig, build: Build, write: Write, logits: Logits) -> None:
    model = build(replace(tiny, elu_inplace=True))
    path = write(model.state_dict())
    loaded = load_checkpoint(path, options=CheckpointOptions(elu_inplace=True))
    assert torch.equal(logits(loaded.module), logits(model))
    assert not torch.allclose(logits(load_checkpoint(path).module), logits(model))


def test_upsampling_is_an_option(bottom: PriorConfig, build: Build, write: Write) -> None:
    path = write(build(bottom).state_dict())
    assert load_checkpoint(path).config.condition_shapes == {"condition": (2, 3)}
    assert load_checkpoint(path, options=CheckpointOptions(upsample=1)).config.condition_shapes["condition"] == (4, 6)
    assert "--upsample" in refusal(path, upsample=4)


def test_the_condition_can_be_left_out(
    bottom: PriorConfig, label: PriorConfig, build: Build, write: Write, logits: Logits
) -> None:
    for config in (bottom, label):
        model = build(config)
        loaded = load_checkpoint(write(model.state_dict()), options=CheckpointOptions(no_condition=True))
        assert loaded.config.condition is None
        assert any("of the condition: as asked" in line for line in loaded.findings)
        logits(loaded.module)


def test_condition_weights_without_their_network_are_ignored(
    bottom: PriorConfig, build: Build, write: Write, logits: Logits
) -> None:
    state = {name: t for name, t in build(bottom).state_dict().items() if not name.startswith("cond_resnet")}
    loaded = load_checkpoint(write(state))
    assert loaded.config.condition is None
    assert any("not complete in the file" in line for line in loaded.findings)
    logits(loaded.module)


def test_the_audio_familys_unused_network_is_ignored(
    bottom: PriorConfig, label: PriorConfig, build: Build, write: Write, logits: Logits
) -> None:
    model = build(label)
    unused = {name: t for name, t in build(bottom).state_dict().items() if name.startswith("cond_resnet")}
    loaded = load_checkpoint(write({**model.state_dict(), **unused}))
    assert loaded.config == label
    assert any("cond_resnet is stored but unused" in line for line in loaded.findings)
    assert torch.equal(logits(loaded.module), logits(model))


def test_arguments_that_disagree_are_mentioned(tiny: PriorConfig, build: Build, write: Write) -> None:
    path = write({"model": build(tiny).state_dict(), "args": argparse.Namespace(channel=256, n_res_block=1)})
    lines = [line for line in load_checkpoint(path).findings if "args say" in line]
    assert lines == ["the file's args say channel=256, but its tensors show 32, which is used"]


def test_a_canvas_that_the_model_was_not_trained_for(tiny: PriorConfig, build: Build, write: Write) -> None:
    state = build(tiny).state_dict()
    assert load_checkpoint(write(state), options=CheckpointOptions(shape=(4, 6))).config.shape == (4, 6)
    assert "trained for 4x6 codes only, not for 8x8" in refusal(write(state), shape=(8, 8))
    del state["background"]
    assert "give its H and W" in refusal(write(state))
    loaded = load_checkpoint(write(state), options=CheckpointOptions(shape=(4, 6)))
    assert any("made the coordinates anew" in line for line in loaded.findings)


def test_other_coordinates_are_used_and_mentioned(
    tiny: PriorConfig, build: Build, write: Write, logits: Logits
) -> None:
    model = build(tiny)
    model.background.mul_(2)
    loaded = load_checkpoint(write(model.state_dict()))
    assert any("background differs" in line for line in loaded.findings)
    assert torch.equal(logits(loaded.module), logits(model))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(value: float, tiny: PriorConfig, build: Build, write: Write) -> None:
    state = build(tiny).state_dict()
    state["blocks.1.causal_attention.key.weight_v"][3, 2] = value
    assert "tensor blocks.1.causal_attention.key.weight_v holds NaN" in refusal(write(state))


def test_a_norm_of_zero_would_be_nan(tiny: PriorConfig, build: Build, write: Write) -> None:
    state = build(tiny).state_dict()
    name = "blocks.0.resblocks.0.conv1.conv.conv.weight_v"
    state[name][2, :, :-1] = 0
    state[name][2, :, -1, :2] = 0  # what is left lies under the mask
    assert f"{name} has a row whose norm is 0" in refusal(write(state))


def test_even_kernels_fail_as_in_the_original(tiny: PriorConfig, build: Build, write: Write) -> None:
    state = build(tiny).state_dict()
    for name in [name for name in state if ".resblocks." in name and name.endswith("conv.conv.weight_v")]:
        state[name] = state[name][:, :, 1:, 1:]
    assert "kernel of even width 4" in refusal(write(state))


def test_an_unknown_model(write: Write) -> None:
    message = refusal(write(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(4, 5)).state_dict()))
    assert "not known: 4 tensors (0.weight [8, 3, 3, 3]" in message
    assert "rosinality/vq-vae-2-pytorch" in message and "liuxubo717/sound_generation" in message


def test_a_missing_an_additional_and_a_misshapen_tensor(tiny: PriorConfig, build: Build, write: Write) -> None:
    state = build(tiny).state_dict()
    name = "blocks.1.out_resblock.aux_conv.conv.bias"
    assert f"without {name}" in refusal(write({n: t for n, t in state.items() if n != name}))
    assert "class_embedding.weight [10, 4] in addition" in refusal(
        write({**state, "class_embedding.weight": torch.zeros(10, 4)})
    )
    assert f"{name} has shape [5]; [32] is expected" in refusal(write({**state, name: torch.zeros(5)}))
    gap = {n.replace("blocks.1.", "blocks.7."): t for n, t in state.items()}
    assert "without blocks.1." in refusal(write(gap))


def test_the_committed_digits_model() -> None:
    loaded = load_checkpoint(DIGITS)
    assert DIGITS.stat().st_size < 2_000_000
    assert (loaded.config.shape, loaded.config.levels, loaded.config.n_label) == ((8, 8), 17, 10)
    assert loaded.config.condition == "label" and loaded.config.attention
    assert any(line.startswith("4 attention heads, as the file's args") for line in loaded.findings)
