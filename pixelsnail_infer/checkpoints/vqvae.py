"""VQ-VAEs of one or two levels: state dicts of rosinality/vq-vae-2-pytorch, its forks and liuxubo717/sound_generation.

The file shows all but the image's size and whether the residual blocks' first ReLU works in place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from pixelsnail_infer.checkpoints.building import build, size
from pixelsnail_infer.checkpoints.options import CheckpointOptions
from pixelsnail_infer.errors import CheckpointError, ModelError
from pixelsnail_infer.models.vqvae import VqVae
from pixelsnail_infer.models.vqvae_config import VqVaeConfig

__all__ = ["image_shape", "is_vqvae", "read_vqvae"]

TOP = ("enc_t.", "quantize_conv_t.", "quantize_t.", "dec_t.", "upsample_t.")
AVERAGES = ("cluster_size", "embed_avg")  # of the code books; only training needs them
MEL = (80, 344)  # what the audio code trains on: 4 seconds in steps of 256 samples


def is_vqvae(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of this family."""
    decoder = any(name.startswith("dec.blocks.") for name in tensors)
    return decoder and any(name.startswith("quantize") for name in tensors)


def read_vqvae(
    tensors: dict[str, Tensor], args: Mapping[str, object], options: CheckpointOptions, findings: list[str]
) -> VqVae:
    """The network. Appends to `findings`. Raises CheckpointError."""
    two = any(name.startswith(TOP) for name in tensors)
    suffix = "_b" if two or any(name.startswith(("enc_b.", "quantize_b.")) for name in tensors) else ""
    branches = _branches(tensors, "enc" + suffix)
    first = f"enc{suffix}.{branches[0]}"
    mel = len(branches) > 1 and size(tensors, f"{first}.0.weight", 1) == 1
    assumed: list[str] = []
    hidden = "dec.blocks.1.conv.1.weight"
    books = (*(("quantize_t.embed",) if two else ()), f"quantize{suffix}.embed")
    try:
        config = VqVaeConfig(
            shape=image_shape(args, options, assumed, MEL if mel else (256, 256)),
            levels=tuple(size(tensors, name, 1, 2) for name in books),
            in_channel=size(tensors, f"{first}.0.weight", 1),
            channel=size(tensors, "dec.blocks.0.weight", 0),
            n_res_block=_count(tensors, r"dec\.blocks\.(\d+)\.conv\."),
            n_res_channel=size(tensors, hidden, 0) if hidden in tensors else 1,
            embed_dim=size(tensors, f"quantize{suffix}.embed", 0, 2),
            factor=2 ** (_count(tensors, rf"{re.escape(first)}\.(\d+)\.weight$") - 1),
            kernels=tuple(size(tensors, f"enc{suffix}.{name}.0.weight", 3) for name in branches),
            suffix="" if two else suffix,
            relu_inplace=_relu_inplace(options, len(branches) > 1, assumed),
            values="log-mel" if mel else "pixels",
        )
    except ModelError as error:
        raise CheckpointError(f"the checkpoint describes no valid VQ-VAE: {error}") from None
    _describe(config, findings)
    findings += assumed
    used = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] not in AVERAGES}
    if len(used) < len(tensors):
        findings.append("left out the code books' moving averages, which only training needs")
    return build(lambda: VqVae(config), used, what="a VQ-VAE")


def image_shape(
    args: Mapping[str, object], options: CheckpointOptions, findings: list[str], usual: tuple[int, int]
) -> tuple[int, int]:
    """(H, W) of the images: what was asked for, what the file's args say, or what is usual; says which."""
    if options.shape is not None:
        return options.shape
    stored = args.get("size")
    if isinstance(stored, int) and not isinstance(stored, bool) and stored > 0:
        findings.append(f"images of {stored}x{stored}, as the file's args say (--shape)")
        return stored, stored
    findings.append(f"assumed images of {usual[0]}x{usual[1]}: the file does not tell (--shape)")
    return usual


def _branches(tensors: Mapping[str, Tensor], encoder: str) -> list[str]:
    """Names of the encoder's parallel branches: `blocks` alone, or `blocks_1` on."""
    found = {match.group(1) for name in tensors if (match := re.match(rf"{encoder}\.blocks_(\d{{1,3}})\.", name))}
    return [f"blocks_{k + 1}" for k in range(len(found))] or ["blocks"]


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many different indices stand in the names; gaps show up later as missing tensors."""
    return len({match.group(1) for name in tensors if (match := re.match(pattern, name))})


def _relu_inplace(options: CheckpointOptions, usual: bool, findings: list[str]) -> bool:
    if options.relu_inplace is not None:
        return options.relu_inplace
    if usual:
        findings.append("assumed residual blocks with ReLU in place, as in the audio code (--relu-inplace no)")
    else:
        findings.append("assumed ReLU not in place; a file trained before January 2021 needs --relu-inplace yes")
    return usual


def _describe(config: VqVaeConfig, findings: list[str]) -> None:
    grids = ", ".join(f"{c.name} {c.shape[0]}x{c.shape[1]} of {c.levels}" for c in config.codes)
    colours = "log-mel spectrograms" if config.values == "log-mel" else f"{config.in_channel} channels"
    findings.append(
        f"VQ-VAE of {len(config.levels)} level{'s' if config.two_level else ''}: images of {config.shape[0]}x"
        f"{config.shape[1]}, {colours}; codes {grids}; width {config.channel}, {config.n_res_block} residual blocks"
    )
