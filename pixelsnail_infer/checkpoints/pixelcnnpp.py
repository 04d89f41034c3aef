"""PixelCNN++ in a PyTorch file: of this project, or of the port that is in use (pclucas14/pixel-cnn-pp).

The port has the original's network with concat_elu and without a condition, and saves bare state dicts. Its layers have
names of their own, and the weight norm of its transposed convolutions is one for each *input* channel, where the
original has one for each output channel: the same weights are written with the original's here.

This project's files are {'model': state_dict, 'args': argparse.Namespace} with the names of `PixelCNNppConfig` in
`args`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pixelsnail_infer.checkpoints.building import build, size
from pixelsnail_infer.checkpoints.options import CheckpointOptions
from pixelsnail_infer.errors import CheckpointError, ModelError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.models.pixelcnnpp import STAGES, PixelCNNpp, PixelCNNppConfig
from pixelsnail_infer.models.snail_layers import Normed

__all__ = ["described", "is_pixelcnnpp", "read_pixelcnnpp", "usual_shape"]

WHAT = "a PixelCNN++"
PARTS = {"V": "weight_v", "g": "weight_g", "b": "bias"}
"""What the port calls the parameters of a layer."""


def is_pixelcnnpp(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of this family."""
    return {"u_first.V", "ul_left.V", "out.V"} <= tensors.keys() or _is_port(tensors)


def _is_port(tensors: Mapping[str, Tensor]) -> bool:
    return {"u_init.conv.weight_v", "ul_init.1.conv.weight_v", "nin_out.lin_a.weight_v"} <= tensors.keys()


