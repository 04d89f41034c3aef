"""The file of a shard: the one place that opens it, and says whether it holds the images that it should."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.plainfile import open_plain
from pixelsnail_infer.runtime.bulk.digest import sha256_of
from pixelsnail_infer.runtime.bulk.job import Job
from pixelsnail_infer.runtime.bulk.parquet import read_parquet
from pixelsnail_infer.runtime.bulk.records import KEY, record_dtype
from pixelsnail_infer.runtime.bulk.shards import Shard, ShardName, shard_of
from pixelsnail_infer.runtime.files.arrays import map_records

__all__ = ["ShardFile"]


@dataclass(frozen=True, slots=True)
class ShardFile:
    """The file `name` of a job's folder."""

    folder: Path
    name: ShardName
    job: Job

    def check(self) -> None:
        """Raise `GraphFileError` unless the file has the sha256 that its name says, and its first and last record are
        those of its shard."""
        with self._opened() as file:
            self._expect_digest(file)
            ends = self._records(file, keys_only=True)[[0, -1]]
            self._expect_images(ends, np.array([self._shard.first, self._shard.first + self._shard.count - 1]))

    def records(self, digests: bool) -> NDArray[Any]:
        """The records [b]; those of a .npy file are mapped, read-only. Raises `GraphFileError` unless every one is of
        the image that it should be of, and with `digests` unless the file has the sha256 that its name says."""
        with self._opened() as file:
            if digests:
                self._expect_digest(file)
            records = self._records(file)
            self._expect_images(records, np.arange(self._shard.first, self._shard.first + self._shard.count))
            return records

    @property
    def _path(self) -> Path:
        return self.folder / str(self.name)

    @property
    def _shard(self) -> Shard:
        return shard_of(self.name.number, self.job.n, self.job.shard)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        """The open file. What cannot be read in it is damaged, or, where its sha256 is right, of another job."""
        try:
            with open_plain(self._path) as file:
                try:
                    yield file
                except ValueError as error:
                    self._expect_digest(file)
                    what = f"{self._path} has the sha256 of its name, but is no shard of this job: {error}"
                    raise GraphFileError(f"{what}; move it away, and the same bulk command draws it again.") from error
        except OSError as error:
            raise GraphFileError(f"{self._path} cannot be read ({error.strerror or error}); check the disk.") from error

    def _expect_digest(self, file: BinaryIO) -> None:
        if not self.name.fits(found := sha256_of(file)):
            what = f"{self._path} is damaged: its sha256 begins with {found[:16]}, not as its name says"
            raise GraphFileError(f"{what}; delete it, and the same bulk command draws it again.")

    def _records(self, file: BinaryIO, keys_only: bool = False) -> NDArray[Any]:
        """All records, or those of a Parquet file with fewer fields. Raises `ValueError` where it holds others."""
        dtype, count = record_dtype(self.job.fields), self._shard.count
        if self.job.format == "parquet":
            return read_parquet(file, dtype, count, list(KEY) if keys_only else None)
        return map_records(file, dtype, count)

    def _expect_images(self, records: NDArray[Any], numbers: NDArray[np.int64]) -> None:
        seed = int(self.job.seed)
        wrong = (records["seed"] != np.uint64(seed)) | (records["index"] != numbers.astype(np.uint64))
        if wrong.any():
            at = int(np.argmax(wrong))
            found = f"image {records['index'][at]} of seed {records['seed'][at]}"
            raise ValueError(f"it holds {found}, expected image {numbers[at]} of seed {seed}")
