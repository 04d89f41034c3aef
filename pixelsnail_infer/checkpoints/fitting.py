"""The weights of a file put into a module that somebody else wrote; they must fit it exactly."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from pixelsnail_infer.checkpoints.normalise import PREFIXES, WEIGHT_NORM, unwrap
from pixelsnail_infer.checkpoints.reading import one_line, read_file
from pixelsnail_infer.errors import CheckpointError

__all__ = ["load_into"]

COUNTER = "num_batches_tracked"  # batch norm's own; older files lack it
SHOWN = 4


def load_into(module: nn.Module, path: str | os.PathLike[str], findings: list[str]) -> str:
    """Load a checkpoint's weights into `module`, strictly, and return the sha256 of the file in hexadecimal.

    Nothing that the file says is run. The weights may be the file's content or lie under `model`, `state_dict`,
    `model_state_dict` or another single entry; the prefixes `module.`, `model.` and `_orig_mod.`, and the spelling of
    weight norm, may be others than the module's. Appends to `findings` what was changed.

    Raises:
        CheckpointError: the file cannot be read, or a name or shape does not fit; up to four of each are named.
    """
    content, sha256 = read_file(path)
    try:
        state = _named(_weights(content, findings), module.state_dict(), findings)
        _fit(module, state, findings)
    except CheckpointError as error:
        raise CheckpointError(f"{one_line(os.fspath(path))}: {error}") from None
    return sha256


def _weights(content: object, findings: list[str]) -> dict[str, Tensor]:
    """The names and tensors, from under whatever they lie."""
    state = unwrap(content, findings)
    found = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    if found and len(found) == len(state):
        return found
    inside = [key for key, value in state.items()
              if isinstance(value, Mapping) and value and all(isinstance(v, Tensor) for v in value.values())]
    if len(inside) == 1:
        findings.append(f"took the weights under '{one_line(inside[0], 40)}'")
        return _weights(state[inside[0]], findings)
    entries = one_line(", ".join(map(str, state)), 120)
    raise CheckpointError(f"no weights were found: it holds {entries or 'nothing'}. Expected names and tensors, bare "
                          "or under model, state_dict or model_state_dict")


def _named(state: dict[str, Tensor], expected: Mapping[str, Tensor], findings: list[str]) -> dict[str, Tensor]:
    """The tensors under the module's names, as far as prefixes and the spelling of weight norm go."""
    while prefix := next((p for p in PREFIXES if state and all(name.startswith(p) for name in state)), None):
        if any(name.startswith(prefix) for name in expected):
            break
        state = {name[len(prefix):]: tensor for name, tensor in state.items()}
        findings.append(f"took the prefix '{prefix}' off every name")
    renamed = {name: _respelled(name, expected) for name in state}
    if changed := sum(name != other for name, other in renamed.items()):
        findings.append(f"renamed {changed} tensors to the model's spelling of weight norm")
    result = {renamed[name]: tensor for name, tensor in state.items()}
    stale = [name for name in result if name not in expected and {name + "_g", name + "_v"} <= expected.keys()]
    if stale:
        findings.append(f"ignored {len(stale)} stale .weight tensors beside weight_g and weight_v, {stale[0]} first")
    return {name: tensor for name, tensor in result.items() if name not in set(stale)}


def _respelled(name: str, expected: Mapping[str, Tensor]) -> str:
    if name in expected:
        return name
    for one, other in [*WEIGHT_NORM.items(), *((b, a) for a, b in WEIGHT_NORM.items())]:
        if name.endswith("." + one) and (spelled := name[: -len(one)] + other) in expected:
            return spelled
    return name


def _fit(module: nn.Module, state: dict[str, Tensor], findings: list[str]) -> None:
    expected = module.state_dict()
    missing = [name for name in expected if name not in state and name.rpartition(".")[2] != COUNTER]
    surplus = [name for name in state if name not in expected]
    shapes = [f"{one_line(name, 60)} {list(tensor.shape)} instead of {list(expected[name].shape)}"
              for name, tensor in state.items() if name in expected and tensor.shape != expected[name].shape]
    wrong = [f"{what} {_some(names)}" for what, names in (
        ("missing are", missing), ("not in the model are", surplus), ("of another shape are", shapes)) if names]
    if wrong:
        raise CheckpointError(f"the weights do not fit {type(module).__name__}: {'; '.join(wrong)}. Check the class "
                              "and the arguments that it is made with")
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"tensor {one_line(name)} holds NaN or infinite numbers; training has diverged, so "
                                  "take an earlier checkpoint")
    kept = {name: tensor for name, tensor in expected.items() if name not in state}  # batch norm's counters
    module.load_state_dict({**kept, **state})
    findings.append(f"{type(module).__name__}: every one of its {len(state)} tensors is in the file, and no other")


def _some(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(one_line(name, 80) for name in every[:SHOWN]) + more
