"""Winograd's form of a convolution along one axis: fewer multiplications for several neighbouring results at once.

F(m, r) gives m results of r taps with m + r - 1 products instead of m r: data and weights are transformed, multiplied
point by point, and their products transformed into results. The weights are transformed once, at export, in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch

__all__ = ["Winograd", "winograd"]

POINTS = tuple(Fraction(twice, 2) for twice in (0, 2, -2, 4, -1, 1, -4))  # and infinity; so many as round the least
MOST_RESULTS = 4  # more save little beyond that, and round ten times as coarsely

Matrix = list[list[Fraction]]


@dataclass(frozen=True, slots=True)
class Winograd:
    """F(`results`, `taps`) for a line of `width` results, which is cut into tiles."""

    results: int
    taps: int
    width: int

    @property
    def points(self) -> int:
        """Products for a tile, and also how many numbers it reads."""
        return self.results + self.taps - 1

    @property
    def starts(self) -> list[int]:
        """Where the tiles begin; the last one ends with the line, over what the one before it gives too."""
        return [min(start, self.width - self.results) for start in range(0, self.width, self.results)]

    @property
    def columns(self) -> torch.Tensor:
        """The column that each tile reads for each point, counted from the first tap's, int64 `[points, tiles]`."""
        return torch.arange(self.points)[:, None] + torch.tensor(self.starts)[None]

    @property
    def places(self) -> list[int]:
        """For each column of the line its place among the tiles' results, of which some may be there twice."""
        tile = [column // self.results for column in range(self.width)]
        return [tile[column] * self.results + column - self.starts[tile[column]] for column in range(self.width)]

    @property
    def of_data(self) -> torch.Tensor:
        """`[points, points]`: of what a tile reads."""
        return _tensor([_from_roots(POINTS[:self.points - 1], leave_out=k) for k in range(self.points)])

    @property
    def of_weights(self) -> torch.Tensor:
        """`[points, taps]`: of the taps."""
        finite, rows = POINTS[:self.points - 1], Matrix()
        for point in finite:
            scale = Fraction(1)
            for other in finite:
                scale *= point - other if other != point else 1
            rows.append([power / scale for power in _powers(point, self.taps)])
        return _tensor([*rows, _at_infinity(self.taps)])

    @property
    def of_results(self) -> torch.Tensor:
        """`[results, points]`: of the products."""
        rows = [_powers(point, self.results) for point in POINTS[:self.points - 1]]
        return _tensor([*rows, _at_infinity(self.results)]).T

    def __str__(self) -> str:
        return f"F({self.results}, {self.taps})"


def winograd(taps: int, width: int) -> Winograd | None:
    """The form for so many taps on a line; None where there is none."""
    results = min(MOST_RESULTS, len(POINTS) + 2 - taps, width)
    return Winograd(results, taps, width) if taps > 1 and results > 1 else None


def _powers(point: Fraction, count: int) -> list[Fraction]:
    return [point**k for k in range(count)]


def _at_infinity(count: int) -> list[Fraction]:
    return [Fraction(0)] * (count - 1) + [Fraction(1)]


def _from_roots(roots: tuple[Fraction, ...], leave_out: int) -> list[Fraction]:
    """The coefficients of the polynomial with all these roots but one, the lowest first, `[len(roots) + 1]`."""
    found = [Fraction(1)]
    for root in (root for k, root in enumerate(roots) if k != leave_out):
        found = [above - root * here for above, here in zip([Fraction(0), *found], [*found, Fraction(0)], strict=True)]
    return found + [Fraction(0)] * (len(roots) + 1 - len(found))


def _tensor(rows: Matrix) -> torch.Tensor:
    return torch.tensor([[float(number) for number in row] for row in rows], dtype=torch.float64)
