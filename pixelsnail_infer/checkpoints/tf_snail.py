"""The original PixelSNAIL's TensorFlow checkpoints: variables found by the original's names, in its own order.

neocxi/pixelsnail-public names its layers in the order in which they are made, `model/conv2d_0`, `model/dense_0`,
`model/conditional_weights_0`, each with `V`, `g`, `b` or `hw`. Beside each variable stands its exponential moving
average, `…/V/ExponentialMovingAverage`, which its sampler uses. The file does not say which network it is, nor the size
of the image (which the coordinates need), nor whether the nonlinearity is ELU or ReLU: those are options.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelsnail_infer.checkpoints.loaded import LoadedCheckpoint
from pixelsnail_infer.checkpoints.tf_bundle import Bundle, bundle_prefix, read_bundle
from pixelsnail_infer.errors import CheckpointError, ModelError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.models.snail import Snail, original_names, position_channels
from pixelsnail_infer.models.snail_config import NAMED, SnailConfig

__all__ = ["load_tf_snail"]

AVERAGE = "/ExponentialMovingAverage"
LAYER = re.compile(r"(?:(.*)/)?((conv2d|dense|conditional_weights)_(\d{1,6})/(?:V|g|b|hw))")
HIDDEN = "conditional_weights_0/hw"
MAX_SIZE = 1 << 16
MAX_RESNETS = 1000
SMALLEST_NORM = 1e-12  # under it the original's dense layer divides by nearly 0


def load_tf_snail(
    path: str | os.PathLike[str],
    arch: str | None,
    *,
    ema: bool = True,
    shape: tuple[int, int] | None = None,
    nonlinearity: Literal["elu", "relu"] = "elu",
    condition_kind: Literal["label", "vector"] | None = None,
) -> LoadedCheckpoint:
    """Read a checkpoint that the original's training script saved.

    `path` is the prefix (`params_cifar.ckpt`), its `.index` or one of its `.data-…` files. `arch` names the network, as
    in `NAMED`. `ema` takes the moving averages, as the original's sampler does; without it the bare variables. `shape`
    is the image's (H, W), by default that of the named network; `nonlinearity` is what the network was trained with if
    its shapes do not show concat_elu. If the network is conditioned, `condition_kind` says whether its vector is the
    one-hot of a class, given by number ("label"), or any numbers ("vector", or None).

    Raises:
        CheckpointError: a file is missing or damaged, holds another network than `arch`, NaN, or no moving averages
            although they are asked for.
    """
    prefix = bundle_prefix(path) or Path(path)
    bundle = read_bundle(prefix)
    try:
        if arch not in NAMED:
            asked = "" if arch is None else f"; {one_line(arch, 60)} is not one of them"
            raise CheckpointError(f"a TensorFlow checkpoint needs --arch, one of {', '.join(NAMED)}{asked}")
        findings: list[str] = []
        variables = _variables(bundle, ema, findings)
        shapes = {name: bundle.shape(variable) for name, variable in variables.items()}
        config = _config(shapes, NAMED[arch], arch, nonlinearity, findings)
        config = _conditioned(config, shapes, condition_kind, findings)
        if shape is not None:
            config = _checked(config, shape=shape)
        how = "assumed" if shape is None else "as asked"
        findings.append(f"{config.shape[0]}x{config.shape[1]} pixels: {how}, for no variable shows it (--shape)")
        module = _build(config, arch, bundle, variables)
    except CheckpointError as error:
        text = str(error)
        named = one_line(prefix)
        raise CheckpointError(text if text.startswith(named) else f"{named}: {text}") from None
    return LoadedCheckpoint("pixelsnail", config, module, bundle.sha256(), findings)


def _variables(bundle: Bundle, ema: bool, findings: list[str]) -> dict[str, str]:
    """For each layer's parameter, such as "dense_3/g", the variable to take it from."""
    scopes: dict[str, dict[str, str]] = {}
    for name in bundle:
        if match := LAYER.fullmatch(name):
            scopes.setdefault(match.group(1) or "", {})[match.group(2)] = name
    if not scopes:
        seen = ", ".join(one_line(name, 60) for name in list(bundle)[:4])
        raise CheckpointError(
            f"none of its {len(bundle)} variables ({seen}…) is named as in the original PixelSNAIL, model/dense_0/V"
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


def _config(
    shapes: Mapping[str, tuple[int, ...]],
    named: SnailConfig,
    arch: str,
    nonlinearity: Literal["elu", "relu"],
    findings: list[str],
) -> SnailConfig:
    """The named network with the sizes that the tensors show."""
    shift = named.convolution == "shift"
    convolutions, dense = (
        len([n for n in shapes if re.fullmatch(rf"{kind}_\d+/V", n)]) for kind in ("conv2d", "dense")
    )
    first = "dense_0" if shift else "conv2d_0"
    # Attention has 9 dense layers in a block, and the result is one more; the residual blocks have 2 layers each.
    others = 9 * named.attn_rep + 1
    spread = dense - others - 1 if shift else convolutions - 2
    resnets, rest = divmod(spread, 2 * named.attn_rep)
    if rest or not 0 <= resnets <= MAX_RESNETS or (convolutions if shift else dense - others):
        raise CheckpointError(
            f"its {convolutions} conv2d and {dense} dense layers are not those of {arch}"
            f"{_other(convolutions, dense, arch)}"
        )
    filters = _size(shapes, f"{first}/g", 0)
    channels = _size(shapes, f"{first}/V", -2) - 1
    if channels != 3:
        raise CheckpointError(f"its first layer takes {channels + 1} channels; the original has 4, RGB and ones")
    outputs = _size(shapes, f"dense_{dense - 1}/g", 0)
    if outputs < 10 or outputs % 10:
        raise CheckpointError(
            f"its last layer, dense_{dense - 1}, gives {outputs} numbers; a mixture has 10 a logistic"
        )
    gated = "dense_1" if shift else "conv2d_2" if resnets else "dense_0"
    inside, outside = _size(shapes, f"{gated}/V", -2), _size(shapes, f"{gated}/g", 0)
    if inside == 2 * outside:
        chosen: Literal["concat_elu", "elu", "relu"] = "concat_elu"
        findings.append("concat_elu, by the layers' widths")
    else:
        chosen = nonlinearity
        findings.append(f"assumed {chosen}, as the training script has it: ELU and ReLU look alike in the file")
    sizes: dict[str, Any] = {"nr_resnet": resnets, "nr_filters": filters, "nr_mix": outputs // 10}
    findings.append(
        f"{arch}: {named.attn_rep} blocks of {resnets} residual blocks, {filters} filters, {outputs // 10} logistics"
    )
    alike = [name for name, other in NAMED.items() if name != arch and _unpooled(other) == _unpooled(named)]
    if alike:
        findings.append(f"{', '.join(alike)} has the same variables: which one it is, --arch alone says")
    return _checked(named, nonlinearity=chosen, **sizes)


def _conditioned(
    config: SnailConfig,
    shapes: Mapping[str, tuple[int, ...]],
    kind: Literal["label", "vector"] | None,
    findings: list[str],
) -> SnailConfig:
    """The configuration with the condition that every gated block projects, if the file has one."""
    if HIDDEN not in shapes:
        return config
    width = _size(shapes, HIDDEN, 0)
    if kind == "label":
        findings.append(f"conditioned on a label of {width}, as a one-hot vector")
        return _checked(config, condition="label", n_class=width)
    findings.append(f"conditioned on a vector h of {width} numbers")
    return _checked(config, condition="vector", condition_size=width)


def _unpooled(config: SnailConfig) -> SnailConfig:
    return replace(config, att_downsample=1)


def _other(convolutions: int, dense: int, arch: str) -> str:
    """A hint at the network that has so many layers."""
    fitting = [
        name
        for name, config in NAMED.items()
        if name != arch and config.convolution == "down_right" and convolutions and dense == 9 * config.attn_rep + 1
    ]
    return f", but as many dense ones as {' or '.join(fitting)} has (--arch)" if fitting else ""


def _checked(config: SnailConfig, **sizes: Any) -> SnailConfig:
    try:
        return replace(config, **sizes)
    except ModelError as error:
        raise CheckpointError(str(error)) from None


def _size(shapes: Mapping[str, tuple[int, ...]], name: str, axis: int) -> int:
    shape = shapes.get(name)
    if shape is None:
        raise CheckpointError(f"no variable {name}: not complete")
    if len(shape) < (axis + 1 if axis >= 0 else -axis):
        raise CheckpointError(f"variable {name} has shape {list(shape)}: too few dimensions")
    if not 1 <= shape[axis] <= MAX_SIZE:
        raise CheckpointError(f"variable {name} has shape {list(shape)}; sizes of 1 to {MAX_SIZE} are expected")
    return shape[axis]


def _build(config: SnailConfig, arch: str, bundle: Bundle, variables: Mapping[str, str]) -> Snail:
    """The network with the bundle's tensors as its parameters; they must fit exactly."""
    with torch.device("meta"):
        module = Snail(config)
    names = original_names(module)
    expected = {names[path]: tuple(tensor.shape) for path, tensor in module.named_parameters()}
    for name, shape in expected.items():
        if name not in variables:
            raise CheckpointError(f"no variable {name}, which {arch} of these sizes has: not complete")
        wanted, found = _theirs(name, shape), bundle.shape(variables[name])
        if found != wanted:
            raise CheckpointError(f"variable {name} has shape {list(found)}; {arch} of these sizes has {list(wanted)}")
    surplus = [name for name in variables if name not in expected]
    if surplus:
        raise CheckpointError(f"variable {one_line(surplus[0])} in addition, which {arch} of these sizes does not have")
    state = {path: _ours(name, bundle[variables[name]]) for path, name in names.items()}
    module.load_state_dict(state, assign=True)
    module.background = position_channels(*config.shape, config.channels)
    return module.eval().requires_grad_(False)


def _theirs(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that the original gives to a parameter of this shape of ours."""
    if not name.endswith("/V"):
        return shape
    outputs, inputs, *kernel = shape
    return (inputs, outputs) if name.startswith("dense") else (*kernel, inputs, outputs)


def _ours(name: str, values: NDArray[Any]) -> Tensor:
    """A variable in our layout, float32 and contiguous. Raises CheckpointError for NaN, or a `V` without direction."""
    if values.dtype.kind != "f":
        raise CheckpointError(f"variable {name} has the data type {values.dtype}; floating-point numbers are expected")
    values = values.astype(np.float32)
    if not np.isfinite(values).all():
        raise CheckpointError(f"variable {name} holds NaN or infinite numbers; take an earlier checkpoint")
    if name.endswith("/V"):
        with np.errstate(over="ignore"):
            squares = np.square(values).sum(axis=tuple(range(values.ndim - 1)))
        if not (np.isfinite(squares) & (squares >= SMALLEST_NORM)).all():
            raise CheckpointError(f"variable {name} has an output whose norm is 0 or infinite: the model gives NaN")
        values = values.reshape(1, 1, *values.shape) if values.ndim == 2 else values
        values = values.transpose(3, 2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(values))
