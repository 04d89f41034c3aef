"""Packages and tools that are missing or broken, as the doctor's own processes find them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

# A package that is the real one but for what `{change}` does to it.
WRAPPER = """
import sys
sys.path.remove({folder!r})
del sys.modules[__name__]
import {name} as real
sys.modules[__name__] = real
{change}
"""


class Fakes:
    """Stand first where packages and programs are found, until the test ends."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self._patch = folder, patch
        (folder / "bin").mkdir()
        patch.syspath_prepend(str(folder / "packages"))
        patch.setenv("PATH", str(folder / "bin"))
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def package(self, name: str, source: str) -> None:
        """A package of this source."""
        package = self.folder / "packages" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(textwrap.dedent(source))

    def missing(self, name: str) -> None:
        """As if it were not installed."""
        self.package(name, f"raise ModuleNotFoundError('No module named {name}', name={name!r})")

    def changed(self, name: str, change: str) -> None:
        """The real package `real`, changed by statements."""
        folder = str(self.folder / "packages")
        self.package(name, WRAPPER.format(folder=folder, name=name, change=textwrap.dedent(change)))

    def program(self, name: str, script: str) -> None:
        """A program for the shell."""
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fakes:
    return Fakes(tmp_path, monkeypatch)
