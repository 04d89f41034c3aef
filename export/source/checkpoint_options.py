"""What the commands ask about a checkpoint, and what the exporter must know of the network that it holds."""

from __future__ import annotations

import argparse
from typing import Any

from pixelsnail_infer.checkpoints import CheckpointOptions, LoadedCheckpoint
from pixelsnail_infer.distributions import Categorical, Distribution, LogisticMixture
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.source.declared import sizes_of
from pixelsnail_infer.manifest import ConditionSpec

__all__ = ["add_checkpoint_options", "canvas", "checkpoint_options", "conditions_of", "law_of"]


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """What a checkpoint cannot tell of its model, by family."""
    group = parser.add_argument_group("what the checkpoint may not say")
    group.add_argument("--shape", metavar="HxW", help="the canvas: needed where the file does not tell, else a check")
    group.add_argument("--n-head", type=int, help="attention heads (default: the file's, else the public code's)")
    group.add_argument("--condition-kind", choices=("label", "vector"),
                       help="classes by number, or a weight for each, so that classes can be mixed")
    prior = parser.add_argument_group("VQ priors")
    prior.add_argument("--elu-inplace", action="store_true",
                       help="the model was trained with in-place ELU, as files from before July 2020 were")
    prior.add_argument("--upsample", type=int, help="factor from the condition's grid to the canvas (default 2)")
    prior.add_argument("--no-condition", action="store_true",
                       help="leave the condition out although the file has weights for it")
    codec = parser.add_argument_group("VQ-VAEs and VQ first stages", "--shape is the image's; default 256x256, 80x344 "
                                      "for log-mel spectrograms")
    codec.add_argument("--part", choices=("decoder", "encoder"), help="which half to export (default decoder)")
    codec.add_argument("--relu-inplace", choices=("yes", "no"), help="VQ-VAEs: whether they were trained with in-place "
                       "ReLU, as files from before January 2021 and the audio code's were")
    image = parser.add_argument_group("models of images")
    image.add_argument("--arch", metavar="NAME", help="which published PixelSNAIL a TensorFlow checkpoint is: "
                       "h12_noup_smallkey, h8_noup_smallkey, h12_pool2_smallkey or h6_shift")
    image.add_argument("--no-ema", action="store_true",
                       help="TensorFlow checkpoints: the bare variables instead of their moving averages")
    image.add_argument("--nonlinearity", choices=("elu", "relu"),
                       help="TensorFlow checkpoints: which of the two, that look alike in the file (default elu)")
    image.add_argument("--ema", metavar="FILE", help="pixel_models: the side file whose averages replace the weights")
    image.add_argument("--approximate", choices=("first-position",), help="pixel_models: its position 0 averages all "
                       "positions, which no exact step can; let it attend to nothing instead")
    image.add_argument("--bits", type=int, help="pixel_models: bits of a colour value that it was trained with (8, the "
                       "only number that is supported; the public script's default is 4)")
    image.add_argument("--round", action="store_true",
                       help="round every drawn value to the 8-bit grid before it is fed back")
    image.add_argument("--unsafe-pickle", action="store_true", help="PixelCNN saved as a whole module: unpickle it, "
                       "which RUNS WHATEVER THE FILE SAYS; only for files that you made")
    _add_own_model(parser)


def _add_own_model(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("a model of your own", "Its class is imported from your file, which runs it; the "
                                    "checkpoint is still loaded without running anything")
    own.add_argument("--model", dest="own_model", metavar="FILE.py:CLASS",
                     help="the class, or a function that returns a module; forward(pixels, **conditions) gives logits")
    own.add_argument("--model-args", metavar="JSON", help="what it is made with, a JSON object by the names of its "
                     "arguments; lists stay lists")
    own.add_argument("--levels", type=int, metavar="N", help="pixels are codes 0 ... N-1, int64 [B, H, W]")
    own.add_argument("--mixture", metavar="N_MIXxCHANNELS", help="pixels are numbers in [-1, 1], float [B, CHANNELS, "
                     "H, W], and the output a mixture of N_MIX logistics")
    own.add_argument("--condition", action="append", metavar="NAME:KIND:...", help="an argument of forward, once for "
                     "each: NAME:class:LEVELS, NAME:codes:ROWSxCOLUMNS:LEVELS, NAME:vector:NUMBERS or "
                     "NAME:map:CHANNELSxROWSxCOLUMNS")


def checkpoint_options(args: argparse.Namespace) -> CheckpointOptions:
    """The parsed options. Raises `PixelsnailError` for a malformed shape."""
    given: dict[str, Any] = {"n_head": args.n_head, "upsample": args.upsample, "arch": args.arch, "ema_file": args.ema,
                             "condition_kind": args.condition_kind, "approximate": args.approximate,
                             "nonlinearity": args.nonlinearity, "bits": args.bits, "shape": canvas(args)}
    if args.relu_inplace is not None:
        given["relu_inplace"] = args.relu_inplace == "yes"
    given = {name: value for name, value in given.items() if value is not None}
    return CheckpointOptions(elu_inplace=args.elu_inplace, no_condition=args.no_condition, no_ema=args.no_ema,
                             unsafe_pickle=args.unsafe_pickle, **given)


def canvas(args: argparse.Namespace) -> tuple[int, int] | None:
    """`--shape`, or None. Raises `PixelsnailError` for a malformed one."""
    if args.shape is None:
        return None
    sizes = sizes_of(args.shape, 2)
    if sizes is None:
        raise PixelsnailError(f"--shape is {args.shape!r}, expected rows x columns such as 32x32.")
    return sizes[0], sizes[1]


def law_of(checkpoint: LoadedCheckpoint, rounded: bool = False) -> Distribution:
    """How the network's pixels are distributed. Raises `PixelsnailError` for images of other than 8 bits."""
    config = checkpoint.config
    levels = getattr(config, "levels", None)
    if levels is not None:
        return Categorical(levels)
    if getattr(config, "n_bits", 8) != 8:
        raise PixelsnailError(f"the model's colours have {config.n_bits} bits (--bits); only 8 are supported, for the "
                              "likelihood and the draw are those of 256 levels.")
    n_mix = config.n_params // (10 if config.channels == 3 else 3)
    return LogisticMixture(n_mix=n_mix, channels=config.channels, round=rounded)


def conditions_of(checkpoint: LoadedCheckpoint) -> tuple[ConditionSpec, ...]:
    """The conditions that the network's forward takes by name."""
    config, specs = checkpoint.config, []
    for name, shape in config.condition_shapes.items():
        if name == "condition":
            specs.append(ConditionSpec(name, "codes", tuple(shape), "int64", config.levels))
        elif shape:
            specs.append(ConditionSpec(name, "vector", tuple(shape), "float32"))
        else:
            classes = config.n_label if hasattr(config, "n_label") else config.n_class
            specs.append(ConditionSpec(name, "class", (), "int64", classes))
    return tuple(specs)
