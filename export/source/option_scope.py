"""Which options concern which models: what has no meaning for a model is refused, not ignored."""

from __future__ import annotations

import os
from dataclasses import fields

from pixelsnail_infer.checkpoints import LoadedCheckpoint
from pixelsnail_infer.checkpoints.option import flag, given, option_of
from pixelsnail_infer.checkpoints.tf_checkpoint import tensorflow_path
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.source.options import CODECS, OWN, ExportOptions, SourceOptions
from pixelsnail_infer.plan import DEFAULT_PLAN, INT8_PLAN

__all__ = ["refuse_beside_own_model", "refuse_idle_measures", "refuse_idle_options", "refuse_row_form"]

KAMEN = "pixel-models"
TENSORFLOW = ("no_ema", "nonlinearity")  # of families that have files of PyTorch, too


def refuse_idle_options(options: SourceOptions, path: str | os.PathLike[str], checkpoint: LoadedCheckpoint) -> None:
    """Raise `PixelsnailError` for an option that was given but does not concern the model recognised in `path`."""
    name, asked = os.fsdecode(path), [place for place in fields(options) if given(options, place.name)]
    for place in asked:
        if option_of(place).group == OWN:
            raise PixelsnailError(f"{flag(place.name)} goes with a class of your own (--model FILE.py:CLASS); {name} "
                                  f"is taken as a {checkpoint.family}, which the file describes.")
    for place in asked:
        families = option_of(place).families
        if families and checkpoint.family not in families:
            raise PixelsnailError(f"{flag(place.name)} has no meaning for a {checkpoint.family}, as {name} is: it is "
                                  f"for {' and '.join(families)}. Leave it out.")
    if checkpoint.family in CODECS and any(place.name == "schedule" for place in asked):
        raise PixelsnailError(f"--schedule has no meaning for a {checkpoint.family}, as {name} is: codecs take "
                              "whole images. Leave it out.")
    if options.ema_file is not None and checkpoint.family != KAMEN:
        raise PixelsnailError(f"--ema has no meaning for a {checkpoint.family}, as {name} is, with a file of its own: "
                              f"that is for {KAMEN}. Leave the file out, and it takes the averages beside the weights.")
    if tensorflow_path(path) is None:
        for place in asked:
            if place.name in TENSORFLOW:
                raise PixelsnailError(f"{flag(place.name)} is for TensorFlow checkpoints, and {name} is none. Leave it "
                                      "out.")
    condition = getattr(checkpoint.config, "condition", None)
    if options.upsample is not None and condition != "codes":
        raise PixelsnailError("--upsample has no meaning for a model that is not conditioned on codes. Leave it out.")
    if options.condition_kind is not None and condition is None:
        raise PixelsnailError("--condition-kind has no meaning for a model without conditions. Leave it out.")


def refuse_idle_measures(options: ExportOptions) -> None:
    """Raise `PixelsnailError` for an option about what less precision costs where nothing is measured."""
    if options.calibrate is not None and options.precision != INT8_PLAN.precision:
        raise PixelsnailError(f"--calibrate is for --precision int8: it has no meaning for {options.precision}. Leave "
                              "it out.")
    for name in ("codes", "max_bpd_change"):
        if given(options, name) and options.precision == DEFAULT_PLAN.precision:
            raise PixelsnailError(f"{flag(name)} is about what less precision costs: it has no meaning for --precision "
                                  f"{options.precision}. Leave it out.")


def refuse_row_form(options: ExportOptions, family: str) -> None:
    """Raise `PixelsnailError` for a form of the row graph where a model of this family has none."""
    if given(options, "row_form"):
        raise PixelsnailError(f"--row-form has no meaning for a {family}, which has no row graph. Leave it out.")


def refuse_beside_own_model(options: SourceOptions) -> None:
    """Raise `PixelsnailError` for an option of the known families beside `model`."""
    if options.ema_file is not None:
        raise PixelsnailError("--ema is for checkpoints of known families where it names a file; without one it takes "
                              "the averages beside the weights.")
    for place in fields(options):
        if option_of(place).families and place.name != "round" and given(options, place.name):
            raise PixelsnailError(f"{flag(place.name)} is for checkpoints of known families and has no meaning with "
                                  "--model; give the class what it needs by --model-args.")
