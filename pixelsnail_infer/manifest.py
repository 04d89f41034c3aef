"""The manifest: the frozen description of one exported model, as JSON in the step file's metadata.

`docs/graph-contract.md` states it in full. The exporter constructs these objects and writes `to_json()`; the runtime
reads `Manifest.from_json()`. Constructor names are the JSON keys. Values are checked when an object is made, so that
neither side can write or accept a broken manifest. All objects are immutable and may be shared by threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pixelsnail_infer.bits import BitsSpec
from pixelsnail_infer.checks import EXPORT_AGAIN, MOST_BYTES, MOST_LEVELS, among, at_least, sha256, sizes
from pixelsnail_infer.document import read_document, write_document
from pixelsnail_infer.errors import ManifestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.parts import PART_KEY, PARTS, SIBLINGS, ArchiveSpec, FileSpec, sibling_path
from pixelsnail_infer.plan import KNOWN, Plan
from pixelsnail_infer.tensors import ITEM_BYTES, PrologueSpec, RowResultSpec, StateSpec, StridedRowSpec
from pixelsnail_infer.wave import WaveSpec

__all__ = [
    "FORMAT_VERSION", "ITEM_BYTES", "METADATA_KEY", "PARTS", "PART_KEY", "ArchiveSpec", "BitsSpec", "CheckpointSpec",
    "ConditionSpec", "DistributionSpec", "FileSpec", "Manifest", "ModelSpec", "NoiseSpec", "ParameterSpec", "PixelSpec",
    "PrologueSpec", "RowResultSpec", "SIBLINGS", "StateSpec", "StridedRowSpec", "WaveSpec", "sibling_path",
]  # fmt: skip

FORMAT_VERSION = 1
METADATA_KEY = "pixelsnail_infer.manifest"
_LONGEST_NAME = 120


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What was exported: the family's name and its configuration (any JSON object)."""

    family: str
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PixelSpec:
    """One pixel: kind `codes` with `levels` values, 0 … levels - 1, or `channels`: 1 or 3 float32 numbers in [-1,
    1]."""

    kind: str
    levels: int | None = None
    channels: int | None = None

    def __post_init__(self) -> None:
        among(self.kind, ("codes", "channels"), "pixel.kind")
        _only(self, {"codes": ("levels",), "channels": ("channels",)}, "pixel")
        if self.levels is not None:
            at_least(self.levels, 1, "pixel.levels", MOST_LEVELS)
        if self.channels is not None:
            among(self.channels, (1, 3), "pixel.channels")


