"""The small priors, exported once each, and a sampler for every one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pixelsnail_infer.runtime import Sampler, load

from .models import CONFIGS, exported


@pytest.fixture(params=list(CONFIGS), scope="package")
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="package")
def sampler(name: str) -> Iterator[Sampler]:
    with load(exported(name), threads=1) as opened:
        yield opened
