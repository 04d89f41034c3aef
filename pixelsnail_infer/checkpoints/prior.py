"""The VQ-prior family: recognised from names and shapes, and read into a `PriorConfig`.

rosinality/vq-vae-2-pytorch and its forks, and the label-conditioned audio priors of liuxubo717/sound_generation. What a
file cannot tell (heads, upsample factor, in-place ELU, whether the condition is used) comes from the options.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor

from pixelsnail_infer.checkpoints.options import CheckpointOptions
from pixelsnail_infer.errors import CheckpointError, ModelError
from pixelsnail_infer.models import PriorConfig

__all__ = ["is_prior", "read_prior"]

DEFAULT_HEADS = 8
DEFAULT_UPSAMPLE = 2
HORIZONTAL, VERTICAL = "horizontal.conv.conv.weight_v", "vertical.conv.conv.weight_v"
FIRST_CONV = "blocks.0.resblocks.0.conv1.conv.conv.weight_v"
BLOCK_CONDITION = "blocks.0.resblocks.0.condition.conv.weight_v"


def is_prior(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of this family."""
    return all(name in tensors for name in (HORIZONTAL, VERTICAL)) and any(
        name.startswith("blocks.") for name in tensors
    )


def read_prior(
    tensors: dict[str, Tensor], args: Mapping[str, object], options: CheckpointOptions, findings: list[str]
) -> tuple[PriorConfig, dict[str, Tensor]]:
    """The configuration that the tensors show, and the tensors that its network takes.

    `args` (the training arguments stored in the file) gives the number of heads and the dropout if it names them, and
    is otherwise compared with the tensors only. Appends to `findings`.

    Raises:
        CheckpointError: shapes contradict each other or the options, or no network can have them.
    """
    kernel = _kernel(tensors)
    attention = any(name.startswith("blocks.0.causal_attention.") for name in tensors)
    condition, used = _condition(tensors, options, findings)
    labels = _label_layers(tensors) if condition == "label" else []
    codes = condition == "codes"
    first = tensors.get(FIRST_CONV)
    cond_conv = "cond_resnet.blocks.0.conv.weight_v"
    try:
        config = PriorConfig(
            shape=_shape(tensors, options),
            levels=_size(tensors, HORIZONTAL, 1),
            channel=_size(tensors, HORIZONTAL, 0),
            kernel_size=kernel,
            n_block=_count(tensors, r"blocks\.(\d+)\."),
            n_res_block=_count(tensors, r"blocks\.0\.resblocks\.(\d+)\."),
            res_channel=_res_channel(tensors) if first is None else _size(tensors, FIRST_CONV, 0),
            attention=attention,
            n_head=_heads(args, options, attention, findings),
            n_out_res_block=_count(tensors, r"out\.(\d+)\.conv1\."),
            condition=condition,
            n_label=labels[0][1] if labels else 0,
            label_hidden=tuple(shape[0] for shape in labels[:-1]),
            cond_res_block=_count(tensors, r"cond_resnet\.blocks\.(\d+)\.conv1\.") if codes else 0,
            cond_res_channel=_size(tensors, cond_conv, 0) if codes else 0,
            cond_res_kernel=_size(tensors, cond_conv, 3) if codes else 3,
            upsample=DEFAULT_UPSAMPLE if options.upsample is None else options.upsample,
            elu_inplace=options.elu_inplace,
            dropout=_dropout(args),
        )
    except ModelError as error:
        raise CheckpointError(f"the checkpoint describes no valid prior: {error}") from None
    _describe(config, args, options, findings)
    return config, used


def _size(tensors: dict[str, Tensor], name: str, axis: int) -> int:
    if name not in tensors or tensors[name].dim() != 4:
        found = "missing" if name not in tensors else f"of shape {list(tensors[name].shape)}"
        raise CheckpointError(f"{name} is {found}; a VQ prior has a convolution [out, in, height, width] there")
    return tensors[name].shape[axis]


def _count(names: Iterable[str], pattern: str) -> int:
    """How many different indices stand in the names; gaps show up later as missing tensors."""
    return len({match.group(1) for name in names if (match := re.match(pattern, name))})


def _kernel(tensors: dict[str, Tensor]) -> int:
    width = _size(tensors, FIRST_CONV, 3) if FIRST_CONV in tensors else _size(tensors, HORIZONTAL, 3)
    if width % 2 == 0:
        raise CheckpointError(
            f"the residual blocks have a kernel of even width {width}, which fails in the public code too; "
            "only odd kernels of 3 or more are supported"
        )
    return width


def _res_channel(tensors: dict[str, Tensor]) -> int:
    """Without residual blocks only the blocks before the output can show the width; else it does not matter."""
    name = "out.0.conv1.conv.weight_v"
    return _size(tensors, name, 0) if name in tensors else 1


