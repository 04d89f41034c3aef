"""Sequences of more or fewer tokens than the canvas has pixels: a start token, conditions in front, a last one dropped.

The last tokens of any sequence lie on the canvas: the logits of all pixels are the last ones of what a network gives.
Tokens before those see conditions alone, and are a map of one row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pixelsnail_infer.export.lowering.views import Atom, Dim, View

__all__ = ["KEYS", "POSITIONS", "Part", "Tokens", "first"]

POSITIONS, KEYS = "yx", "YX"
TOKEN = "t"  # the kind of an atom


@dataclass(frozen=True, slots=True)
class Tokens:
    """A traced tensor of which one dimension is such a sequence, in two parts that are alike in all other dimensions.

    `kind` says whether its tokens are positions or keys. `front` holds the tokens before the canvas's; where there is
    none, the sequence is shorter than the canvas, whose first positions are none of it and hold anything. `hidden`:
    keys on the canvas that weigh nothing, whatever `canvas` says of them.
    """

    kind: str
    count: int
    front: Part | None
    canvas: Part
    hidden: bool = False

    @property
    def dims(self) -> tuple[Dim, ...]:
        """As a view has them, with one atom for all tokens."""
        found = []
        for dim in self.canvas.dims:
            atoms: list[Atom] = []
            for atom in dim:
                if atom.kind not in self.kind:
                    atoms.append(atom)
                elif atom.size > 1 and self.token not in atoms:
                    atoms.append(self.token)
            found.append(tuple(atoms))
        return tuple(found)

    @property
    def token(self) -> Atom:
        return Atom(TOKEN, self.count, (POSITIONS, KEYS).index(self.kind))

    @property
    def axis(self) -> int:
        """Which dimension it is, from the last one: -1 and below."""
        sizes = [math.prod(a.size for a in dim if a.kind in self.kind) for dim in self.canvas.dims]
        return sizes.index(max(sizes)) - len(sizes)

    @property
    def inside(self) -> int:
        """How many of the canvas's positions there are."""
        return math.prod(a.size for dim in self.canvas.dims for a in dim if a.kind in self.kind)

    def sizes(self) -> list[tuple[str, int]]:
        """The parts that there are, by name, each with how many tokens its tensor has."""
        front = [("front", self.count - self.inside)] if self.front is not None else []
        return [*front, ("canvas", self.inside)]


Part = View | Tokens


def first(tree: Any) -> Tokens | None:
    """The first sequence among arguments; one of positions before one of keys."""
    found = list(_all(tree))
    return next((one for one in found if one.kind == POSITIONS), found[0] if found else None)


def _all(tree: Any) -> list[Tokens]:
    if isinstance(tree, Tokens):
        return [tree]
    return [one for item in tree for one in _all(item)] if isinstance(tree, (list, tuple)) else []
