"""A progress bar: tqdm's where it is installed, else one plain line; nothing when stderr is no terminal."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

_EVERY = 0.2  # seconds between two plain lines


class ProgressBar:
    """Pass it as `progress` to `Sampler.sample`, inside a `with`: it takes (done, total) in pixels, or what `unit`
    says. Without `total` the first call tells it. `before` were done earlier, and do not count for the speed."""

    def __init__(self, total: int | None = None, unit: str = "pixels", before: int = 0) -> None:
        self._unit, self._before = unit, before
        self._bar = _tqdm(total, unit, before)
        self._plain = self._bar is None and sys.stderr.isatty()
        self._shown, self._began = 0.0, time.monotonic()

    def __enter__(self) -> ProgressBar:
        return self

    def __call__(self, done: int, total: int) -> None:
        """Show `done` of `total`."""
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        elif self._plain and (done == total or time.monotonic() - self._shown >= _EVERY):
            self._shown = time.monotonic()
            text = f"\r{100 * done // total:3d} % of {total} {self._unit}{self._speed(done, total)}"
            print(text, end="", file=sys.stderr, flush=True)

    def _speed(self, done: int, total: int) -> str:
        if done <= self._before:
            return ""
        speed = (done - self._before) / max(self._shown - self._began, 1e-9)
        left = int((total - done) / speed)
        return f", {speed:.3g} {self._unit}/s, {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d} left  "

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._plain and self._shown:
            print(file=sys.stderr)


def _tqdm(total: int | None, unit: str, before: int) -> Any:
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, initial=before, unit=f" {unit}", unit_scale=True, disable=None, leave=False)
