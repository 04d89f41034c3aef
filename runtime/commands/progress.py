"""A progress bar: tqdm's where it is installed, else one plain line; nothing when stderr is no terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

_EVERY = 0.2  # seconds between two plain lines


class ProgressBar:
    """Pass it as `progress` to `Sampler.sample`, inside a `with`: it takes (done, total) in pixels, or what `unit`
    says. Without `total` the first call tells it."""

    def __init__(self, total: int | None = None, unit: str = "pixels") -> None:
        self._unit = unit
        self._bar = _tqdm(total, unit)
        self._plain = self._bar is None and sys.stderr.isatty()
        self._shown = 0.0

    def __enter__(self) -> ProgressBar:
        return self

    def __call__(self, done: int, total: int) -> None:
        """Show `done` of `total`."""
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        elif self._plain and (done == total or time.monotonic() - self._shown >= _EVERY):
            self._shown = time.monotonic()
            print(f"\r{100 * done // total:3d} % of {total} {self._unit}", end="", file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._plain:
            print(file=sys.stderr)


def _tqdm(total: int | None, unit: str) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, unit=f" {unit}", unit_scale=True, disable=None, leave=False)
