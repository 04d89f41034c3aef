"""Schedules that an export may have: row by row, which every model has, and in waves."""

from __future__ import annotations

from collections.abc import Collection

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.artifacts import WAVE_FORMATS
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.plan import DEFAULT_PLAN, Plan

__all__ = ["DEFAULT_SCHEDULE", "SCHEDULES", "check_schedule", "waves_noted"]

SCHEDULES = ("raster", "auto", "both", "wavefront")
"""`auto` and `both` have waves too where that is possible, and the runtime chooses; `wavefront` is refused where it is
not, and drawn so."""
DEFAULT_SCHEDULE = "raster"


def check_schedule(schedule: str, plan: Plan, formats: Collection[str]) -> str:
    """Why an export of this plan in these formats has no waves, "" if nothing speaks against them. Raises `ModelError`
    where they are asked for, and for a schedule that is none."""
    if schedule not in SCHEDULES:
        *most, last = map(repr, SCHEDULES)
        raise ModelError(f"schedule is {schedule!r}, expected {', '.join(most)} or {last}.")
    if plan != DEFAULT_PLAN:
        return _without_waves(schedule, f"waves are of {DEFAULT_PLAN.precision} only")
    if not {*WAVE_FORMATS} & {*formats}:
        return _without_waves(schedule, f"the format {' and '.join(formats)} has no waves, only {WAVE_FORMATS[0]}")
    return ""


def waves_noted(schedule: str, before: str, compiled: Compiled) -> tuple[str, ...]:
    """What the manifest notes where waves were asked for and there are none, `before` or after the analysis. Raises
    `ModelError` where nothing but waves will do."""
    reason = before or _without_waves(schedule, compiled.waveless)
    return (f"Drawn row by row only: {reason.removesuffix('.')}.",) if reason and schedule != "raster" else ()


def _without_waves(schedule: str, reason: str) -> str:
    if reason and schedule == "wavefront":
        raise ModelError(f"{reason.removesuffix('.')}; choose --schedule raster.")
    return reason
