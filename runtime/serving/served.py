"""One model behind a name: its engine, and what clients are told about it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pixelsnail_infer.codec import CodecManifest
from pixelsnail_infer.denoiser import DenoiserManifest
from pixelsnail_infer.manifest import ConditionSpec, Manifest
from pixelsnail_infer.runtime.engine.engine import Engine
from pixelsnail_infer.runtime.engine.stats import Stats
from pixelsnail_infer.runtime.engine.ticket import Ticket

__all__ = ["Served", "ServedPrior"]


@dataclass(frozen=True, slots=True, eq=False)
class Served(ABC):
    """`files` are the names of its files without folders, for the text chunks of pictures."""

    name: str
    files: tuple[str, ...]

    @property
    @abstractmethod
    def conditions(self) -> tuple[ConditionSpec, ...]:
        """What every request gives."""

    @property
    @abstractmethod
    def manifests(self) -> tuple[Manifest | CodecManifest | DenoiserManifest, ...]:
        """Of the stages, in order of drawing."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, ...]:
        """Of a result: [H, W] of codes, [H, W, C] of images."""

    @property
    @abstractmethod
    def values(self) -> str:
        """What the numbers of images are: see `ImageSpec`."""

    @abstractmethod
    def submit(self, n: int, arguments: dict[str, Any]) -> Ticket[Any]:
        """Ask the engine for n images; `arguments` are those of its `submit`."""

    @abstractmethod
    def result(self, value: Any) -> NDArray[Any]:
        """What a ticket's result is to a client: codes int64 [n, H, W] or images float32 [n, H, W, C]."""

    @abstractmethod
    def stats(self) -> Sequence[Stats]:
        """Of every stage that draws."""

    @abstractmethod
    def close(self) -> None:
        """Give up what is left."""

    @property
    def priors(self) -> tuple[Manifest, ...]:
        """The stages that draw."""
        return tuple(manifest for manifest in self.manifests if isinstance(manifest, Manifest))

    @property
    def is_pipeline(self) -> bool:
        """Whether settings are one for each prior, and pixels cannot be given."""
        return False

    @property
    def levels(self) -> int | None:
        """Of a result's codes; None for images."""
        return self.priors[-1].pixel.levels if len(self.image_shape) == 2 else None

    @property
    def dtype(self) -> str:
        """Of a result's pixels."""
        return "float32" if self.levels is None else "int64"

    @property
    def label(self) -> ConditionSpec | None:
        """The condition that the field `label` means: the one of that name, or the only one of kind class."""
        classes = [spec for spec in self.conditions if spec.kind == "class"]
        chosen = [spec for spec in classes if spec.name == "label"] or classes
        return chosen[0] if len(chosen) == 1 else None

    @property
    def stages(self) -> list[dict[str, Any]]:
        """Shape and levels of what every prior draws."""
        return [{"shape": [*prior.shape, *([] if prior.pixel.channels is None else [prior.pixel.channels])],
                 "levels": prior.pixel.levels} for prior in self.priors]  # fmt: skip

    def description(self) -> dict[str, Any]:
        """The entry of `GET /v1/models`."""
        label = self.label
        return {
            "name": self.name,
            "shape": list(self.image_shape),
            "dtype": self.dtype,
            "levels": self.levels,
            "stages": self.stages,
            "filters": any(prior.pixel.levels is not None for prior in self.priors),
            "known": not self.is_pipeline,
            "label": None if label is None else label.name,
            "conditions": [
                {"name": spec.name, "kind": spec.kind, "shape": list(spec.shape), "dtype": spec.dtype,
                 "levels": spec.levels}
                for spec in self.conditions
            ],
            "checkpoint_sha256": [manifest.checkpoint.sha256 for manifest in self.manifests],
        }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class ServedPrior(Served):
    """A single prior, of codes or of images."""

    engine: Engine

    @property
    def conditions(self) -> tuple[ConditionSpec, ...]:
        """Those of the model."""
        return self.engine.manifest.conditions

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """One."""
        return (self.engine.manifest,)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Of what the prior draws."""
        channels = self.engine.manifest.pixel.channels
        return self.engine.manifest.shape if channels is None else (*self.engine.manifest.shape, channels)

    @property
    def values(self) -> str:
        """A prior of images draws brightnesses."""
        return "pixels"

    def submit(self, n: int, arguments: dict[str, Any]) -> Ticket[NDArray[Any]]:
        """As `Engine.submit`."""
        return self.engine.submit(n, **arguments)

    def result(self, value: Any) -> NDArray[Any]:
        """The result itself."""
        pixels: NDArray[Any] = value
        return pixels

    def stats(self) -> Sequence[Stats]:
        """One."""
        return (self.engine.stats(),)

    def close(self) -> None:
        """Give up what is left."""
        self.engine.close(drain=False)
