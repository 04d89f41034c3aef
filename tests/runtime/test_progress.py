"""The plain line that stands for a progress bar where tqdm is not installed."""

from __future__ import annotations

import io
import sys

import pytest

from pixelsnail_infer.runtime.commands import progress
from pixelsnail_infer.runtime.commands.progress import ProgressBar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_says_the_share_the_speed_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress, "_tqdm", lambda *_: None)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(sys, "stderr", Terminal())
    with ProgressBar(10_000, "images", before=1000) as bar:
        bar(1000, 10_000)
        clock[0] += 10
        bar(1010, 10_000)  # 10 in 10 s, whatever was there before
    lines = sys.stderr.getvalue().split("\r")  # type: ignore[attr-defined]
    assert lines[1:] == [" 10 % of 10000 images", " 10 % of 10000 images, 1 images/s, 2:29:50 left  \n"]


def test_tqdm_does_not_count_what_was_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    bar = ProgressBar(100, "images", before=40)
    bar(50, 100)
    assert bar._bar.n == 50 and bar._bar.initial == 40
    bar.__exit__(None, None, None)
