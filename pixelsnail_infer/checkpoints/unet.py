"""The denoising U-Nets of openai/improved-diffusion: EMA files and bare state dicts of UNetModel and SuperResModel.

The file shows the network but for its heads and the image's size, and nothing of the diffusion that it was trained for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from torch import Tensor

from pixelsnail_infer.checkpoints.building import build, size
from pixelsnail_infer.checkpoints.options import CheckpointOptions
from pixelsnail_infer.denoiser import DiffusionSpec
from pixelsnail_infer.errors import CheckpointError, ManifestError, ModelError
from pixelsnail_infer.models.unet import UNet
from pixelsnail_infer.models.unet_config import UNetConfig

__all__ = ["LATENT", "is_unet", "read_unet"]

LATENT = "model.diffusion_model."
"""Where a latent diffusion model keeps a network of this kind, which denoises latents and not images."""
SIZES = {(1, 1, 2, 2, 4, 4): 256, (1, 2, 3, 4): 64, (1, 2, 2, 2): 32}  # of the public script, by the levels' widths
HEADS, STEPS, SCHEDULE, PREDICT, SIGMA = 4, 1000, "linear", "eps", "large"  # its defaults
T = TypeVar("T")
FACTOR = 4  # of super-resolution, from 64 to 256


def is_unet(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of this family."""
    return {"time_embed.0.weight", "input_blocks.0.0.weight", "middle_block.1.qkv.weight", "out.2.weight"} \
        <= tensors.keys()


def read_unet(
    tensors: dict[str, Tensor], args: Mapping[str, object], options: CheckpointOptions, findings: list[str]
) -> UNet:
    """The network. Appends to `findings`. Raises CheckpointError."""
    del args  # the public code saves none
    levels, assumed = _levels(tensors), list[str]()
    attending = (k for k in range(len(levels)) if f"input_blocks.{_first(levels, k)}.1.qkv.weight" in tensors)
    width = size(tensors, "input_blocks.0.0.weight", 0)
    mult = tuple(_times(widths[0], width) for widths in levels)
    inputs, outputs = size(tensors, "input_blocks.0.0.weight", 1), size(tensors, "out.2.weight", 0)
    channels = inputs if inputs in (1, 3) else inputs // 2
    shape = _shape(mult, options, assumed)
    low_res = _low_res(inputs != channels, shape, options, assumed)
    learned = outputs == 2 * channels
    try:
        config = UNetConfig(
            shape=shape, channels=channels, width=width, mult=mult, n_res_block=len(levels[0]),
            attention=tuple(attending),
            n_head=_assumed(options.n_head, HEADS, "{} attention heads", "--n-head", assumed),
            classes=size(tensors, "label_emb.weight", 0, 2) if "label_emb.weight" in tensors else None,
            low_res=low_res, learn_sigma=learned, scale_shift=_scale_shift(tensors),
            diffusion=_diffusion(learned, options, assumed), n_head_upsample=options.n_head_upsample)
    except (ModelError, ManifestError) as error:
        raise CheckpointError(f"the checkpoint describes no valid denoiser: {error}") from None
    findings += [_described(config), *assumed]
    return build(lambda: UNet(config), tensors, what="a denoising U-Net")


def _levels(tensors: Mapping[str, Tensor]) -> list[list[int]]:
    """The widths of the residual layers on the way down, by level."""
    levels: list[list[int]] = [[]]
    for k in range(1, len({name.split(".")[1] for name in tensors if name.startswith("input_blocks.")})):
        if f"input_blocks.{k}.0.op.weight" in tensors:
            levels.append([])
        else:
            levels[-1].append(size(tensors, f"input_blocks.{k}.0.out_layers.3.weight", 0))
    if any(len(widths) != len(levels[0]) or len(set(widths)) != 1 for widths in levels):
        raise CheckpointError(f"a denoising U-Net whose levels have residual layers of widths {levels}; as many of one "
                              "width are expected in each")
    return levels