def _shape(tensors: dict[str, Tensor], options: CheckpointOptions) -> tuple[int, int]:
    background = tensors.get("background")
    if background is None:
        if options.shape is None:
            raise CheckpointError(
                "the checkpoint has no background buffer, so its canvas is unknown; give its H and W (--shape)"
            )
        return options.shape
    if background.dim() != 4 or background.shape[:2] != (1, 2):
        raise CheckpointError(f"background has shape {list(background.shape)}; expected [1, 2, H, W]")
    height, width = background.shape[2:]
    if options.shape is not None and options.shape != (height, width):
        raise CheckpointError(
            f"the model was trained for {height}x{width} codes only, not for "
            f"{'x'.join(str(size) for size in options.shape)}; its coordinates are part of it"
        )
    return height, width


def _heads(args: Mapping[str, object], options: CheckpointOptions, attention: bool, findings: list[str]) -> int:
    if not attention:
        if options.n_head is not None:
            findings.append("the model has no attention: the number of heads is ignored")
        return DEFAULT_HEADS
    stored = args.get("n_head")
    known = stored if isinstance(stored, int) and not isinstance(stored, bool) and stored > 0 else None
    if options.n_head is not None:
        if known not in (None, options.n_head):
            findings.append(f"the file's args name {known} heads; {options.n_head} were asked for and are used")
        return options.n_head
    if known is not None:
        findings.append(f"{known} attention heads, as the file's args name them")
        return known
    findings.append(
        f"assumed {DEFAULT_HEADS} attention heads, as in the public code: the file does not tell (--n-head)"
    )
    return DEFAULT_HEADS


def _label_layers(tensors: dict[str, Tensor]) -> list[tuple[int, int]]:
    """[out, in] of every linear layer that makes a label's condition map."""
    layers: list[tuple[int, int]] = []
    while (weight := tensors.get(f"embedNet.blocks.{len(layers)}.weight")) is not None:
        if weight.dim() != 2:
            raise CheckpointError(f"embedNet.blocks.{len(layers)}.weight has shape {list(weight.shape)}, not [out, in]")
        layers.append((weight.shape[0], weight.shape[1]))
    if not layers:
        raise CheckpointError("embedNet has no blocks.0.weight; a label condition starts with a linear layer there")
    return layers


def _condition(
    tensors: dict[str, Tensor], options: CheckpointOptions, findings: list[str]
) -> tuple[Literal["label", "codes"] | None, dict[str, Tensor]]:
    """The kind of condition, and the tensors without those that it leaves unused."""

    def without(*prefixes: str) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in tensors.items() if not name.startswith(prefixes)}

    embed = any(name.startswith("embedNet.") for name in tensors)
    resnet = any(name.startswith("cond_resnet.") for name in tensors)
    if BLOCK_CONDITION in tensors and not options.no_condition:
        if embed:
            if resnet:
                findings.append("cond_resnet is stored but unused, as in the label-conditioned audio code: ignored")
            return "label", without("cond_resnet.")
        if resnet:
            return "codes", tensors
    used = without("embedNet.", "cond_resnet.")
    used = {name: tensor for name, tensor in used.items() if ".condition.conv." not in name}
    if len(used) < len(tensors):
        reason = "as asked" if options.no_condition else "the network that would use them is not complete in the file"
        findings.append(f"ignored {len(tensors) - len(used)} tensors of the condition: {reason}")
    elif options.no_condition:
        findings.append("the model has no condition, so there was none to leave out")
    return None, used


def _dropout(args: Mapping[str, object]) -> float:
    stored = args.get("dropout")
    return float(stored) if isinstance(stored, float) and 0 <= stored < 1 else 0.1


def _describe(config: PriorConfig, args: Mapping[str, object], options: CheckpointOptions, findings: list[str]) -> None:
    """Say what was recognised and assumed, and where the stored arguments disagree with the tensors."""
    height, width = config.shape
    findings.append(
        f"VQ prior: {height}x{width} codes of {config.levels}, {config.n_block} blocks of {config.n_res_block}, width "
        f"{config.channel}, kernel {config.kernel_size}, {'with' if config.attention else 'without'} attention"
    )
    if config.condition == "label":
        findings.append(f"conditioned on a label of {config.n_label}")
    elif config.condition == "codes":
        grid = "x".join(str(size) for size in config.condition_shapes["condition"])
        how = "assumed" if options.upsample is None else "as asked"
        findings.append(f"conditioned on {grid} codes: {how} a factor of {config.upsample} (--upsample)")
    if not config.elu_inplace:
        findings.append("assumed ELU not in place; a file trained before July 2020 needs --elu-inplace")
    expected = {
        "channel": config.channel,
        "n_res_block": config.n_res_block,
        "n_res_channel": config.res_channel,
        "n_out_res_block": config.n_out_res_block,
    }
    for name, value in expected.items():
        stored = args.get(name)
        if isinstance(stored, int) and stored != value:
            findings.append(f"the file's args say {name}={stored}, but its tensors show {value}, which is used")
