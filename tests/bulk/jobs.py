"""Jobs whose images nobody draws: noise of the right shape, so that folders are tested without a model."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np

from pixelsnail_infer.runtime.bulk.filling import fill_folder
from pixelsnail_infer.runtime.bulk.folder import open_folder
from pixelsnail_infer.runtime.bulk.job import Job
from pixelsnail_infer.runtime.bulk.parquet import parquet
from pixelsnail_infer.runtime.bulk.records import Field, record_dtype
from pixelsnail_infer.runtime.bulk.shards import Shard
from pixelsnail_infer.runtime.files.arrays import npy

KEYS = (Field("seed", "<u8", ()), Field("index", "<u8", ()))


def a_job(*, seed: int = 7, format: str = "npy", name: str = "codes") -> Job:
    return Job(
        n=23, shard=5, format=format, seed=str(seed), models=("0" * 64,), links={}, temperature=1.0, top_k=None,
        top_p=None, classes={}, conditions={}, fields=(*KEYS, Field("label", "<i4", ()), Field(name, "|u1", (8, 8))),
        device="cpu", backend="auto", files=("a.onnx",), written_by="nobody",
    )  # fmt: skip


def images(job: Job, shard: Shard) -> np.ndarray:
    found = np.zeros(shard.count, record_dtype(job.fields))
    found["seed"], found["index"] = int(job.seed), np.arange(shard.first, shard.first + shard.count)
    noise = np.random.default_rng(int(job.seed) + shard.number).integers(0, 256, (shard.count, 8, 8))
    found[job.fields[-1].name] = noise
    return found


def file_of(job: Job, shard: Shard) -> bytes:
    return parquet(images(job, shard)) if job.format == "parquet" else npy(images(job, shard))


def fill(path: Path, job: Job) -> Path:
    with open_folder(path, job) as folder, closing((shard, file_of(job, shard)) for shard in folder.missing()) as drawn:
        fill_folder(folder, drawn)
        folder.expect_complete()
    return path
