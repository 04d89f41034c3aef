"""Reading what was written: the records of a folder, shard by shard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import GraphFileError, RequestError
from pixelsnail_infer.runtime.bulk.folder import shard_files
from pixelsnail_infer.runtime.bulk.job import JOB_FILE, read_job
from pixelsnail_infer.runtime.bulk.parquet import read_parquet, require_pyarrow
from pixelsnail_infer.runtime.bulk.records import record_dtype
from pixelsnail_infer.runtime.bulk.shards import shard_of, shards_in

__all__ = ["read_shards"]


def read_shards(folder: str | Path, *, partial: bool = False) -> Iterator[NDArray[Any]]:
    """The records of a bulk job in order, one structured array [b] a shard, with the fields that `job.json` names:
    `seed`, `index`, classes, and `codes`, `image` or the levels' names.

    Arrays of .npy files are mapped, read-only. Raises `RequestError` for a folder without a job, and unless `partial`
    when shards are missing; `GraphFileError` for a file that does not hold its records.
    """
    path = Path(folder)
    if (job := read_job(path)) is None:
        raise RequestError(f"{path} holds no {JOB_FILE}; give a folder that `pixelsnail-infer bulk` wrote.")
    files, total, dtype = shard_files(path, job), shards_in(job.n, job.shard), record_dtype(job.fields)
    if len(files) < total and not partial:
        what = f"{path} holds {len(files)} of {total} shards"
        raise RequestError(f"{what}; run its command again, or read what there is with partial=True.")
    if job.format == "parquet":
        require_pyarrow()
    for number, name in sorted(files.items()):
        file = path / str(name)
        records = read_parquet(file, dtype) if job.format == "parquet" else _mapped(file)
        if records.dtype != dtype or records.shape != (shard_of(number, job.n, job.shard).count,):
            what = f"{file} holds {records.dtype} {list(records.shape)}, not what {JOB_FILE} says"
            raise GraphFileError(f"{what}; delete it, and draw it again.")
        yield records


def _mapped(path: Path) -> NDArray[Any]:
    try:
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise GraphFileError(f"{path} cannot be read as .npy ({error}); delete it, and draw it again.") from error
    return mapped