def _first(levels: list[list[int]], level: int) -> int:
    """The first block of a level on the way down."""
    return 1 + level * (len(levels[0]) + 1)


def _times(channels: int, width: int) -> int:
    if channels % width:
        raise CheckpointError(f"a denoising U-Net with a level of {channels} channels, which is no multiple of the "
                              f"first convolution's {width}")
    return channels // width


def _scale_shift(tensors: Mapping[str, Tensor]) -> bool:
    told = size(tensors, "input_blocks.1.0.emb_layers.1.weight", 0, 2)
    return told == 2 * size(tensors, "input_blocks.1.0.out_layers.3.weight", 0)


def _shape(mult: tuple[int, ...], options: CheckpointOptions, assumed: list[str]) -> tuple[int, int]:
    if options.shape is not None:
        return options.shape
    if mult not in SIZES:
        raise CheckpointError(f"a denoising U-Net with levels of {', '.join(map(str, mult))} times the first width, of "
                              "which no image size is usual; give --shape HxW")
    assumed.append(f"assumed images of {SIZES[mult]}x{SIZES[mult]}, as is usual with these levels (--shape)")
    return SIZES[mult], SIZES[mult]


def _low_res(enlarges: bool, shape: tuple[int, int], options: CheckpointOptions, assumed: list[str]
             ) -> tuple[int, int] | None:
    if not enlarges:
        if options.low_res is not None:
            raise CheckpointError("--low-res is for super-resolution models, and this one takes no small picture; "
                                  "leave it out")
        return None
    if options.low_res is not None:
        return options.low_res
    small = max(1, shape[0] // FACTOR), max(1, shape[1] // FACTOR)
    assumed.append(f"assumed small pictures of {small[0]}x{small[1]} (--low-res)")
    return small


def _diffusion(learned: bool, options: CheckpointOptions, assumed: list[str]) -> DiffusionSpec:
    steps = _assumed(options.diffusion_steps, STEPS, "{} diffusion steps", "--diffusion-steps", assumed)
    schedule = _assumed(options.noise_schedule, SCHEDULE, "the noise schedule {}", "--noise-schedule", assumed)
    predict = _assumed(options.predict, PREDICT, "that the network predicts {}", "--predict", assumed)
    rescale = options.rescale_timesteps
    if rescale is None:
        assumed.append("assumed that times are rescaled to 0 to 1000 (--rescale-timesteps no)")
        rescale = True
    if learned and options.sigma is not None:
        raise CheckpointError("--sigma is for models that do not learn the variance, and this one does; leave it out")
    sigma = SIGMA if learned else _assumed(options.sigma, SIGMA, "the fixed variance {}", "--sigma", assumed)
    return DiffusionSpec(steps=steps, noise_schedule=schedule, predict=predict,
                         variance="learned-range" if learned else f"fixed-{sigma}", rescale_timesteps=rescale)


def _assumed(given: T | None, usual: T, what: str, flag: str, assumed: list[str]) -> T:
    """What was given, or what is usual; then says so."""
    if given is None:
        assumed.append(f"assumed {what.format(usual)} ({flag})")
    return usual if given is None else given


def _described(config: UNetConfig) -> str:
    attending = ", ".join(f"{config.shape[0] >> k}x{config.shape[1] >> k}" for k in config.attention) or "the coarsest"
    more = [f"{config.classes} classes"] if config.classes is not None else []
    more += ["super-resolution"] if config.low_res is not None else []
    more += ["a learned variance"] if config.learn_sigma else []
    more += ["scale and shift"] if config.scale_shift else []
    return (f"denoising U-Net of {config.shape[0]}x{config.shape[1]}, {config.channels} channels: widths "
            f"{', '.join(map(str, config.widths))}, {config.n_res_block} residual layers each, attention at {attending}"
            + "".join(f", {one}" for one in more))
