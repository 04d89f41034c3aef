"""The manifest of decoders (codes to images) and encoders (images to codes): one file each, this JSON in its metadata.

`docs/graph-contract.md` states it in full. The key is the one of priors' manifests; the JSON's `kind` tells which it
is. Values are checked when an object is made. All objects are immutable and may be shared by threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pixelsnail_infer.checks import EXPORT_AGAIN, MOST_BYTES, MOST_LEVELS, among, at_least, sizes
from pixelsnail_infer.document import read_document, write_document
from pixelsnail_infer.errors import ManifestError
from pixelsnail_infer.manifest import FORMAT_VERSION, CheckpointSpec, ModelSpec
from pixelsnail_infer.messages import shown
from pixelsnail_infer.parts import ArchiveSpec
from pixelsnail_infer.plan import Plan

__all__ = ["CODEC_KINDS", "IMAGE", "CodecManifest", "CodesSpec", "ImageSpec"]

CODEC_KINDS = ("decoder", "encoder")
PRECISIONS = ("float32",)
IMAGE = "image"
"""Name of the image's tensor, in decoders and encoders."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """The image, float32 [B, H, W, C]: `channels` C is 1 or 3, `shape` is (H, W).

    `values` says what its numbers are: "pixels" are brightnesses in [-1, 1], of which a decoder's may lie a little
    outside; "log-mel" are natural logarithms of a mel spectrogram's magnitudes, rows from low to high frequency.
    """

    channels: int
    shape: tuple[int, int]
    values: str = "pixels"

    def __post_init__(self) -> None:
        among(self.channels, (1, 3), "image.channels")
        sizes(self.shape, 2, "image.shape")
        among(self.values, ("pixels", "log-mel"), "image.values")


@dataclass(frozen=True, slots=True)
class CodesSpec:
    """One level of codes, int64 [B, h, w], each 0 … levels - 1; `name` is its tensor's, `shape` is (h, w)."""

    name: str
    shape: tuple[int, int]
    levels: int

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or len(self.name) > 120 or self.name == IMAGE:
            what = f"A level of codes is named {shown(self.name)}, expected an identifier other than {IMAGE!r}"
            raise ManifestError(f"{what}; {EXPORT_AGAIN}.")
        sizes(self.shape, 2, f"codes {self.name!r}: shape")
        at_least(self.levels, 1, f"codes {self.name!r}: levels", MOST_LEVELS)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecManifest:
    """The whole manifest of a decoder or an encoder. Raises `ManifestError` when a value breaks the contract.

    `codes` are the levels in the order in which they are drawn, no finer grid before a coarser one. `parameters` counts
    the numbers of this half of the model, code books included. `archive` says what else is in a TorchScript archive;
    ONNX files have none.
    """

    kind: str
    model: ModelSpec
    image: ImageSpec
    codes: tuple[CodesSpec, ...]
    precision: str
    checkpoint: CheckpointSpec
    parameters: int
    versions: dict[str, str]
    verification: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    archive: ArchiveSpec | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        among(self.format_version, (FORMAT_VERSION,), "format_version")
        among(self.kind, CODEC_KINDS, "kind")
        among(self.precision, PRECISIONS, "precision")
        at_least(self.parameters, 0, "parameters", MOST_BYTES)
        if self.archive is not None and self.archive.parts:
            raise ManifestError(f"archive names parts, of which a {self.kind} has none; {EXPORT_AGAIN}.")
        if not self.codes:
            raise ManifestError(f"codes is empty, expected one level at least; {EXPORT_AGAIN}.")
        if len({spec.name for spec in self.codes}) != len(self.codes):
            raise ManifestError(f"codes names one level twice; {EXPORT_AGAIN}.")
        areas = [spec.shape[0] * spec.shape[1] for spec in self.codes]
        if areas != sorted(areas):
            raise ManifestError(f"codes has a finer grid before a coarser one; {EXPORT_AGAIN}.")

    @property
    def plan(self) -> Plan:
        """The precision as a plan; whole images have no schedule, and no target of their own yet."""
        return Plan(precision=self.precision)

    def to_json(self) -> str:
        """The manifest as JSON text; `CodecManifest.from_json` of it is equal to this object."""
        return write_document(self, self.format_version)

    @classmethod
    def from_json(cls, text: str) -> CodecManifest:
        """Read a manifest strictly: an unknown version or key, a missing key or a wrong type is a `ManifestError`."""
        return read_document(cls, text, FORMAT_VERSION)
