"""The toy model of `synthetic`, written once, and one sampler on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pixelsnail_infer.runtime import Sampler, load

from . import synthetic


@pytest.fixture(scope="session")
def parts() -> dict[str, bytes]:
    return synthetic.build()


@pytest.fixture(scope="session")
def toy(parts: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("toy"), parts)


@pytest.fixture(scope="module")
def sampler(toy: Path) -> Iterator[Sampler]:
    with load(toy, threads=1) as opened:
        yield opened
