"""The conditional PixelCNN: state dicts of jrbtaylor/conditional-pixelcnn's network.

The file shows all but the image's size and, after the fact, whether classes are to be given as labels or as weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from pixelsnail_infer.checkpoints.building import build, size
from pixelsnail_infer.checkpoints.options import CheckpointOptions
from pixelsnail_infer.errors import CheckpointError, ModelError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.models.pixelcnn import PixelCNN, PixelCNNConfig
from pixelsnail_infer.models.pixelcnn_layers import MaskedConv

__all__ = ["is_pixelcnn", "read_pixelcnn"]


def is_pixelcnn(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of this family."""
    return {"layers.0.0.weight", "layers.0.0.mask", "layers.1.y_embed.weight"} <= tensors.keys()


def read_pixelcnn(
    tensors: dict[str, Tensor], args: Mapping[str, object], options: CheckpointOptions, findings: list[str]
) -> PixelCNN:
    """The network. Appends to `findings`. Raises CheckpointError."""
    last = max(int(match.group(1)) for name in tensors if (match := re.match(r"layers\.(\d{1,6})\.", name)))
    if last < 2 or last % 2:
        raise CheckpointError(f"a conditional PixelCNN has an odd number of layers, 3 or more, not {last + 1}")
    if (inputs := size(tensors, "layers.0.0.weight", 1)) != 2:
        raise CheckpointError(f"its first layer takes {inputs} channels; 2 are expected, the grey level and ones")
    kind = options.condition_kind or ("vector" if args.get("condition") == "vector" else "label")
    try:
        config = PixelCNNConfig(
            shape=_shape(args, options),
            n_bins=size(tensors, f"layers.{last}.batchnorm.weight", 0, 1),
            n_features=size(tensors, "layers.0.0.weight", 0),
            n_layers=last // 2,
            n_class=size(tensors, "layers.1.y_embed.weight", 1, 2),
            condition=kind,
            first_kernel=size(tensors, "layers.0.0.weight", 3),
            kernel=size(tensors, "layers.1.conv.weight", 3),
        )
    except ModelError as error:
        raise CheckpointError(f"the checkpoint describes no valid network: {error}") from None
    findings.append(
        f"conditional PixelCNN: {config.n_bins} grey levels, {config.n_layers} layers in each half, width "
        f"{config.n_features}, {config.n_class} classes, given as {'weights' if kind == 'vector' else 'a label'}"
    )
    findings.append("the auxiliary input of the second half is the block's own input, as in the public code")
    module = build(lambda: PixelCNN(config), tensors, what="a conditional PixelCNN")
    with torch.device("cpu"):
        fresh = PixelCNN(config)
    for (name, layer), right in zip(module.named_modules(), fresh.modules(), strict=True):
        if isinstance(layer, MaskedConv) and isinstance(right, MaskedConv) and not torch.equal(layer.mask, right.mask):
            raise CheckpointError(f"{name}.mask is not the causal mask that this family has there")
    return module


def _shape(args: Mapping[str, object], options: CheckpointOptions) -> tuple[int, int]:
    stored = args.get("shape")
    if options.shape is not None:
        return options.shape
    if isinstance(stored, (tuple, list)) and len(stored) == 2 and all(isinstance(n, int) for n in stored):
        return stored[0], stored[1]
    shown = "" if stored is None else f" (its args say {one_line(repr(stored), 40)})"
    raise CheckpointError(f"a conditional PixelCNN does not store the image's size{shown}; give H and W (--shape)")
