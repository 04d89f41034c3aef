"""How a network lies in the TensorFlow checkpoints of the original PixelSNAIL and of PixelCNN++.

Both codes name layers in the order in which they are made, `model/conv2d_0`, `model/dense_0`, `model/deconv2d_0`,
`model/conditional_weights_0`, each with `V`, `g`, `b` or `hw`. Beside each variable stands its exponential moving
average, `…/V/ExponentialMovingAverage`, which their samplers use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelsnail_infer.checkpoints.tf_variables import Variables
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.models.snail import original_names

__all__ = ["HIDDEN", "filled", "named_errors", "network_variables", "sized"]

Network = TypeVar("Network", bound=nn.Module)
AVERAGE = "/ExponentialMovingAverage"
LAYER = re.compile(r"(?:(.*)/)?((conv2d|deconv2d|dense|conditional_weights)_(\d{1,6})/(?:V|g|b|hw))")
HIDDEN = "conditional_weights_0/hw"
MAX_SIZE = 1 << 16
SMALLEST_NORM = 1e-12  # under it the originals' dense layer divides by nearly 0


@contextmanager
def named_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts the path at the beginning of a CheckpointError's message, unless it stands there."""
    try:
        yield
    except CheckpointError as error:
        text, named = str(error), one_line(os.fspath(path))
        raise CheckpointError(text if text.startswith(named) else f"{named}: {text}") from None


def network_variables(bundle: Variables, ema: bool, findings: list[str]) -> dict[str, str]:
    """For each layer's parameter, such as "dense_3/g", the variable to take it from. Appends to `findings`.

    `ema` takes the moving averages, and without it the bare variables. Raises CheckpointError.
    """
    scopes: dict[str, dict[str, str]] = {}
    for name in bundle:
        if match := LAYER.fullmatch(name):
            scopes.setdefault(match.group(1) or "", {})[match.group(2)] = name
    if not scopes:
        seen = ", ".join(one_line(name, 60) for name in list(bundle)[:4])
        raise CheckpointError(
            f"none of its {len(bundle)} variables ({seen}…) is named as in the original PixelSNAIL or in PixelCNN++, "
            "model/dense_0/V"
        )
    if len(scopes) > 1:
        shown = ", ".join(one_line(repr(scope), 60) for scope in list(scopes)[:4])
        raise CheckpointError(f"holds {len(scopes)} networks, under {shown}; one is expected, under 'model'")
    found = scopes.popitem()[1]
    missing = [name for name in found.values() if name + AVERAGE not in bundle]
    used = set(found.values()) | {name + AVERAGE for name in found.values()}
    others = [name for name in bundle if name not in used]
    if others:
        findings.append(f"ignored {len(others)} other variables, as the optimizer's, {one_line(others[0])} first")
    if not ema:
        findings.append("took the bare variables, not their moving averages (--no-ema)")
        return found
    if missing:
        raise CheckpointError(
            f"{len(missing)} of its {len(found)} variables have no moving average, {one_line(missing[0] + AVERAGE)} "
            "first; --no-ema takes the bare variables, from which the original does not sample"
        )
    findings.append("took the moving averages, as the original's sampler does")
    return {name: variable + AVERAGE for name, variable in found.items()}


def sized(shapes: Mapping[str, tuple[int, ...]], name: str, axis: int) -> int:
    """One size of a variable that must be there. Raises CheckpointError."""
    shape = shapes.get(name)
    if shape is None:
        raise CheckpointError(f"no variable {name}: not complete")
    if len(shape) < (axis + 1 if axis >= 0 else -axis):
        raise CheckpointError(f"variable {name} has shape {list(shape)}: too few dimensions")
    if not 1 <= shape[axis] <= MAX_SIZE:
        raise CheckpointError(f"variable {name} has shape {list(shape)}; sizes of 1 to {MAX_SIZE} are expected")
    return shape[axis]


def filled(module: Network, bundle: Variables, variables: Mapping[str, str], what: str) -> Network:
    """The module, which may be on the meta device, with the variables as its parameters; they must fit exactly.

    In eval mode and without gradients. `what` names the network in messages. Raises CheckpointError.
    """
    names = original_names(module)
    expected = {names[path]: tuple(tensor.shape) for path, tensor in module.named_parameters()}
    for name, shape in expected.items():
        if name not in variables:
            raise CheckpointError(f"no variable {name}, which {what} of these sizes has: not complete")
        wanted, found = _theirs(name, shape), bundle.shape(variables[name])
        if found != wanted:
            raise CheckpointError(f"variable {name} has shape {list(found)}; {what} of these sizes has {list(wanted)}")
    surplus = [name for name in variables if name not in expected]
    if surplus:
        raise CheckpointError(f"variable {one_line(surplus[0])} in addition, which {what} of these sizes does not have")
    module.load_state_dict({path: _ours(name, bundle[variables[name]]) for path, name in names.items()}, assign=True)
    return module.eval().requires_grad_(False)


def _theirs(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the original gives to a parameter of this shape of ours."""
    if not name.endswith("/V"):
        return shape
    first, second, *kernel = shape
    return (second, first) if name.startswith("dense") else (*kernel, second, first)


def _ours(name: str, values: NDArray[Any]) -> Tensor:
    """A variable in our layout, float32 and contiguous. Raises CheckpointError for NaN, or a `V` without direction."""
    if values.dtype.kind != "f":
        raise CheckpointError(f"variable {name} has the data type {values.dtype}; floating-point numbers are expected")
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise CheckpointError(f"variable {name} holds NaN or infinite numbers; take an earlier checkpoint")
    if name.endswith("/V"):
        with np.errstate(over="ignore"):
            outputs = values.ndim - (2 if name.startswith("deconv2d") else 1)
            squares = np.square(values).sum(axis=tuple(axis for axis in range(values.ndim) if axis != outputs))
        if not (np.isfinite(squares) & (squares >= SMALLEST_NORM)).all():
            raise CheckpointError(f"variable {name} has an output whose norm is 0 or infinite: the model gives NaN")
        values = values.reshape(1, 1, *values.shape) if values.ndim == 2 else values
        values = values.transpose(3, 2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(values))
