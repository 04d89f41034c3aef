"""Which options concern which models: what has no meaning for a model is refused, not ignored."""

from __future__ import annotations

import argparse

from pixelsnail_infer.checkpoints import LoadedCheckpoint
from pixelsnail_infer.errors import PixelsnailError

__all__ = ["CODECS", "refuse_beside_own_model", "refuse_idle_options"]

IMAGES = ("pixelsnail", "pixel-models")
CODECS = ("vq-vae", "vq-first-stage")
FAMILIES = {
    "n_head": ("vq-prior", "pixel-models"), "condition_kind": (*IMAGES, "pixelcnn"), "elu_inplace": ("vq-prior",),
    "upsample": ("vq-prior",), "no_condition": ("vq-prior",), "arch": ("pixelsnail",), "no_ema": ("pixelsnail",),
    "nonlinearity": ("pixelsnail",), "ema": ("pixel-models",), "approximate": ("pixel-models",),
    "bits": ("pixel-models",), "round": IMAGES, "unsafe_pickle": ("pixelcnn",), "part": CODECS,
    "relu_inplace": ("vq-vae",),
}
TENSORFLOW = ("no_ema", "nonlinearity")  # of the original PixelSNAIL's two formats
OWN = {"own_model": "--model", "model_args": "--model-args", "levels": "--levels", "mixture": "--mixture",
       "condition": "--condition"}


def refuse_idle_options(args: argparse.Namespace, checkpoint: LoadedCheckpoint, tensorflow: bool) -> None:
    """Raise `PixelsnailError` for an option that was given but does not concern the recognised model."""
    for option in (name for name in OWN if _given(args, name)):
        raise PixelsnailError(f"{OWN[option]} goes with a class of your own (--model FILE.py:CLASS); {args.checkpoint} "
                              f"is taken as a {checkpoint.family}, which the file describes.")
    for option, families in FAMILIES.items():
        if _given(args, option) and checkpoint.family not in families:
            raise PixelsnailError(f"{_flag(option)} has no meaning for a {checkpoint.family}, as {args.checkpoint} is: "
                                  f"it is for {' and '.join(families)}. Leave it out.")
    for option in TENSORFLOW:
        if _given(args, option) and not tensorflow:
            raise PixelsnailError(f"{_flag(option)} is for TensorFlow checkpoints, and {args.checkpoint} is none. "
                                  "Leave it out.")
    condition = getattr(checkpoint.config, "condition", None)
    if _given(args, "upsample") and condition != "codes":
        raise PixelsnailError("--upsample has no meaning for a model that is not conditioned on codes. Leave it out.")
    if _given(args, "condition_kind") and condition is None:
        raise PixelsnailError("--condition-kind has no meaning for a model without conditions. Leave it out.")


def refuse_beside_own_model(args: argparse.Namespace) -> None:
    """Raise `PixelsnailError` for an option of the known families beside `--model`."""
    for option in FAMILIES:
        if _given(args, option) and option != "round":
            raise PixelsnailError(f"{_flag(option)} is for checkpoints of known families and has no meaning with "
                                  "--model; give the class what it needs by --model-args.")


def _given(args: argparse.Namespace, option: str) -> bool:
    return getattr(args, option, None) not in (None, False)


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")
