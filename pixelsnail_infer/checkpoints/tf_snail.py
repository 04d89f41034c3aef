"""The original PixelSNAIL's TensorFlow checkpoints, as neocxi/pixelsnail-public saves them.

The file does not say which network it is, nor the size of the image (which the coordinates need), nor whether the
nonlinearity is ELU or ReLU: those are options.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from pixelsnail_infer.checkpoints.loaded import LoadedCheckpoint
from pixelsnail_infer.checkpoints.tf_checkpoint import open_variables, tensorflow_path
from pixelsnail_infer.checkpoints.tf_network import HIDDEN, filled, named_errors, network_variables, sized
from pixelsnail_infer.errors import CheckpointError, ModelError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.models.snail import Snail, position_channels
from pixelsnail_infer.models.snail_config import NAMED, SnailConfig

__all__ = ["load_tf_snail"]

MAX_RESNETS = 1000


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

    `path` is the prefix (`params_cifar.ckpt`), its `.index` or one of its `.data-…` files, or a file of the first
    format. `arch` names the network, as in `NAMED`. `ema` takes the moving averages, as the original's sampler does;
    without it the bare variables. `shape` is the image's (H, W), by default that of the named network; `nonlinearity`
    is what the network was trained with if its shapes do not show concat_elu. If the network is conditioned,
    `condition_kind` says whether its vector is the one-hot of a class, given by number ("label"), or any numbers
    ("vector", or None).

    Raises:
        CheckpointError: a file is missing or damaged, holds another network than `arch`, NaN, or no moving averages
            although they are asked for.
    """
    where = tensorflow_path(path) or Path(path)
    bundle = open_variables(path)
    with named_errors(where):
        if arch not in NAMED:
            asked = "" if arch is None else f"; {one_line(arch, 60)} is not one of them"
            raise CheckpointError(f"a TensorFlow checkpoint needs --arch, one of {', '.join(NAMED)}{asked}")
        findings: list[str] = []
        variables = network_variables(bundle, ema, findings)
        shapes = {name: bundle.shape(variable) for name, variable in variables.items()}
        config = _config(shapes, NAMED[arch], arch, nonlinearity, findings)
        config = _conditioned(config, shapes, condition_kind, findings)
        if shape is not None:
            config = _checked(config, shape=shape)
        how = "assumed" if shape is None else "as asked"
        findings.append(f"{config.shape[0]}x{config.shape[1]} pixels: {how}, for no variable shows it (--shape)")
        with torch.device("meta"):
            module = Snail(config)
        filled(module, bundle, variables, arch)
        module.background = position_channels(*config.shape, config.channels)
    return LoadedCheckpoint("pixelsnail", config, module, bundle.sha256(), findings)


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
    filters = sized(shapes, f"{first}/g", 0)
    channels = sized(shapes, f"{first}/V", -2) - 1
    if channels != 3:
        raise CheckpointError(f"its first layer takes {channels + 1} channels; the original has 4, RGB and ones")
    outputs = sized(shapes, f"dense_{dense - 1}/g", 0)
    if outputs < 10 or outputs % 10:
        raise CheckpointError(
            f"its last layer, dense_{dense - 1}, gives {outputs} numbers; a mixture has 10 a logistic"
        )
    gated = "dense_1" if shift else "conv2d_2" if resnets else "dense_0"
    inside, outside = sized(shapes, f"{gated}/V", -2), sized(shapes, f"{gated}/g", 0)
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
    width = sized(shapes, HIDDEN, 0)
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
