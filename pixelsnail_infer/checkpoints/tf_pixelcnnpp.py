"""PixelCNN++'s TensorFlow checkpoints, as openai/pixel-cnn saves them (`params_cifar.ckpt`).

The file does not say what the size of the image is, nor whether the nonlinearity is ELU or ReLU (concat_elu, which is
usual, shows in the layers' widths): those are options.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import torch

from pixelsnail_infer.checkpoints.loaded import LoadedCheckpoint
from pixelsnail_infer.checkpoints.pixelcnnpp import described, usual_shape
from pixelsnail_infer.checkpoints.tf_checkpoint import open_variables, tensorflow_path
from pixelsnail_infer.checkpoints.tf_network import HIDDEN, filled, named_errors, network_variables, sized
from pixelsnail_infer.errors import CheckpointError, ModelError
from pixelsnail_infer.models.pixelcnnpp import PixelCNNpp, PixelCNNppConfig

__all__ = ["load_tf_pixelcnnpp", "names_pixelcnnpp"]

MAX_RESNETS = 1000


def names_pixelcnnpp(names: Iterable[str]) -> bool:
    """Whether variables of these names are a PixelCNN++'s: a PixelSNAIL has no transposed convolutions."""
    return any(re.fullmatch(r"(?:.*/)?deconv2d_0/V", name) for name in names)


def load_tf_pixelcnnpp(
    path: str | os.PathLike[str],
    *,
    ema: bool = True,
    shape: tuple[int, int] | None = None,
    nonlinearity: Literal["elu", "relu"] = "elu",
    condition_kind: Literal["label", "vector"] | None = None,
) -> LoadedCheckpoint:
    """Read a checkpoint that the original's training script saved.

    `path` is as for `load_tf_snail`. `ema` takes the moving averages, as the original's sampler does; without it the
    bare variables. `shape` is the image's (H, W), by default 32x32; `nonlinearity` is what the network was trained with
    if its shapes do not show concat_elu. If the network is conditioned, `condition_kind` says whether its vector is the
    one-hot of a class, given by number ("label", or None), or any numbers ("vector").

    Raises:
        CheckpointError: a file is missing or damaged, holds another network, NaN, or no moving averages although they
            are asked for.
    """
    bundle = open_variables(path)
    with named_errors(tensorflow_path(path) or Path(path)):
        findings: list[str] = []
        variables = network_variables(bundle, ema, findings)
        shapes = {name: bundle.shape(variable) for name, variable in variables.items()}
        config = _config(shapes, shape, nonlinearity, condition_kind, findings)
        findings += described(config)
        with torch.device("meta"):
            module = PixelCNNpp(config)
        filled(module, bundle, variables, "a PixelCNN++")
    return LoadedCheckpoint("pixelcnn++", config, module, bundle.sha256(), findings)


def _config(
    shapes: Mapping[str, tuple[int, ...]],
    asked: tuple[int, int] | None,
    nonlinearity: Literal["elu", "relu"],
    kind: Literal["label", "vector"] | None,
    findings: list[str],
) -> PixelCNNppConfig:
    """The network whose sizes the tensors show."""
    convolutions, dense, doubling = (
        len([n for n in shapes if re.fullmatch(rf"{layer}_\d+/V", n)]) for layer in ("conv2d", "dense", "deconv2d")
    )
    # There are 3 * nr_resnet pairs of gated blocks on the way down, and 2 more on the way up. A block has 2
    # convolutions, 3 are at the start, and 4 halve. Each `ul` on the way down has a dense layer, and each block on the
    # way up; the last layer is one, too.
    resnets, rest = divmod(convolutions - 15, 24)
    if rest or doubling != 4 or not 0 <= resnets <= MAX_RESNETS or dense != 9 * resnets + 5:
        if not rest and doubling == 4 and dense == 9 * resnets + 8:
            raise CheckpointError(
                "a PixelCNN++ that was trained by the energy distance (--energy_distance): it makes pixels out of "
                "noise and has no distribution to draw from"
            )
        raise CheckpointError(
            f"its {convolutions} conv2d, {doubling} deconv2d and {dense} dense layers are not those of a PixelCNN++"
        )
    filters, channels = sized(shapes, "conv2d_0/g", 0), sized(shapes, "conv2d_0/V", -2) - 1
    if channels not in (1, 3):
        raise CheckpointError(f"its first layer takes {channels + 1} channels; 4 are expected, RGB and ones")
    outputs, each = sized(shapes, f"dense_{dense - 1}/g", 0), 10 if channels == 3 else 3
    if outputs % each:
        raise CheckpointError(
            f"its last layer, dense_{dense - 1}, gives {outputs} numbers; a mixture has {each} a logistic"
        )
    wide = sized(shapes, f"conv2d_{convolutions - 1}/V", -2) == 2 * filters
    if not wide:
        findings.append(f"assumed {nonlinearity}: ELU and ReLU look alike in the file (--nonlinearity)")
    n_label = sized(shapes, HIDDEN, 0) if HIDDEN in shapes else 0
    try:
        return PixelCNNppConfig(
            shape=usual_shape(channels, asked, findings),
            channels=channels,  # type: ignore[arg-type]
            nr_resnet=resnets,
            nr_filters=filters,
            nr_logistic_mix=outputs // each,
            resnet_nonlinearity="concat_elu" if wide else nonlinearity,
            condition=(kind or "label") if n_label else None,
            n_label=n_label,
        )
    except ModelError as error:
        raise CheckpointError(str(error)) from None
