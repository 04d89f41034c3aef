"""What a job draws and how, checked before anything is drawn or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixelsnail_infer import __version__
from pixelsnail_infer.errors import GraphFileError, RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.messages import printable, shown
from pixelsnail_infer.plainfile import open_plain
from pixelsnail_infer.runtime.bulk.conditions import BulkConditions, make_conditions
from pixelsnail_infer.runtime.bulk.digest import sha256_of
from pixelsnail_infer.runtime.bulk.job import Job
from pixelsnail_infer.runtime.bulk.parquet import require_pyarrow
from pixelsnail_infer.runtime.bulk.records import fields_of, record_dtype
from pixelsnail_infer.runtime.bulk.shards import FORMATS, check_shards, default_size
from pixelsnail_infer.runtime.pipeline.loading import load_pipeline
from pixelsnail_infer.runtime.pipeline.pipeline import Pipeline
from pixelsnail_infer.runtime.pipeline.stage_requests import stage_requests
from pixelsnail_infer.runtime.requests.request import DEFAULT_MAX_BATCH, count

__all__ = ["Models", "Plan", "file_digest", "make_plan"]



@dataclass(frozen=True, slots=True)
class Models:
    """The files of a pipeline and how they are loaded: the arguments of `load_pipeline`, but for the threads."""

    paths: tuple[str, ...]
    links: Mapping[tuple[int, str], int | None]
    device: str | Sequence[str]
    backend: str | Sequence[str]

    def load(self, threads: int | None) -> Pipeline:
        """The pipeline; raises what `load_pipeline` raises."""
        return load_pipeline(self.paths, links=self.links, device=self.device, backend=self.backend, threads=threads)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process must know to draw shards; can be pickled."""

    job: Job
    models: Models
    conditions: BulkConditions
    batch: int


def make_plan(
    models: Models,
    pipeline: Pipeline,
    n: int,
    *,
    seed: int = 0,
    temperature: Any = 1.0,
    top_k: Any = None,
    top_p: Any = None,
    cycles: Mapping[str, Any],
    values: Mapping[str, Any],
    format: str = "npy",
    shard: int | None = None,
    codes: bool = False,
    batch: int | None = None,
) -> Plan:
    """The plan of n images of `seed` from `pipeline`, which is what `models` load.

    The settings are those of `Pipeline.generate`. `cycles` are classes int64 [m] by condition, cycled over the images;
    `values` other conditions, each for all images or with one for each. `format` is one of `FORMATS`; `shard` images go
    into a file (by default so many that it has about 64 MiB, at most 1,024); with `codes` the codes of every level are
    written beside the images. `batch` images are drawn together (default 16).

    Raises `RequestError` for an argument that is wrong, `BackendError` where the format needs what is not installed,
    `GraphFileError` where a model cannot be read.
    """
    n, batch = count(n, "n"), DEFAULT_MAX_BATCH if batch is None else count(batch, "max_batch")
    if format not in FORMATS:
        raise RequestError(f"format is {shown(format)}, expected {' or '.join(FORMATS)}.")
    if format == "parquet":
        require_pyarrow()
    if pipeline.denoisers:
        raise RequestError("The models have a denoiser among them, which bulk does not run; use generate.")
    wiring, settings = pipeline.wiring, {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    conditions = make_conditions(wiring.conditions, cycles, values, n)
    priors = [manifest for manifest in pipeline.manifests if isinstance(manifest, Manifest)]
    stage_requests(priors, wiring, 1, seed=seed, **settings, conditions=conditions.of(0, 1))
    fields = fields_of(pipeline, [spec.name for spec in wiring.conditions if spec.kind == "class"], codes)
    record = record_dtype(fields).itemsize
    size = default_size(n, record) if shard is None else count(shard, "shard")
    check_shards(n, size, record)
    job = Job(
        n=n, shard=size, format=format, seed=str(seed), models=tuple(map(file_digest, models.paths)),
        links={f"{stage}.{name}": source for (stage, name), source in models.links.items()}, **settings,
        classes={name: [int(one) for one in held] for name, held in cycles.items()}, conditions=conditions.digests(),
        fields=fields, device=_joined(models.device), backend=_joined(models.backend),
        files=tuple(printable(Path(path).name) for path in models.paths), written_by=f"pixelsnail-infer {__version__}",
    )  # fmt: skip
    return Plan(job, models, conditions, batch)


def file_digest(path: str) -> str:
    """The sha256 of a file. Raises `GraphFileError`."""
    try:
        with open_plain(path) as file:
            return sha256_of(file)
    except OSError as error:
        raise GraphFileError(f"{path} cannot be read ({error.strerror or error}); check the path.") from error


def _joined(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ",".join(value)
