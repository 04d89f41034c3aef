"""How a model is computed: in which order of pixels, in which numbers, and for which engine its graphs are written.

The exporter and every backend hold the plans that they have; `require` refuses any other by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from pixelsnail_infer.errors import PixelsnailError

__all__ = ["DEFAULT_PLAN", "HALF_PLANS", "INT8_PLAN", "KNOWN", "Plan", "require"]

KNOWN: dict[str, tuple[str, ...]] = {"schedule": ("raster",), "target": ("generic",),
                                     "precision": ("float32", "float16", "bfloat16", "int8")}
"""Every name that a file may hold, whether or not this version has a writer or a backend for it."""

DTYPES = {**{name: name for name in ("float32", "float16", "bfloat16", "float64")}, "int8": "float32"}
"""By precision. float64 is for tests, and no file holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One way to compute a model. Any names may stand here: who has to carry a plan out refuses what they lack."""

    schedule: str = "raster"
    """The order in which pixels are drawn."""
    target: str = "generic"
    """What the graphs are written for: any engine, or one of them."""
    precision: str = "float32"
    """What the graphs compute in."""

    @property
    def dtype(self) -> str:
        """Of the floating-point numbers that go from one graph to the next: states, row results, prologue tensors. In
        half precision some are float32 all the same; a manifest says which. With int8 only products are."""
        return DTYPES[self.precision]

    def __str__(self) -> str:
        return ", ".join(f"{field.name} {getattr(self, field.name)}" for field in fields(self))


DEFAULT_PLAN = Plan()
HALF_PLANS = (Plan(precision="float16"), Plan(precision="bfloat16"))
INT8_PLAN = Plan(precision="int8")


def require(plan: Plan, has: Sequence[Plan], who: str, error: type[PixelsnailError], advice: str) -> None:
    """Raise `error` unless `who` has the plan: it names the first part of it that is in none of `has`, else all."""
    if plan in has:
        return
    for name in KNOWN:
        value, offered = getattr(plan, name), dict.fromkeys(getattr(other, name) for other in has)
        if value not in offered:
            raise error(f"{who} has no {name} {value!r}, only {' and '.join(map(repr, offered))}; {advice}.")
    raise error(f"{who} does not have these together: {plan}; it has {' or '.join(map(str, has))}; {advice}.")
