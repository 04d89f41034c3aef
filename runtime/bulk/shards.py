"""Shards: consecutive images of a job that lie in one file, and the names of the files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from pixelsnail_infer.errors import RequestError

__all__ = ["MOST_SHARDS", "Shard", "ShardName", "check_shards", "default_size", "named", "shard_of", "shards_in"]

MOST_SHARDS = 1_000_000
_LARGEST, _SMALLEST = 1024, 16
_BYTES = 1 << 26  # of a shard whose size nobody gave, about
_DIGEST = 16  # hexadecimal digits of the sha256 in a name
_NAME = re.compile(r"shard-(\d{5,7})-of-(\d{5,7})\.([0-9a-f]{16})\.(npy|parquet)")


@dataclass(frozen=True, slots=True)
class Shard:
    """Images first … first + count - 1; `number` counts shards from 0."""

    number: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class ShardName:
    """What a file's name says: which shard of how many, its format, and how its sha256 begins."""

    number: int
    total: int
    digest: str
    format: str

    @staticmethod
    def parse(name: str) -> ShardName | None:
        """None for a file that is no shard."""
        if (match := _NAME.fullmatch(name)) is None:
            return None
        return ShardName(int(match[1]), int(match[2]), match[3], match[4])

    def __str__(self) -> str:
        return f"shard-{self.number:05d}-of-{self.total:05d}.{self.digest}.{self.format}"

    def fits(self, digest: Any) -> bool:
        """Whether a hash object that has seen the file's bytes agrees."""
        return bool(digest.hexdigest()[:_DIGEST] == self.digest)


def named(number: int, total: int, data: bytes, format: str) -> ShardName:
    """The name of the file that holds `data`."""
    return ShardName(number, total, hashlib.sha256(data).hexdigest()[:_DIGEST], format)


def shards_in(n: int, size: int) -> int:
    """How many shards of `size` images hold n."""
    return -(-n // size)


def shard_of(number: int, n: int, size: int) -> Shard:
    """Shard `number` of n images; the last one may be smaller."""
    return Shard(number, number * size, min(size, n - number * size))


def check_shards(n: int, size: int) -> None:
    """Raise `RequestError` for more files than a folder should hold."""
    if (total := shards_in(n, size)) > MOST_SHARDS:
        raise RequestError(f"{n:,} images in shards of {size} make {total:,} files, expected at most {MOST_SHARDS:,}; "
                           "give a larger --shard.")  # fmt: skip


def default_size(n: int, record: int) -> int:
    """Images of a shard where nobody says how many, for n images that take `record` bytes each: a power of two, so that
    whole batches fill it."""
    size = _LARGEST
    while size > _SMALLEST and size * record > _BYTES:
        size //= 2
    while shards_in(n, size) > MOST_SHARDS:
        size *= 2
    return size
