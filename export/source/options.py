"""What is asked when a checkpoint is exported, or an export proven again: all options of the commands, and Python's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pixelsnail_infer.checkpoints import CheckpointOptions
from pixelsnail_infer.checkpoints.option import option, path, sizes_of, switch, text, whole
from pixelsnail_infer.checkpoints.options import CODEC, IMAGE, IMAGE_FAMILIES
from pixelsnail_infer.codec import CODEC_KINDS
from pixelsnail_infer.export.analysis.row_forms import DEFAULT_ROW_FORM, ROW_FORMS
from pixelsnail_infer.export.plans import CODEC_PLANS, PRIOR_PLANS
from pixelsnail_infer.export.schedules import DEFAULT_SCHEDULE, SCHEDULES
from pixelsnail_infer.export.source.declared import EXPECTED, condition_specs, named_condition
from pixelsnail_infer.export.source.user_model import model_arguments
from pixelsnail_infer.export.writing.formats import CHOICES, DEFAULT_FORMAT
from pixelsnail_infer.manifest import ConditionSpec
from pixelsnail_infer.plan import DEFAULT_PLAN, Plan

__all__ = ["CODECS", "OWN", "ExportOptions", "SourceOptions"]

CODECS = ("vq-vae", "vq-first-stage")  # the families that have a decoder and an encoder
OWN = "a model of your own"
WRITING = "how the graphs compute"


def _levels(value: object) -> int:
    if (levels := whole(value)) < 1:
        raise ValueError("the number of codes, 1 or more")
    return levels


def _percent(value: object) -> float:
    try:
        share = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        share = -1.0
    if not 0 <= share < float("inf"):
        raise ValueError("a percentage, 0 or more, such as 0.5")
    return share


def _mixture(value: object) -> tuple[int, int]:
    sizes = sizes_of(value, 2)
    if sizes is None or sizes[1] not in (1, 3):
        raise ValueError("logistics x channels, such as 10x3 for colour or 10x1 for grey")
    return sizes[0], sizes[1]


def _arguments(value: object) -> dict[str, Any]:
    """Also of a dict that JSON can hold, so that the command can make the same model."""
    if isinstance(value, str):
        return model_arguments(value)
    try:
        again: dict[str, Any] = json.loads(json.dumps(value))
        same = isinstance(value, Mapping) and again == value
    except (TypeError, ValueError):
        same = False
    if not same:
        raise ValueError("a dict of what JSON has: text, numbers, lists (no tuples), dicts by text, True, False, None")
    return again


def _conditions(value: object) -> tuple[ConditionSpec, ...] | None:
    if isinstance(value, Mapping):
        return condition_specs(value) or None
    several = [value] if isinstance(value, (str, ConditionSpec)) else value
    if not isinstance(several, Sequence):
        raise ValueError(f"a dict by name, or a list, of {EXPECTED}")
    return condition_specs([named_condition(one) if isinstance(one, str) else one for one in several]) or None


def _names(part: str) -> tuple[str, ...]:
    """What the writers have of a schedule, target or precision."""
    return tuple(dict.fromkeys(getattr(plan, part) for plan in (*PRIOR_PLANS, *CODEC_PLANS)))


@dataclass(frozen=True, slots=True)
class SourceOptions(CheckpointOptions):
    """What the checkpoint is, and for a model of one's own what it becomes."""

    part: Literal["decoder", "encoder"] | None = option(
        None, "which half to export (default decoder)", CODEC, choices=CODEC_KINDS, families=CODECS)
    round: bool = option(
        False, "round every drawn value to the 8-bit grid before it is fed back", IMAGE, switch,
        families=IMAGE_FAMILIES)
    model: str | None = option(
        None, "the class, or a function that returns a module; forward(pixels, **conditions) gives logits", OWN, text,
        metavar="FILE.py:CLASS")
    model_args: dict[str, Any] | None = option(
        None, "what it is made with, a JSON object by the names of its arguments; lists stay lists", OWN, _arguments,
        metavar="JSON")
    levels: int | None = option(
        None, "pixels are codes 0 ... N-1, int64 [B, H, W]", OWN, _levels, metavar="N")
    mixture: tuple[int, int] | None = option(
        None, "pixels are numbers in [-1, 1], float [B, CHANNELS, H, W], and the output a mixture of N_MIX logistics",
        OWN, _mixture, metavar="N_MIXxCHANNELS")
    condition: tuple[ConditionSpec, ...] | None = option(
        None, "an argument of forward, once for each: NAME:class:LEVELS, NAME:codes:ROWSxCOLUMNS:LEVELS, "
        "NAME:vector:NUMBERS or NAME:map:CHANNELSxROWSxCOLUMNS", OWN, _conditions, metavar="NAME:KIND:...", many=True)


@dataclass(frozen=True, slots=True)
class ExportOptions(SourceOptions):
    """What the checkpoint is, and how the graphs compute."""

    schedule: str = option(
        DEFAULT_SCHEDULE, "the order in which pixels are drawn: row by row; auto, both: also in waves, a pixel of many "
        "rows at a time, where the network has no attention (ONNX, float32; the runtime chooses); wavefront: in waves "
        "or not at all", WRITING, choices=SCHEDULES)
    precision: str = option(
        DEFAULT_PLAN.precision, "what the graphs compute in; int8 halves the time on CPUs (products between the first "
        "and the last; ONNX only), float16 and bfloat16 halve files and caches and are for GPUs (sums, softmax, logits "
        "and draws stay float32; bfloat16 goes with --format torchscript)", WRITING,
        choices=_names("precision"))
    codes: str | None = option(
        None, "real images on which the change in bits per dimension is measured with less than float32; with "
        "conditions a .npz of the arrays codes and one for each condition (default: images that the model draws)",
        WRITING, path, metavar="FILE.npy")
    calibrate: str | None = option(
        None, "real images from which int8 learns how large the numbers in the network are, as --codes (default: "
        "images that the model draws)", WRITING, path, metavar="FILE.npy")
    max_bpd_change: float = option(
        1.0, "how many percent the bits per dimension may change with less than float32 (default 1); more is refused",
        WRITING, _percent, metavar="PERCENT")
    row_form: str = option(
        DEFAULT_ROW_FORM, "how the row graph multiplies in float32: auto, by Winograd's form where that is faster at "
        "every batch size; plain, nowhere; winograd, wherever it can, which is faster for many images at once only",
        WRITING, choices=ROW_FORMS)
    target: str = option(
        DEFAULT_PLAN.target, "what the graphs are written for: any engine, or one of them", WRITING,
        choices=_names("target"))
    format: str = option(
        DEFAULT_FORMAT, "onnx: files for any engine, OUT.onnx; torchscript: one archive for PyTorch, OUT.pt; both: the "
        "two beside each other, named after either", WRITING, choices=CHOICES)

    @property
    def plan(self) -> Plan:
        """Target and precision as one value."""
        return Plan(target=self.target, precision=self.precision)
