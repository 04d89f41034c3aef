"""Several models behind one name: priors that draw from one another, and what makes images of their codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pixelsnail_infer.codec import CodecManifest, ImageSpec
from pixelsnail_infer.denoiser import DenoiserManifest
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import ConditionSpec, Manifest
from pixelsnail_infer.runtime.engine.pipeline_engine import PipelineEngine
from pixelsnail_infer.runtime.engine.stats import Stats
from pixelsnail_infer.runtime.engine.ticket import Ticket
from pixelsnail_infer.runtime.pipeline.generated import Generated
from pixelsnail_infer.runtime.pipeline.pipeline import Pipeline
from pixelsnail_infer.runtime.serving.served import Served

__all__ = ["ServedPipeline"]


@dataclass(frozen=True, slots=True, eq=False)
class ServedPipeline(Served):
    """A pipeline that draws images. It owns both, engine and pipeline. Raises `RequestError` for one of codes."""

    pipeline: Pipeline
    engine: PipelineEngine

    def __post_init__(self) -> None:
        if self.pipeline.wiring.drawn is None:
            what = f"The models of {self.name} draw codes, not images"
            raise RequestError(f"{what}; add their decoder's file, or serve each model by itself.")

    @property
    def conditions(self) -> tuple[ConditionSpec, ...]:
        """Those that no earlier stage feeds."""
        return self.pipeline.wiring.conditions

    @property
    def manifests(self) -> tuple[Manifest | CodecManifest | DenoiserManifest, ...]:
        """Of the priors, and of the decoder."""
        return self.pipeline.manifests

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Of the images that come out."""
        return (*self._drawn.shape, self._drawn.channels)

    @property
    def values(self) -> str:
        """As the decoder's manifest says."""
        return self._drawn.values

    @property
    def is_pipeline(self) -> bool:
        """It is."""
        return True

    def submit(self, n: int, arguments: dict[str, Any]) -> Ticket[Generated]:
        """As `PipelineEngine.submit`."""
        return self.engine.submit(n, **arguments)

    def result(self, value: Any) -> NDArray[Any]:
        """The images."""
        images: NDArray[Any] = value.images
        return images

    def stats(self) -> Sequence[Stats]:
        """One for each prior."""
        return self.engine.stats()

    def close(self) -> None:
        """Give up what is left, and release the models."""
        self.engine.close(drain=False)
        self.pipeline.close()

    @property
    def _drawn(self) -> ImageSpec:
        drawn = self.pipeline.wiring.drawn
        assert drawn is not None
        return drawn
