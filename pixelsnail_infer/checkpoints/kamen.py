"""The PixelSNAIL of kamenbliznashki/pixel_models, and the file with its averaged weights.

Its training script saves {'epoch', 'global_step', 'state_dict'}, and beside it, in optim_checkpoint.pt, the optimizer's
state, which holds an exponential moving average of every parameter under 'ema'. Its sampler uses the averages.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from torch import Tensor, nn

from pixelsnail_infer.checkpoints.building import build, size
from pixelsnail_infer.checkpoints.options import CheckpointOptions
from pixelsnail_infer.checkpoints.reading import read_file
from pixelsnail_infer.errors import CheckpointError, ModelError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.models.kamen import Kamen, KamenConfig

__all__ = ["is_kamen", "read_kamen"]

LEAK = (
    "position 0 attends to nothing that is earlier, so its softmax averages over all positions, later ones included: "
    "no exact sampler exists for this model. --approximate first-position exports it with a position 0 that attends "
    "to nothing"
)


def is_kamen(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of this family."""
    return {"ul_input_d.weight_v", "ul_input_dr.weight_v", "output_conv.weight_v"} <= tensors.keys()


def read_kamen(
    tensors: dict[str, Tensor], args: Mapping[str, object], options: CheckpointOptions, findings: list[str]
) -> Kamen:
    """The network. Appends to `findings`. Raises CheckpointError; without the approximation, always."""
    if options.approximate != "first-position":
        raise CheckpointError(f"a PixelSNAIL of pixel_models, which is not causal: {LEAK}")
    background = tensors.get("background")
    if background is None or background.dim() != 4 or background.shape[1] not in (2, 6):
        shown = "missing" if background is None else f"of shape {list(background.shape)}"
        raise CheckpointError(f"its background is {shown}; [1, 2 or 6, H, W] is expected")
    shape = (background.shape[2], background.shape[3])
    if options.shape not in (None, shape):
        raise CheckpointError(
            f"the model was trained for {shape[0]}x{shape[1]} pixels only; its coordinates are part of it"
        )
    try:
        config = _config(tensors, shape, background.shape[1] // 2, options, findings)
    except ModelError as error:
        raise CheckpointError(f"the checkpoint describes no valid network: {error}") from None
    findings.append(
        f"PixelSNAIL of pixel_models: {shape[0]}x{shape[1]} pixels of {config.channels} colours, "
        f"{config.attn_n_layers} blocks of {config.n_res_layers}, width {config.n_channels}, "
        f"{config.n_logistic_mix} logistics"
    )
    findings.append("APPROXIMATE: position 0 attends to nothing; in the trained model it averaged over all positions")
    module = build(lambda: Kamen(config), tensors, what="a PixelSNAIL of pixel_models", norms=("weight_v", "weight_g"))
    if options.ema_file is None:
        findings.append("took the bare weights; the public sampler takes the averages in optim_checkpoint.pt (--ema)")
    else:
        _take_averages(module, options.ema_file, findings)
    return module


def _config(
    tensors: Mapping[str, Tensor],
    shape: tuple[int, int],
    colours: int,
    options: CheckpointOptions,
    findings: list[str],
) -> KamenConfig:
    def count(pattern: str) -> int:
        return len({match.group(1) for name in tensors if (match := re.match(pattern, name))})

    blocks = count(r"ul_modules\.(\d+)\.")
    block = "ul_modules.0."
    projection = block + "out_proj.proj_h.weight"
    classes = size(tensors, projection, 1, 2) if projection in tensors else 0
    if options.n_head is None and blocks:
        findings.append("assumed 1 attention head, as in the public code: the file does not tell (--n-head)")
    if options.bits is None:
        findings.append("assumed 8 bits a colour: the file does not tell; the public script's default is 4 (--bits)")
    return KamenConfig(
        shape=shape,
        channels=3 if colours == 3 else 1,
        n_channels=size(tensors, "ul_input_d.weight_v", 0),
        n_res_layers=count(r"ul_modules\.0\.input_gated_resnet\.(\d+)\."),
        attn_n_layers=blocks,
        attn_nh=options.n_head or 1,
        attn_dq=size(tensors, block + "in_proj_q.1.weight_v", 0) if blocks else 16,
        attn_dv=size(tensors, block + "out_proj.c1c.weight_v", 1) // 2 if blocks else 128,
        n_logistic_mix=size(tensors, "output_conv.weight_v", 0) // (3 * colours + 1),
        n_cond_classes=classes,
        condition=(options.condition_kind or "label") if classes else None,
        n_bits=8 if options.bits is None else options.bits,
        approximate_first_position=True,
    )


def _take_averages(module: nn.Module, path: str | os.PathLike[str], findings: list[str]) -> None:
    """Put the averages of the optimizer's state into the module's parameters. Raises CheckpointError."""
    content, sha256 = read_file(path)
    name = one_line(os.fspath(path))
    state, groups = (content.get(key) if isinstance(content, Mapping) else None for key in ("state", "param_groups"))
    if not isinstance(state, Mapping) or not isinstance(groups, list):
        raise CheckpointError(f"{name} is not an optimizer's state (state, param_groups), as optim_checkpoint.pt is")
    keys = [key for group in groups if isinstance(group, Mapping) for key in group.get("params", ())]
    parameters = dict(module.named_parameters())
    if len(keys) != len(parameters):
        raise CheckpointError(f"{name} is of {len(keys)} parameters, but the model has {len(parameters)}")
    for key, (parameter, target) in zip(keys, parameters.items(), strict=True):
        entry = state.get(key)
        average = entry.get("ema") if isinstance(entry, Mapping) else None
        if not isinstance(average, Tensor) or average.shape != target.shape or not average.isfinite().all():
            raise CheckpointError(
                f"{name} has no usable average ('ema') of shape {list(target.shape)} for {parameter}"
            )
        target.data = average.detach().to(target.dtype).contiguous()
    findings.append(f"took the averaged weights of {name}, sha256 {sha256}")
