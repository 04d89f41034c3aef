"""The original PixelSNAIL in a PyTorch file of this project: {'model': state_dict, 'args': argparse.Namespace}.

`args.arch` names the published network that it is, or is a small one of. Sizes are read from the tensors. What they do
not show (the image's size, pooling, ELU or ReLU, what the condition is) stands in `args` under the names of
`SnailConfig`; pooling, if it is not there, is that of `arch`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor

from pixelsnail_infer.checkpoints.building import build, size
from pixelsnail_infer.checkpoints.options import CheckpointOptions
from pixelsnail_infer.errors import CheckpointError, ModelError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.models.snail import Snail
from pixelsnail_infer.models.snail_config import NAMED, SnailConfig

__all__ = ["is_snail", "read_snail"]


def is_snail(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of this family."""
    return {"out.V", "out.g"} <= tensors.keys() and any(name in tensors for name in ("above.V", "first.nin.V"))


def read_snail(
    tensors: dict[str, Tensor], args: Mapping[str, object], options: CheckpointOptions, findings: list[str]
) -> Snail:
    """The network. Appends to `findings`. Raises CheckpointError."""
    arch = options.arch or args.get("arch")
    if not isinstance(arch, str) or arch not in NAMED:
        shown = "is not named in its args" if arch is None else f"is {one_line(repr(arch), 60)}"
        raise CheckpointError(f"an original PixelSNAIL whose architecture {shown}; one of {', '.join(NAMED)} (--arch)")
    stored = {field.name: args[field.name] for field in fields(SnailConfig) if field.name in args}
    sizes = _sizes(tensors)
    for name, value in sizes.items():
        said = stored.get(name, value)
        if said != value and said != 0:  # 0 leaves a width to the number of filters
            findings.append(f"the file's args say {name}={one_line(repr(said), 40)}, but its tensors show {value}")
    try:
        config = SnailConfig(**{**_unseen(tensors, stored, arch, options, findings), **sizes})
    except (ModelError, TypeError, ValueError) as error:
        raise CheckpointError(f"the checkpoint describes no valid network: {one_line(error)}") from None
    findings.append(
        f"original PixelSNAIL, {arch}: {config.shape[0]}x{config.shape[1]} pixels of {config.channels} colours, "
        f"{config.attn_rep} blocks of {config.nr_resnet}, {config.nr_filters} filters, {config.nr_mix} logistics"
    )
    if config.condition == "label":
        findings.append(f"conditioned on a label of {config.n_class}")
    elif config.condition:
        findings.append(f"conditioned on a vector of {config.condition_shapes['h'][0]} numbers")
    return build(lambda: Snail(config), tensors, what="an original PixelSNAIL", norms=("V", "g"))


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the tensors show."""
    shift = "first.nin.V" in tensors
    first = "first.nin.V" if shift else "above.V"
    filters, colours = size(tensors, first, 0), size(tensors, first, 1) - 1
    blocks = _count(tensors, r"blocks\.(\d+)\.")
    sizes: dict[str, Any] = {
        "channels": colours,
        "nr_filters": filters,
        "attn_rep": blocks,
        "nr_resnet": _count(tensors, r"blocks\.0\.resnets\.(\d+)\."),
        "convolution": "shift" if shift else "down_right",
        "nr_mix": size(tensors, "out.V", 0) // (10 if colours == 3 else 3),
    }
    if blocks:
        keys = size(tensors, "blocks.0.query.V", 0)
        sizes |= {"key_width": keys, "value_width": size(tensors, "blocks.0.content.V", 0) - keys}
    if "blocks.0.out.hw" in tensors:
        sizes["condition_size"] = size(tensors, "blocks.0.out.hw", 0, 2)
    return sizes


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many different indices stand in the names; gaps show up later as missing tensors."""
    return len({match.group(1) for name in tensors if (match := re.match(pattern, name))})


def _unseen(
    tensors: Mapping[str, Tensor],
    stored: Mapping[str, object],
    arch: str,
    options: CheckpointOptions,
    findings: list[str],
) -> dict[str, Any]:
    """What the tensors do not show."""
    shape = stored.get("shape")
    known = tuple(shape) if isinstance(shape, (tuple, list)) and len(shape) == 2 else None
    if known is not None and options.shape not in (None, known):
        raise CheckpointError(
            f"the model was trained for {known[0]}x{known[1]} pixels only; its coordinates are part of it"
        )
    known = known or options.shape
    if known is None:
        raise CheckpointError("its args name no shape, so the image's size is unknown; give its H and W (--shape)")
    values: dict[str, Any] = {
        "shape": known,
        "att_downsample": stored.get("att_downsample", NAMED[arch].att_downsample),
        "nonlinearity": _nonlinearity(tensors, stored, findings),
    }
    if "blocks.0.out.hw" in tensors:
        embedding = "embedding.weight" in tensors
        width = size(tensors, "embedding.weight", 0, 2) if embedding else size(tensors, "blocks.0.out.hw", 0, 2)
        classes = stored.get("n_class", width if options.condition_kind == "label" or embedding else 0)
        values |= {"embedding": embedding, "n_class": classes}
        values["condition"] = options.condition_kind or stored.get("condition") or ("label" if embedding else "vector")
    return values


def _nonlinearity(tensors: Mapping[str, Tensor], stored: Mapping[str, object], findings: list[str]) -> str:
    if "blocks.0.out.conv1.V" not in tensors:
        return "elu"
    wide = size(tensors, "blocks.0.out.conv1.V", 1) == 2 * size(tensors, "blocks.0.out.conv1.V", 0)
    if wide:
        return "concat_elu"
    if stored.get("nonlinearity") in ("elu", "relu"):
        return str(stored["nonlinearity"])
    findings.append("assumed ELU: ELU and ReLU look alike in the tensors, and its args do not tell")
    return "elu"
