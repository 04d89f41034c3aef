"""Where random architectures take their choices from: hypothesis, which shrinks them, or a seed, for a script."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Choices:
    """`pick(n)` gives an integer in [0, n). Simple things come first, so that small integers mean simple networks."""

    pick: Callable[[int], int]
    text: list[str] = field(default_factory=list)  # what was made of them, a line per layer

    def of(self, options: Sequence[T]) -> T:
        return options[self.pick(len(options))]

    def chance(self, one_in: int) -> bool:
        return self.pick(one_in) == one_in - 1

    def up_to(self, most: int) -> int:
        """0 … most."""
        return self.pick(most + 1)

    def several(self, options: Sequence[T], most: int) -> list[T]:
        return [self.of(options) for _ in range(self.up_to(most))]


def seeded(seed: int) -> Choices:
    return Choices(random.Random(seed).randrange)
