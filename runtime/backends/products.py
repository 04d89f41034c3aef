"""The matrix products of a graph: how many multiplications they are, and what they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pixelsnail_infer.runtime.backends.protocol import Backend, BoundGraph

__all__ = ["Product", "ProductCounter"]


@dataclass(frozen=True, slots=True)
class Product:
    """`batch` products of `[m, k]` and `[k, n]` in one operation of an engine.

    `weight_bytes` is what of its operands lies in the file, with a bias, and 0 for a product of two values.
    `value_bytes` is the larger operand of a product of two values, such as keys. None where the engine does not tell.
    """

    batch: int
    m: int
    k: int
    n: int
    weight_bytes: int | None = None
    value_bytes: int | None = None

    @property
    def multiplications(self) -> int:
        """Each is followed by one addition."""
        return self.batch * self.m * self.k * self.n

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """What decides how fast it is: (batch, m, k, n)."""
        return self.batch, self.m, self.k, self.n

    def __str__(self) -> str:
        times = f"{self.batch} of " if self.batch > 1 else ""
        return f"{times}[{self.m}, {self.k}] x [{self.k}, {self.n}]"


class ProductCounter(Backend, Protocol):
    """An engine that is slow and looks on: it tells the products of the parts that it ran."""

    def products(self, part: str) -> Sequence[Product]:
        """The products of one run of a part, which was run exactly once, in the order in which they ran; it cannot run
        again. Raises `EngineError` for one that is not counted."""
        ...

    def repeated(self, product: Product, copies: int, engine: Backend) -> BoundGraph:
        """`copies` of a product on operands of their own, but one weight, as `engine` computes them."""
        ...
