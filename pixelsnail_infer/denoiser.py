"""The manifest of denoisers, networks that take noise out of an image step by step: JSON in the step file's metadata.

`docs/denoisers.md` says what the files hold. The key is the one of priors' manifests; the JSON's `kind` tells which it
is. Values are checked when an object is made. All objects are immutable and may be shared by threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pixelsnail_infer.checks import EXPORT_AGAIN, MOST_BYTES, among, at_least
from pixelsnail_infer.codec import ImageSpec
from pixelsnail_infer.document import read_document, write_document
from pixelsnail_infer.errors import ManifestError
from pixelsnail_infer.manifest import FORMAT_VERSION, CheckpointSpec, ConditionSpec, ModelSpec
from pixelsnail_infer.parts import ArchiveSpec, FileSpec
from pixelsnail_infer.plan import Plan

__all__ = ["DENOISER", "LABEL", "LOW_RES", "NOISE_SCHEDULES", "PREDICTS", "TIMES", "VARIANCES", "DenoiserManifest",
           "DiffusionSpec"]  # fmt: skip

DENOISER = "denoiser"
TIMES = "times"
"""The part that tells the network what step it is at."""
LABEL, LOW_RES = "label", "low_res"
NOISE_SCHEDULES = ("linear", "cosine")
PREDICTS = ("eps", "x0", "x_prev")
VARIANCES = ("fixed-large", "fixed-small", "learned-range")
MOST_STEPS = 1_000_000
FEWEST_LINEAR = 20


@dataclass(frozen=True, slots=True)
class DiffusionSpec:
    """The diffusion that a network was trained to undo.

    It has so many `steps`, of which `noise_schedule` says how much noise each adds. The network `predict`s the noise
    ("eps"), the image without any ("x0") or the image one step earlier ("x_prev"); the `variance` of a step is known,
    or "learned-range". With `rescale_timesteps` the network is told times of 0 to 1000, whatever `steps` is.
    """

    steps: int
    noise_schedule: str
    predict: str
    variance: str
    rescale_timesteps: bool

    def __post_init__(self) -> None:
        at_least(self.steps, 2, "diffusion.steps", MOST_STEPS)
        if self.noise_schedule == "linear" and self.steps <= FEWEST_LINEAR:
            raise ManifestError(f"diffusion.steps is {self.steps}, but a linear schedule of {FEWEST_LINEAR} steps or "
                                "fewer would add more noise than there is; expected more, or the schedule 'cosine'.")
        among(self.noise_schedule, NOISE_SCHEDULES, "diffusion.noise_schedule")
        among(self.predict, PREDICTS, "diffusion.predict")
        among(self.variance, VARIANCES, "diffusion.variance")


@dataclass(frozen=True, slots=True, kw_only=True)
class DenoiserManifest:
    """The whole manifest of a denoiser. Raises `ManifestError` when a value breaks the contract.

    `projections` counts the numbers that the part `times` tells an image about its step, `parameters` those of the
    network. Conditions are at most a class named `label` and a small picture named `low_res`.
    """

    kind: str
    model: ModelSpec
    image: ImageSpec
    conditions: tuple[ConditionSpec, ...]
    diffusion: DiffusionSpec
    projections: int
    precision: str
    files: dict[str, FileSpec]
    checkpoint: CheckpointSpec
    parameters: int
    versions: dict[str, str]
    verification: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    archive: ArchiveSpec | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        among(self.format_version, (FORMAT_VERSION,), "format_version")
        among(self.kind, (DENOISER,), "kind")
        among(self.precision, ("float32",), "precision")
        among(self.image.values, ("pixels",), "image.values")
        at_least(self.projections, 1, "projections")
        at_least(self.parameters, 0, "parameters", MOST_BYTES)
        for spec in self.conditions:
            among((spec.name, spec.kind), ((LABEL, "class"), (LOW_RES, "map")), "a condition's name and kind")
            if spec.kind == "map" and spec.shape[0] != self.image.channels:
                raise ManifestError(f"{LOW_RES} has {spec.shape[0]} channels, but the image {self.image.channels}; "
                                    f"{EXPORT_AGAIN}.")
        if len({spec.name for spec in self.conditions}) != len(self.conditions):
            raise ManifestError(f"conditions names one entry twice; {EXPORT_AGAIN}.")
        if self.parts != (TIMES,) or (self.archive is not None and self.files):
            raise ManifestError(f"A denoiser has the part {TIMES!r} beside its step, once, and no other; "
                                f"{EXPORT_AGAIN}.")

    @property
    def parts(self) -> tuple[str, ...]:
        """What there is beside the step."""
        return tuple(self.files) if self.archive is None else self.archive.parts

    @property
    def plan(self) -> Plan:
        """The precision as a plan; whole images have no schedule of pixels."""
        return Plan(precision=self.precision)

    def to_json(self) -> str:
        """The manifest as JSON text; `DenoiserManifest.from_json` of it is equal to this object."""
        return write_document(self, self.format_version)

    @classmethod
    def from_json(cls, text: str) -> DenoiserManifest:
        """Read a manifest strictly: an unknown version or key, a missing key or a wrong type is a `ManifestError`."""
        return read_document(cls, text, FORMAT_VERSION)
