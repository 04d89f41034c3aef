"""A sampler on each of the networks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pixelsnail_infer.runtime import Sampler, load

from .networks import CASES, exported


@pytest.fixture(params=list(CASES), scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def sampler(name: str) -> Iterator[Sampler]:
    with load(exported(name), threads=1) as opened:
        yield opened
