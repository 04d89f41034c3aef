"""What the doctor's tests share."""

from __future__ import annotations

from .fakes import fakes

__all__ = ["fakes"]
