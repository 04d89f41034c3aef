"""The weights of a file put into a module that somebody else wrote; they must fit it exactly."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from pixelsnail_infer.checkpoints.beside import is_training_only
from pixelsnail_infer.checkpoints.candidates import find_candidates
from pixelsnail_infer.checkpoints.normalise import WEIGHT_NORM, stored_in_full
from pixelsnail_infer.checkpoints.reading import read_file
from pixelsnail_infer.checkpoints.taking import Taken, largest, take
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.messages import one_line

__all__ = ["load_into"]

COUNTER = "num_batches_tracked"  # batch norm's own; older files lack it
SHOWN = 4
MARKS = 16  # how many of the expected names a place is looked for by


def load_into(
    module: nn.Module,
    path: str | os.PathLike[str],
    findings: list[str],
    *,
    key: str | None = None,
    ema: bool = False,
    beside: list[str] | None = None,
) -> str:
    """Load a checkpoint's weights into `module`, strictly, and return the sha256 of the file in hexadecimal.

    Nothing that the file says is run. The weights may lie anywhere in the file, and their names may share any prefix;
    the spelling of weight norm may be other than the module's. `key` and `ema` are those of `CheckpointOptions`.
    Appends to `findings` what was changed, and to `beside` what was left aside.

    Raises:
        CheckpointError: the file cannot be read, several sets of weights fit, or a name or shape does not fit; up to
            four of each are named.
    """
    content, sha256 = read_file(path)
    try:
        expected = module.state_dict()
        asked = list(dict(module.named_parameters())) or list(expected)
        taken = _taken(content, type(module).__name__, expected, asked, key, ema, findings)
        tensors = _nearest(content, expected, asked, key) if taken is None else taken.tensors
        state = _named(tensors, expected, findings)
        _fit(module, state, findings)
        if taken is not None and beside is not None:
            beside += [*taken.beside, *_converted(state, expected)]
    except CheckpointError as error:
        raise CheckpointError(f"{one_line(os.fspath(path))}: {error}") from None
    return sha256


def _taken(content: object, name: str, expected: Mapping[str, Tensor], asked: list[str], key: str | None, ema: bool,
           findings: list[str]) -> Taken | None:
    """The tensors of the place that has all that are asked for, in their shapes; None where no place has."""

    def recognised(group: Mapping[str, Tensor]) -> str | None:
        return name if len(group) >= len(asked) and _fitting(group, expected, asked) == len(asked) else None

    def needless(other: str, tensor: Tensor) -> bool:
        return _respelled(other, expected) not in expected and is_training_only(other, tensor)

    return take(content, _marks(asked), recognised, key=key, ema=ema, findings=findings, is_needless=needless)


def _nearest(content: object, expected: Mapping[str, Tensor], asked: list[str], key: str | None) -> dict[str, Tensor]:
    """Tensors of which more than half fit, else those of the largest dictionary: for a message that says what lacks."""
    def half(group: Mapping[str, Tensor]) -> str | None:
        most = 2 * len(group) > len(asked)  # asked first, for a file may have very many prefixes
        return "half" if most and 2 * _fitting(group, expected, asked) > len(asked) else None

    found = [one.tensors for one in find_candidates(content, _marks(asked), half)]
    return max(found, key=lambda group: _fitting(group, expected, asked)) if found else largest(content, key)


def _marks(asked: list[str]) -> re.Pattern[str]:
    """A few of the names, spread over all, by which a place is looked for."""
    some = asked[:: max(1, len(asked) // MARKS)]
    spellings = {spelling for name in some for spelling in (name, *_spellings(name))}
    return re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(map(re.escape, sorted(spellings)))})$")


def _fitting(group: Mapping[str, Tensor], expected: Mapping[str, Tensor], asked: list[str]) -> int:
    """How many of the tensors that are asked for are there, in their shapes."""
    shapes = {_respelled(name, expected): tensor.shape for name, tensor in group.items()}
    return sum(shapes.get(name) == expected[name].shape for name in asked)


def _named(state: dict[str, Tensor], expected: Mapping[str, Tensor], findings: list[str]) -> dict[str, Tensor]:
    """The tensors under the module's names, as far as the spelling of weight norm goes."""
    renamed = {name: _respelled(name, expected) for name in state}
    if changed := sum(name != other for name, other in renamed.items()):
        findings.append(f"renamed {changed} tensors to the model's spelling of weight norm")
    result = {renamed[name]: tensor for name, tensor in state.items()}
    stale = [name for name in result if name not in expected and {name + "_g", name + "_v"} <= expected.keys()]
    if stale:
        findings.append(f"ignored {len(stale)} stale .weight tensors beside weight_g and weight_v, {stale[0]} first")
    return {name: tensor for name, tensor in result.items() if name not in set(stale)}


def _spellings(name: str) -> list[str]:
    """A tensor's name in the other spelling of weight norm."""
    both = [*WEIGHT_NORM.items(), *((b, a) for a, b in WEIGHT_NORM.items())]
    return [name[: -len(one)] + other for one, other in both if name.endswith("." + one)]


def _respelled(name: str, expected: Mapping[str, Tensor]) -> str:
    return name if name in expected else next((other for other in _spellings(name) if other in expected), name)


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
        kinds = [one.is_floating_point() for one in (tensor, expected[name])]
        if not stored_in_full(tensor) or kinds[0] != kinds[1]:
            kind = f"{tensor.layout}, {tensor.dtype}, {tensor.device.type}"
            raise CheckpointError(f"tensor {one_line(name)} is not a dense tensor of {expected[name].dtype}, stored in "
                                  f"full ({kind})")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"tensor {one_line(name)} holds NaN or infinite numbers; training has diverged, so "
                                  "take an earlier checkpoint")
    kept = {name: tensor for name, tensor in expected.items() if name not in state}  # batch norm's counters
    module.load_state_dict({**kept, **state})
    findings.append(f"{type(module).__name__}: every one of its {len(state)} tensors is in the file, and no other")


def _converted(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    changes = {(str(t.dtype), str(expected[name].dtype)) for name, t in state.items() if t.is_floating_point()}
    return [f"converted {here} tensors to {there}" for here, there in sorted(changes) if here != there]


def _some(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(one_line(name, 80) for name in every[:SHOWN]) + more
