"""What one walk over a trace knows, and the signal that starts another one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.lowering.tokens import Tokens
from pixelsnail_infer.export.lowering.views import View
from pixelsnail_infer.export.tracing.traced import Ref, TraceNode, references

__all__ = ["Flip", "Lowering"]


class Flip(Exception):
    """A product must be read in another way: its keys are its first operand, or its constant factor has positions.
    `error` is what is wrong with the reading at hand, if no other one gets further."""

    def __init__(self, product: int, error: ModelError) -> None:
        super().__init__(str(error))
        self.product, self.error = product, error


@dataclass(slots=True)
class Lowering:
    """State of one walk: the traced values so far, the canvas, and how often each product's reading was changed."""

    shape: tuple[int, int]
    readings: dict[int, int]
    values: dict[int, Any] = field(default_factory=dict)
    item: int = 0

    def product(self, readings: int) -> tuple[int, dict[str, int]]:
        """How to read the product at hand, which has so many `readings`, and the attribute that lets it be changed."""
        reading = self.readings.get(self.item, 0)
        return reading, {"product": self.item} if reading < readings - 1 else {}

    def get(self, tree: Any) -> Any:
        """Arguments with references replaced by views."""
        if isinstance(tree, Ref):
            return self.values[tree.index]
        if isinstance(tree, (list, tuple)):
            return [self.get(item) for item in tree]
        return tree

    def views(self, item: TraceNode) -> bool:
        """Whether any argument is a view; otherwise all are constants."""
        return any(isinstance(self.values[k], (View, Tokens)) for k in references((item.args, item.kwargs)))
