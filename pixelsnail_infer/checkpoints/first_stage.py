"""The VQ first stages of CompVis/latent-diffusion and CompVis/taming-transformers, alone or in a whole diffusion model.

The file shows all but the image's size. Beside the network it may hold the losses' networks, averages of all weights,
and training's bookkeeping; none of these is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from pixelsnail_infer.checkpoints.building import build, size
from pixelsnail_infer.checkpoints.options import CheckpointOptions
from pixelsnail_infer.checkpoints.vqvae import image_shape
from pixelsnail_infer.errors import CheckpointError, ModelError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.models.first_stage import FirstStage
from pixelsnail_infer.models.first_stage_config import FirstStageConfig

__all__ = ["INSIDE", "is_first_stage", "read_first_stage", "training_names"]

INSIDE = "first_stage_model."
TRAINING = re.compile(r"(?:module\.)*(?:loss\.|model_ema\.|colorize$)")
AVERAGES = ("quantize.embedding.cluster_size", "quantize.embedding.embed_avg")


def training_names(names: Iterable[str], averaged: bool, findings: list[str]) -> set[str]:
    """Those of a first stage's names that only training needs. Appends to `findings`.

    `averaged` says that the averages are wanted.
    """
    extra = [name for name in names if TRAINING.match(name)]
    if extra:
        findings.append(f"left out {len(extra)} tensors that only training needs, {one_line(extra[0])} first")
    if not averaged and any("model_ema." in name for name in extra):
        findings.append("the averaged weights (model_ema) are among them: the bare weights are taken")
    return set(extra)


def is_first_stage(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of this family, or of its relatives that have no codes."""
    ends = {"encoder.conv_in.weight", "decoder.conv_in.weight", "encoder.conv_out.weight", "decoder.conv_out.weight"}
    middle = ("quantize.", "quant_conv.", "post_quant_conv.")
    return not tensors.keys().isdisjoint(ends) and any(name.startswith(middle) for name in tensors)


def read_first_stage(
    tensors: dict[str, Tensor], args: Mapping[str, object], options: CheckpointOptions, findings: list[str]
) -> FirstStage:
    """The network. Appends to `findings`. Raises CheckpointError."""
    _refuse_relatives(tensors)
    assumed: list[str] = []
    shape = image_shape(args, options, assumed, (256, 256))
    depth = _count(tensors, r"encoder\.down\.(\d+)\.")
    try:
        config = FirstStageConfig(
            shape=shape,
            levels=size(tensors, "quantize.embedding.weight", 0, 2),
            channels=size(tensors, "encoder.conv_in.weight", 1),
            ch=size(tensors, "encoder.conv_in.weight", 0),
            widths=tuple(size(tensors, f"encoder.down.{k}.block.0.conv1.weight", 0) for k in range(depth)),
            n_res_block=_count(tensors, r"encoder\.down\.0\.block\.(\d+)\."),
            attention=tuple(k for k in range(depth) if _count(tensors, rf"encoder\.down\.{k}\.attn\.(\d+)\.")),
            mid_attention=any(name.startswith("encoder.mid.attn_1.") for name in tensors),
            shortcut="conv" if any(".conv_shortcut." in name for name in tensors) else "nin",
            resample_conv=depth < 2 or any(".downsample.conv." in name for name in tensors),
            z_channels=size(tensors, "decoder.conv_in.weight", 1),
            embed_dim=size(tensors, "quantize.embedding.weight", 1, 2),
        )
    except ModelError as error:
        raise CheckpointError(f"the checkpoint describes no valid first stage: {error}") from None
    (codes,) = config.codes
    findings.append(
        f"VQ first stage, factor {config.factor}: images of {shape[0]}x{shape[1]}, {config.channels} channels; codes "
        f"{codes.shape[0]}x{codes.shape[1]} of {codes.levels}, vectors of {config.embed_dim}; widths "
        f"{', '.join(map(str, config.widths))}"
    )
    findings += assumed
    findings.append("assumed a plain output, without tanh, as in the published configurations")
    used = {name: tensor for name, tensor in tensors.items() if name not in AVERAGES}
    if len(used) < len(tensors):
        findings.append("left out the code book's moving averages, which only training needs")
    return build(lambda: FirstStage(config), used, what="a VQ first stage")


def _refuse_relatives(tensors: Mapping[str, Tensor]) -> None:
    """Raise a CheckpointError for autoencoders of the same code base that are something else."""
    moments, latents = tensors.get("quant_conv.weight"), tensors.get("post_quant_conv.weight")
    twice = moments is not None and latents is not None and moments.shape[:1] == (2 * latents.shape[1],)
    if twice and not any(name.startswith("quantize.") for name in tensors):
        raise CheckpointError(
            "an autoencoder without a code book (KL-regularised): its latents are numbers, not codes, so it is no "
            "decoder of a prior over codes; VQ first stages are supported"
        )
    if any(name.startswith(("quantize.proj.", "quantize.embed.")) for name in tensors):
        raise CheckpointError(
            "a first stage with a Gumbel quantiser (GumbelVQ), which draws its codes; only nearest-vector code books "
            "(quantize.embedding) are supported"
        )
    if "quantize.used" in tensors:
        raise CheckpointError(
            "a first stage whose codes are renumbered (quantize.used); only whole code books are supported"
        )
    if any(".to_qkv." in name for name in tensors):
        raise CheckpointError("a first stage with linear attention, which no published one has; it is not supported")


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many different indices stand in the names; gaps show up later as missing tensors."""
    return len({match.group(1) for name in tensors if (match := re.match(pattern, name))})