def read_pixelcnnpp(
    tensors: dict[str, Tensor], args: Mapping[str, object], options: CheckpointOptions, findings: list[str]
) -> PixelCNNpp:
    """The network. Appends to `findings`. Raises CheckpointError."""
    port = _is_port(tensors)
    if port:
        findings.append("PixelCNN++ of the PyTorch port: its names, and its weight norm by input channel, rewritten")
        tensors = _from_port(tensors)
    try:
        config = PixelCNNppConfig(**_sizes(tensors), **_unseen(tensors, {} if port else args, options, findings))
    except (ModelError, TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint describes no valid network: {one_line(error)}") from None
    findings += described(config)
    module = build(lambda: PixelCNNpp(config), tensors, what=WHAT)
    if not port:
        _check_norms(module)
    return module


def described(config: PixelCNNppConfig) -> list[str]:
    """What was recognised, in one or two lines."""
    lines = [
        f"PixelCNN++: {config.shape[0]}x{config.shape[1]} pixels of {config.channels} colours, {config.nr_resnet} "
        f"residual blocks a stage, {config.nr_filters} filters, {config.resnet_nonlinearity}, "
        f"{config.nr_logistic_mix} logistics"
    ]
    if config.condition == "label":
        lines.append(f"conditioned on a label of {config.n_label}, as a one-hot vector")
    elif config.condition:
        lines.append(f"conditioned on a vector h of {config.n_label} numbers")
    return lines


def usual_shape(channels: int, asked: tuple[int, int] | None, findings: list[str]) -> tuple[int, int]:
    """The asked size of the image, or that of the public training scripts. Appends to `findings`."""
    shape = asked or ((32, 32) if channels == 3 else (28, 28))
    how = "as asked" if asked else "assumed"
    findings.append(f"{shape[0]}x{shape[1]} pixels: {how}, for no tensor shows it (--shape)")
    return shape


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the tensors show, by their names here."""
    channels, outputs = size(tensors, "u_first.V", 1) - 1, size(tensors, "out.V", 0)
    each = 3 if channels == 1 else 10
    if outputs % each:
        raise CheckpointError(f"{WHAT} whose last layer gives {outputs} numbers; a mixture has {each} a logistic")
    layers = len(_indices(tensors, "down"))
    sizes = {
        "channels": channels,
        "nr_filters": size(tensors, "u_first.V", 0),
        "nr_resnet": max(layers - STAGES + 1, 0) // STAGES,  # the others halve
        "nr_logistic_mix": outputs // each,
    }
    if (hidden := f"{_last(tensors)}.hw") in tensors:
        sizes["n_label"] = size(tensors, hidden, 0, 2)
    return sizes


def _indices(tensors: Mapping[str, Tensor], way: str) -> set[int]:
    return {int(match.group(1)) for name in tensors if (match := re.match(rf"{way}\.(\d{{1,6}})\.", name))}


def _last(tensors: Mapping[str, Tensor]) -> str:
    """The last gated block of the rows above: on the way up there is one whatever the size."""
    return f"up.{max(_indices(tensors, 'up'), default=0)}.u"


def _unseen(
    tensors: Mapping[str, Tensor], stored: Mapping[str, object], options: CheckpointOptions, findings: list[str]
) -> dict[str, Any]:
    """What the tensors do not show."""
    values: dict[str, Any] = {}
    if f"{_last(tensors)}.hw" in tensors:
        values["condition"] = options.condition_kind or stored.get("condition") or "label"
    shape = stored.get("shape")
    if options.shape is None and isinstance(shape, (tuple, list)) and len(shape) == 2:
        values["shape"] = tuple(shape)
    else:
        values["shape"] = usual_shape(size(tensors, "u_first.V", 1) - 1, options.shape, findings)
    gated = f"{_last(tensors)}.conv1.V"
    if size(tensors, gated, 1) == size(tensors, gated, 0):
        values["resnet_nonlinearity"] = stored.get("resnet_nonlinearity", "elu")
        if "resnet_nonlinearity" not in stored:
            findings.append("assumed ELU: ELU and ReLU look alike in the tensors, and its args do not tell")
    return values


def _check_norms(module: PixelCNNpp) -> None:
    for name, layer in module.named_modules():
        if isinstance(layer, Normed):
            norm = layer.V.movedim(layer.axis, 0).flatten(1).norm(dim=1)
            if not (torch.isfinite(norm) & (norm > 0)).all():
                raise CheckpointError(f"{name}.V has an output whose norm is 0 or infinite: no direction")


def _port_layers(nr_resnet: int) -> dict[str, str]:
    """For each layer of ours, the port's, which calls the way to a quarter of the size `up`, the way back `down`."""
    names = {"u_first": "u_init.conv", "ul_above": "ul_init.0.conv", "ul_left": "ul_init.1.conv"}
    names["out"] = "nin_out.lin_a"
    for stream in ("u", "ul"):
        for stage in range(STAGES):
            down, up = stage * (nr_resnet + 1), stage * (nr_resnet + 2) - (stage > 0)  # the first pairs of the stage
            if stage:
                names[f"down.{down - 1}.{stream}"] = f"downsize_{stream}_stream.{stage - 1}.conv"
                names[f"up.{up - 1}.{stream}"] = f"upsize_{stream}_stream.{stage - 1}.deconv"
            pairs = {f"down.{down + i}.{stream}": f"up_layers.{stage}.{stream}_stream.{i}" for i in range(nr_resnet)}
            pairs |= {
                f"up.{up + i}.{stream}": f"down_layers.{stage}.{stream}_stream.{i}"
                for i in range(nr_resnet + (stage > 0))
            }
            for ours, theirs in pairs.items():
                names |= {f"{ours}.conv1": f"{theirs}.conv_input.conv", f"{ours}.conv2": f"{theirs}.conv_out.conv"}
                if stream == "ul" or ours.startswith("up."):
                    names[f"{ours}.nin"] = f"{theirs}.nin_skip.lin_a"
    return names


def _from_port(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The port's tensors by our names, in our layouts. Raises CheckpointError for one that is missing, or too many."""
    counted = {match.group(1) for n in tensors if (match := re.match(r"up_layers\.0\.u_stream\.(\d+)\.", n))}
    layers = _port_layers(len(counted))
    result: dict[str, Tensor] = {}
    for ours, theirs in layers.items():
        found = {}
        for part, name in PARTS.items():
            if f"{theirs}.{name}" not in tensors:
                raise CheckpointError(f"{WHAT} of the PyTorch port without {theirs}.{name}: not complete")
            found[part] = tensors[f"{theirs}.{name}"]
        result |= {f"{ours}.{part}": tensor for part, tensor in _renormed(theirs, **found).items()}
    used = {f"{layer}.{name}" for layer in layers.values() for name in PARTS.values()}
    surplus = [name for name in tensors if name not in used]
    if surplus:
        raise CheckpointError(
            f"{WHAT} of the PyTorch port with {one_line(surplus[0])} {list(tensors[surplus[0]].shape)} in addition, "
            "which it does not have"
        )
    return result


def _renormed(layer: str, V: Tensor, g: Tensor, b: Tensor) -> dict[str, Tensor]:
    """A layer's parameters with one norm for each output channel; the port's is along the first axis."""
    if V.dim() not in (2, 4) or g.shape != (V.shape[0], *[1] * (V.dim() - 1)):
        raise CheckpointError(
            f"{WHAT} of the PyTorch port in which {layer}.weight_g and weight_v have shapes {list(g.shape)} and "
            f"{list(V.shape)}; one norm along the first axis is expected"
        )
    norm = V.flatten(1).norm(dim=1)
    if not (torch.isfinite(norm) & (norm > 0)).all():
        raise CheckpointError(f"{layer}.weight_v has a row whose norm is 0 or infinite: the model gives NaN")
    if layer.endswith(".deconv"):
        weight = V.double() * (g.double() / V.double().flatten(1).norm(dim=1).view_as(g))
        return {"V": weight.float(), "g": weight.movedim(1, 0).flatten(1).norm(dim=1).float(), "b": b}
    return {"V": V if V.dim() == 4 else V[:, :, None, None], "g": g.flatten(), "b": b}
