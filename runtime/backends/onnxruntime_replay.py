"""A graph that ONNX Runtime replays as one CUDA graph, and the check that replaying it is running it.

ONNX Runtime captures at a first run, which runs the graph several times. That is no harm: graphs may run twice in a row
and leave the same states (rules of the graph contract). It compares neither buffers nor results when it replays. So the
first runs here, and ever fewer later ones, are done both ways from the same states and compared.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import EngineError
from pixelsnail_infer.runtime.backends.host import reason_of
from pixelsnail_infer.runtime.backends.protocol import BoundGraph

__all__ = ["Held", "ReplayedGraph"]

CLOSE = 1e-5  # of the largest number: kernels are the same both ways, but sums may be taken in another order
WITH_STATES = 2  # checks that compare the states, too; they are large


class Held(Protocol):
    """A tensor on the device."""

    def numpy(self) -> NDArray[Any]: ...

    def update_inplace(self, data: NDArray[Any]) -> None: ...


class ReplayedGraph:
    """A graph bound once: `plain` runs it kernel by kernel, and `replay` as one CUDA graph, on the same buffers.

    Runs number 1, 2, 4, 8, … in each thread (the engine keeps a CUDA graph per thread) are checked; after one that
    differs, every run raises `EngineError`.
    """

    __slots__ = ("_outputs", "_plain", "_replay", "_runs", "_thread", "_what", "_wrong")

    def __init__(self, plain: BoundGraph, replay: BoundGraph, outputs: Mapping[str, Held], what: str) -> None:
        self._plain, self._replay, self._outputs, self._what = plain, replay, dict(outputs), what
        self._runs, self._thread, self._wrong = 0, 0, ""

    def run(self) -> None:
        """Run once on the bound buffers. Raises `EngineError`."""
        if self._wrong:
            raise EngineError(self._wrong)
        if (thread := threading.get_ident()) != self._thread:
            self._thread, self._runs = thread, 0
        self._runs += 1
        if self._runs & (self._runs - 1):
            self._replay.run()
        elif name := self._differing(self._runs <= WITH_STATES):
            self._wrong = (
                f"{self._what}: replayed as a CUDA graph, it gives another {name!r} than when it is run; this engine "
                "cannot be used with this driver: use device='cpu', or an archive with backend='torch'."
            )
            raise EngineError(self._wrong)

    def _differing(self, states: bool) -> str:
        """The name of an output that the replay gives otherwise, "" where there is none. The last run is the replay's.

        Results are made useless between the two runs, and states put back, so that what was not written shows.
        """
        compared = {name: held for name, held in self._outputs.items() if states or not name.endswith(".out")}
        try:
            before = {name: _copy(held) for name, held in compared.items()}
            self._plain.run()
            expected = {name: _copy(held) for name, held in compared.items()}
            for name, held in compared.items():
                held.update_inplace(before[name] if name.endswith(".out") else _useless(expected[name]))
            self._replay.run()
            return next((name for name, held in compared.items() if not _close(_copy(held), expected[name])), "")
        except EngineError:
            raise
        except Exception as error:  # the engine raises a class of its own for every status code
            raise EngineError(f"{self._what}: its check failed ({reason_of(error)}); load the model again.") from error


def _copy(held: Held) -> NDArray[Any]:
    return np.array(held.numpy())


def _useless(array: NDArray[Any]) -> NDArray[Any]:
    """Numbers that no result has."""
    return np.full_like(array, np.nan if array.dtype.kind == "f" else -1)


def _close(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    if found.dtype.kind != "f":
        return np.array_equal(found, expected)
    worst = float(np.abs(found - expected).max(initial=0))  # not a number where either has none
    return worst <= CLOSE * float(np.abs(expected).max(initial=0))
