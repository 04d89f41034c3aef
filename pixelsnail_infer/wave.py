"""The wavefront schedule: which pixels are drawn together, and what a manifest says of it.

Pixel (i, j) is drawn at time lead + j + slope * i: lanes of a row begin at column -lead, where nothing is drawn. Pure
functions, which take the shape [H, lead + W] of the lanes, and a frozen description; both sides share them.
"""

from __future__ import annotations

from dataclasses import dataclass

from pixelsnail_infer.checks import EXPORT_AGAIN, among, at_least
from pixelsnail_infer.errors import ManifestError
from pixelsnail_infer.tensors import StateSpec

__all__ = ["SCHEDULES", "WaveSpec", "live_rows", "most_live", "wave_count"]

SCHEDULES = ("auto", "raster", "wavefront")
"""What a caller of the runtime may ask for."""


@dataclass(frozen=True, slots=True)
class WaveSpec:
    """The wave graphs: `slope`; `span`, for how many waves the ahead graph runs at once, and `ahead`, how many numbers
    it gives per lane (both 1 and None without one); their own states. `preferred`: it was exported to be drawn so.
    `lead`: how many columns ahead of its pixel a lane computes values; None is 0."""

    slope: int
    span: int
    states: tuple[StateSpec, ...]
    parameters: int
    preferred: bool
    ahead: int | None = None
    lead: int | None = None

    def __post_init__(self) -> None:
        at_least(self.slope, 0, "wave.slope")
        at_least(self.span, 1, "wave.span")
        at_least(self.parameters, 0, "wave.parameters")
        if self.lead is not None:
            at_least(self.lead, 1, "wave.lead")
        if (self.ahead is None) != (self.span == 1):
            raise ManifestError(f"wave.ahead goes with a span of more than 1, which is {self.span}; {EXPORT_AGAIN}.")
        if self.ahead is not None:
            at_least(self.ahead, 1, "wave.ahead")
        for state in self.states:
            among(state.writer, ("wave",), f"wave.states: {state.name}: writer")
        if len({state.name for state in self.states}) != len(self.states):
            raise ManifestError(f"wave.states names one entry twice; {EXPORT_AGAIN}.")

    @property
    def parts(self) -> tuple[str, ...]:
        """The graphs that it takes."""
        return ("wave",) if self.ahead is None else ("wave", "ahead")

    def lanes(self, shape: tuple[int, int]) -> tuple[int, int]:
        """How many rows and columns lanes go through for a canvas [H, W]: the first `lead` columns draw nothing."""
        return shape[0], shape[1] + (self.lead or 0)


def wave_count(shape: tuple[int, int], slope: int) -> int:
    """How many waves there are for lanes of this shape."""
    return shape[1] + slope * (shape[0] - 1)


def live_rows(shape: tuple[int, int], slope: int, time: int) -> range:
    """The rows that have a lane at this time, at column `time - slope * row` of theirs."""
    height, width = shape
    if slope == 0:
        return range(height)
    return range(max(0, -((width - 1 - time) // slope)), min(height, time // slope + 1))


def most_live(shape: tuple[int, int], slope: int) -> int:
    """The most rows that are live at once."""
    return shape[0] if slope == 0 else min(shape[0], -(-shape[1] // slope))
