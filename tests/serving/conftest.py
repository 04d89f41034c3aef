"""The digits model behind HTTP, and a small one that can be held still."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

for _name in ("starlette", "uvicorn", "prometheus_client"):
    pytest.importorskip(_name, reason="the extra `serve` is not installed")

from pixelsnail_infer.runtime import Engine, Pipeline, PipelineEngine, Sampler, load, load_pipeline  # noqa: E402
from pixelsnail_infer.runtime.serving.served import ServedPrior  # noqa: E402
from pixelsnail_infer.runtime.serving.served_pipeline import ServedPipeline  # noqa: E402

from ..runtime import synthetic  # noqa: E402
from ..runtime.chain import write_chain  # noqa: E402
from .running import Running, running  # noqa: E402


@pytest.fixture(scope="session")
def digits(digits_graphs: dict[str, Path]) -> Iterator[Sampler]:
    with load(digits_graphs["step"], threads=1) as sampler:
        yield sampler


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.write(tmp_path_factory.mktemp("toy"), synthetic.build())


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of a pipeline."""
    files = write_chain(tmp_path_factory.mktemp("chain"))
    return [files["top"], files["bottom"], files["decoder"]]


@pytest.fixture(scope="session")
def pipeline(chain: list[Path]) -> Iterator[Pipeline]:
    with load_pipeline(chain, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def live(digits: Sampler, chain: list[Path]) -> Iterator[Running]:
    """Digits and a pipeline, ready, with small limits."""
    pipeline = load_pipeline(chain, threads=1)
    models = {
        "digits": ServedPrior("digits", ("digits.onnx",), Engine(digits)),
        "chain": ServedPipeline("chain", ("a", "b", "c"), pipeline, PipelineEngine(pipeline)),
    }
    with running(lambda: models, most_body=1 << 16, most_images=16) as made:
        yield made
