"""Draws any shard of a job: the same bytes in whatever process, and after whatever shard."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.noise import numbered_keys
from pixelsnail_infer.runtime.bulk.parquet import parquet
from pixelsnail_infer.runtime.bulk.plan import Plan, file_digest
from pixelsnail_infer.runtime.bulk.records import fill, record_dtype
from pixelsnail_infer.runtime.bulk.shards import Shard
from pixelsnail_infer.runtime.files.arrays import npy
from pixelsnail_infer.runtime.pipeline.pipeline import Pipeline
from pixelsnail_infer.runtime.requests.request import split

__all__ = ["ShardDrawer", "open_drawer"]


class ShardDrawer:
    """A loaded pipeline that draws shards of one job. Owns the pipeline; used by one thread."""

    def __init__(self, plan: Plan, pipeline: Pipeline) -> None:
        self._plan, self._pipeline = plan, pipeline
        self._dtype = record_dtype(plan.job.fields)

    def records(self, shard: Shard, on_images: Callable[[int], object] | None = None) -> NDArray[Any]:
        """Draw a shard: a structured array of its images. `on_images(count)` is called after every batch of it."""
        records = np.zeros(shard.count, self._dtype)
        for some in split(shard.count, self._plan.batch):
            self._batch(records[some], shard.first + some.start)
            if on_images is not None:
                on_images(some.stop - some.start)
        return records

    def file(self, shard: Shard, on_images: Callable[[int], object] | None = None) -> bytes:
        """Draw a shard: the bytes of its file."""
        records = self.records(shard, on_images)
        return parquet(records) if self._plan.job.format == "parquet" else npy(records)

    def close(self) -> None:
        """Release the models."""
        self._pipeline.close()

    def __enter__(self) -> ShardDrawer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _batch(self, records: NDArray[Any], first: int) -> None:
        job, count = self._plan.job, len(records)
        keys = numbered_keys(int(job.seed), first, count)
        conditions = self._plan.conditions.of(first, count)
        found = self._pipeline.generate(
            count, seed=keys, temperature=job.temperature, top_k=job.top_k, top_p=job.top_p, max_batch=self._plan.batch,
            **conditions,
        )  # fmt: skip
        fill(records, keys, conditions, found, self._pipeline)


def open_drawer(plan: Plan, threads: int | None) -> ShardDrawer:
    """Load the models of a plan, in a process that has only the plan. Raises `GraphFileError` unless its files are
    those of the job, and what `load_pipeline` raises."""
    for path, sha256 in zip(plan.models.paths, plan.job.models, strict=True):
        if (found := file_digest(path)) != sha256:
            what = f"{path} is another file here (sha256 {found[:12]}…, expected {sha256[:12]}…)"
            raise GraphFileError(f"{what}; every machine needs the same models at the same paths.")
    return ShardDrawer(plan, plan.models.load(threads))