@dataclass(frozen=True, slots=True)
class ConditionSpec:
    """One condition: `class` (int64 []), `codes` (int64 [h, w]), `vector` (float32 [n]) or `map` (float32 [C, h, w]).

    `shape` is without the batch axis. `levels` is required by `class` and `codes` and refused by the others.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    levels: int | None = None

    def __post_init__(self) -> None:
        where = f"condition {shown(self.name)}"
        if not self.name.isidentifier() or len(self.name) > _LONGEST_NAME:
            raise ManifestError(f"A condition is named {shown(self.name)}, expected an identifier; {EXPORT_AGAIN}.")
        kinds = {"class": (0, "int64"), "codes": (2, "int64"), "vector": (1, "float32"), "map": (3, "float32")}
        among(self.kind, tuple(kinds), f"{where}: kind")
        rank, dtype = kinds[self.kind]
        among(self.dtype, (dtype,), f"{where}: dtype of kind {self.kind!r}")
        sizes(self.shape, rank, f"{where}: shape")
        if (self.levels is not None) != (dtype == "int64"):
            wanted = "needs" if dtype == "int64" else "cannot have"
            raise ManifestError(f"{where}: kind {self.kind!r} {wanted} 'levels'; {EXPORT_AGAIN}.")
        if self.levels is not None:
            at_least(self.levels, 1, f"{where}: levels", MOST_LEVELS)


@dataclass(frozen=True, slots=True)
class DistributionSpec:
    """`categorical` (codes), or `logistic-mixture` (channels) of `n_mix`; `round`: draws are rounded to 8 bits."""

    kind: str
    n_mix: int | None = None
    round: bool | None = None

    def __post_init__(self) -> None:
        among(self.kind, ("categorical", "logistic-mixture"), "distribution.kind")
        _only(self, {"categorical": (), "logistic-mixture": ("n_mix", "round")}, "distribution")
        if self.n_mix is not None:
            at_least(self.n_mix, 1, "distribution.n_mix")


@dataclass(frozen=True, slots=True)
class NoiseSpec:
    """Which noise the draw was verified with (see `pixelsnail_infer.noise`), and how many numbers a pixel takes."""

    version: int
    width: int

    def __post_init__(self) -> None:
        among(self.version, (1,), "noise.version")
        at_least(self.width, 1, "noise.width")


@dataclass(frozen=True, slots=True)
class CheckpointSpec:
    """The checkpoint that the graphs were made from."""

    sha256: str

    def __post_init__(self) -> None:
        sha256(self.sha256, "checkpoint.sha256")


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """Parameters in all, and how many are read once per image, row and step."""

    total: int
    per_image: int
    per_row: int
    per_step: int

    def __post_init__(self) -> None:
        for name in ("total", "per_image", "per_row", "per_step"):
            at_least(getattr(self, name), 0, f"parameters.{name}", MOST_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole manifest. `shape` is (H, W). Raises `ManifestError` when a value breaks the contract."""

    kind: str
    model: ModelSpec
    pixel: PixelSpec
    shape: tuple[int, int]
    conditions: tuple[ConditionSpec, ...]
    prologue: tuple[PrologueSpec, ...]
    states: tuple[StateSpec, ...]
    row_result: RowResultSpec
    distribution: DistributionSpec
    noise: NoiseSpec
    schedule: str
    target: str
    precision: str
    files: dict[str, FileSpec]
    checkpoint: CheckpointSpec
    parameters: ParameterSpec
    versions: dict[str, str]
    verification: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    archive: ArchiveSpec | None = None
    bits_per_dim: BitsSpec | None = None
    wave: WaveSpec | None = None
    row_results: tuple[StridedRowSpec, ...] | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        among(self.format_version, (FORMAT_VERSION,), "format_version")
        among(self.kind, ("prior",), "kind")
        for name, known in KNOWN.items():
            among(getattr(self, name), known, name)
        sizes(self.shape, 2, "shape")
        among(self.distribution.kind, _DISTRIBUTIONS[self.pixel.kind], f"distribution.kind of {self.pixel.kind}")
        width, what = _noise_width(self.pixel, self.distribution)
        if self.noise.width != width:
            raise ManifestError(f"noise.width is {self.noise.width}, expected {what}, {width}; {EXPORT_AGAIN}.")
        for part in self.files:
            among(part, SIBLINGS, "files")
        for state in self.states:
            among(state.writer, ("step", "row"), f"{state.name}: writer")
        if {*SIBLINGS[len(PARTS):]} & {*self.parts} != {*(self.wave.parts if self.wave else ())}:
            raise ManifestError(f"files holds other wave graphs than 'wave' describes; {EXPORT_AGAIN}.")
        for part in ("row", "prologue") if self.conditions else ("row",):
            if part not in self.parts:
                raise ManifestError(f"files lacks {part!r}, which this model needs; {EXPORT_AGAIN}.")
        if self.archive is not None and self.files:
            raise ManifestError(f"There are files beside an archive, which holds all parts; {EXPORT_AGAIN}.")
        if self.prologue and not self.conditions:
            raise ManifestError(f"There are prologue tensors but no conditions to make them of; {EXPORT_AGAIN}.")
        for kind, items in (("conditions", self.conditions), ("prologue", self.prologue), ("states", self.states),
                            ("row_results", self.row_results or ())):  # fmt: skip
            if len({item.name for item in items}) != len(items):
                raise ManifestError(f"{kind} names one entry twice; {EXPORT_AGAIN}.")

    @property
    def height(self) -> int:
        """Rows, H."""
        return self.shape[0]

    @property
    def width(self) -> int:
        """Columns, W."""
        return self.shape[1]

    @property
    def parts(self) -> tuple[str, ...]:
        """What there is beside the step: of `SIBLINGS`."""
        return tuple(self.files) if self.archive is None else self.archive.parts

    @property
    def plan(self) -> Plan:
        """Schedule, target and precision as one value."""
        return Plan(schedule=self.schedule, target=self.target, precision=self.precision)

    @property
    def row_result_dtype(self) -> str:
        """Of the packed row result."""
        return self.row_result.dtype or self.plan.dtype

    @property
    def levels(self) -> int:
        """Size of the code book, L. Raises `ManifestError` for a model of channels."""
        if self.pixel.levels is None:
            raise ManifestError(f"this model's pixels are {self.pixel.kind}, which have no levels.")
        return self.pixel.levels

    def to_json(self) -> str:
        """The manifest as JSON text; `Manifest.from_json` of it is equal to this object."""
        return write_document(self, self.format_version)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read a manifest strictly: an unknown version or key, a missing key or a wrong type is a `ManifestError`."""
        return read_document(cls, text, FORMAT_VERSION)


_DISTRIBUTIONS = {"codes": ("categorical",), "channels": ("logistic-mixture",)}


def _noise_width(pixel: PixelSpec, distribution: DistributionSpec) -> tuple[int, str]:
    if pixel.kind == "codes":
        return pixel.levels or 0, "levels"
    return (distribution.n_mix or 0) + (pixel.channels or 0), "n_mix + channels"


def _only(spec: PixelSpec | DistributionSpec, fields: dict[str, tuple[str, ...]], where: str) -> None:
    """Exactly the fields of the spec's kind are given."""
    for name in {name for names in fields.values() for name in names}:
        needed = name in fields[spec.kind]
        if (getattr(spec, name) is not None) != needed:
            wanted = "needs" if needed else "cannot have"
            raise ManifestError(f"{where} of kind {spec.kind!r} {wanted} {name!r}; {EXPORT_AGAIN}.")
