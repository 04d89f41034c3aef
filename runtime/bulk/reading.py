"""Reading what was written: the records of a folder, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.runtime.bulk.folder import shard_files
from pixelsnail_infer.runtime.bulk.job import JOB_FILE, read_job
from pixelsnail_infer.runtime.bulk.parquet import require_pyarrow
from pixelsnail_infer.runtime.bulk.shard_file import ShardFile
from pixelsnail_infer.runtime.bulk.shards import shards_in

__all__ = ["read_shards"]


def read_shards(folder: str | Path, *, partial: bool = False, digests: bool = True) -> Iterator[NDArray[Any]]:
    """The records of a bulk job in order, one structured array [b] a shard, with the fields that `job.json` names:
    `seed`, `index`, classes, and `codes`, `image` or the levels' names.

    Arrays of .npy files are mapped, read-only. `seed` and `index` of every record are checked; with `digests` also the
    sha256 of every file, which reads all of it. Raises `RequestError` for a folder without a job, or with a damaged
    `job.json`, and unless `partial` when shards are missing; `GraphFileError` for a file that does not hold its
    records; `BackendError` where Parquet cannot be read.
    """
    path = Path(folder)
    if (job := read_job(path)) is None:
        raise RequestError(f"{path} holds no {JOB_FILE}; give a folder that `pixelsnail-infer bulk` wrote.")
    files, total = shard_files(path, job), shards_in(job.n, job.shard)
    if len(files) < total and not partial:
        what = f"{path} holds {len(files)} of {total} shards"
        raise RequestError(f"{what}; run its command again, or read what there is with partial=True.")
    if job.format == "parquet":
        require_pyarrow()
    for _, name in sorted(files.items()):
        yield ShardFile(path, name, job).records(digests)
