"""One model in every wrapping that people's files have: the same configuration and the same logits each time."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pixelsnail_infer.checkpoints import load_checkpoint
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.models import Prior, PriorConfig

Build = Callable[[PriorConfig], Prior]
Write = Callable[[object], Path]
Logits = Callable[[Prior], Tensor]
State = dict[str, Tensor]


def prefixed(prefix: str) -> Callable[[State], object]:
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def parametrized(state: State) -> State:
    """The spelling of torch.nn.utils.parametrizations.weight_norm."""
    spelling = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    result = {}
    for name, tensor in state.items():
        for ours, theirs in spelling.items():
            name = name.removesuffix(ours) + theirs if name.endswith("." + ours) else name
        result[name] = tensor
    return result


def with_stale(state: State) -> State:
    """A `.weight` beside every weight_v, left by some earlier forward, and wrong by now."""
    stale = {name[:-2]: torch.full_like(tensor, 9.0) for name, tensor in state.items() if name.endswith("weight_v")}
    return {**stale, **state}


WRAPPINGS: dict[str, Callable[[State], object]] = {
    "bare": lambda state: state,
    "model": lambda state: {"model": state, "args": argparse.Namespace(dropout=0.1, lr=3e-4)},
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"state": {}}},
    "nested": lambda state: {"model": {"state_dict": state}},
    "module": prefixed("module."),
    "model_prefix": prefixed("model."),
    "both_prefixes": lambda state: {"model": prefixed("module.model.")(state)},
    "compiled": prefixed("_orig_mod."),
    "parametrized": parametrized,
    "parametrized_module": lambda state: {"model": prefixed("module.")(parametrized(state))},
    "stale_weight": with_stale,
}


@pytest.mark.parametrize("wrapping", list(WRAPPINGS))
def test_every_wrapping_gives_the_same_model(
    wrapping: str, config: PriorConfig, build: Build, write: Write, logits: Logits
) -> None:
    model = build(config)
    loaded = load_checkpoint(write(WRAPPINGS[wrapping](model.state_dict())))
    assert loaded.config == config
    torch.testing.assert_close(logits(loaded.module), logits(model), rtol=0, atol=0)


def test_a_round_trip_keeps_every_tensor(config: PriorConfig, build: Build, write: Write) -> None:
    model = build(config)
    path = write({"model": model.state_dict(), "args": argparse.Namespace()})
    loaded = load_checkpoint(path)
    assert loaded.family == "vq-prior"
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not loaded.module.training
    state = loaded.module.state_dict()
    assert state.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert state[name].dtype == torch.float32
        assert torch.equal(state[name], tensor)


def test_findings_say_what_was_changed(tiny: PriorConfig, build: Build, write: Write) -> None:
    state = with_stale(build(tiny).state_dict())
    findings = "\n".join(load_checkpoint(write(prefixed("module.")(state))).findings)
    for part in (
        "prefix 'module.'",
        "stale .weight",
        "assumed 8 attention heads",
        "ELU not in place",
        "4x6 codes of 7",
    ):
        assert part in findings
    findings = "\n".join(load_checkpoint(write(parametrized(build(tiny).state_dict()))).findings)
    assert "renamed" in findings


def test_a_stale_weight_would_matter(tiny: PriorConfig, build: Build, logits: Logits) -> None:
    """The comparison above can fail: the stale numbers in the place of weight_v give another model."""
    model = build(tiny)
    right = logits(model)
    with torch.no_grad():
        model.horizontal.conv.conv.weight_v.fill_(9.0)
    assert not torch.allclose(logits(model), right)


def test_half_precision_becomes_float32(tiny: PriorConfig, build: Build, write: Write) -> None:
    loaded = load_checkpoint(write(build(tiny).half().state_dict()))
    assert all(tensor.dtype == torch.float32 for tensor in loaded.module.state_dict().values())
    assert any("converted torch.float16" in line for line in loaded.findings)


def test_both_spellings_of_one_weight_are_refused(tiny: PriorConfig, build: Build, write: Write) -> None:
    state = build(tiny).state_dict()
    with pytest.raises(CheckpointError, match="both spellings"):
        load_checkpoint(write({**state, **parametrized(state)}))


def test_a_second_state_dict_is_mentioned(tiny: PriorConfig, build: Build, write: Write) -> None:
    state = build(tiny).state_dict()
    loaded = load_checkpoint(write({"model": state, "state_dict": {}}))
    assert any("took 'model'" in line for line in loaded.findings)
