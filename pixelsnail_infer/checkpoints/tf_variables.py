"""The variables of a TensorFlow checkpoint, whichever of its two formats they are stored in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

__all__ = ["Variables"]


class Variables(Mapping[str, NDArray[Any]]):
    """Arrays by name, in the order of their names; immutable.

    `variables[name]` reads that one into a new array, which the caller owns, each time anew. It raises CheckpointError
    for one that is not stored in full, damaged, or of a type that is not read; KeyError for a name that is not there.
    """

    @abstractmethod
    def __contains__(self, name: object) -> bool:  # the mapping's own would read the array
        ...

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """A variable's shape, without reading it. Raises KeyError for a name that is not there."""

    @abstractmethod
    def sha256(self) -> str:
        """In hexadecimal, of the bytes of all its files. Raises CheckpointError."""
