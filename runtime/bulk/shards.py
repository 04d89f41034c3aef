"""Shards: consecutive images of a job that lie in one file, and the names of the files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.plainfile import machine_memory

__all__ = [
    "FORMATS", "MOST_SHARDS", "Shard", "ShardName", "check_shards", "default_size", "named", "shard_of", "shards_in",
]  # fmt: skip

FORMATS = ("npy", "parquet")
MOST_SHARDS = 1_000_000
_LARGEST, _SMALLEST = 1024, 16
_BYTES = 1 << 26  # of a shard whose size nobody gave, about
_DIGEST = 16  # hexadecimal digits of the sha256 in a name
_NAME = re.compile(rf"shard-([0-9]{{5,7}})-of-([0-9]{{5,7}})\.([0-9a-f]{{16}})\.({'|'.join(FORMATS)})")


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
        """None for a file that is no shard: a name counts only as `str` spells it."""
        if (match := _NAME.fullmatch(name)) is None:
            return None
        found = ShardName(int(match[1]), int(match[2]), match[3], match[4])
        return found if str(found) == name else None

    def __str__(self) -> str:
        return f"shard-{self.number:05d}-of-{self.total:05d}.{self.digest}.{self.format}"

    def fits(self, sha256: str) -> bool:
        """Whether the sha256 of the file's bytes, in hexadecimal digits, is the one that the name says."""
        return sha256[:_DIGEST] == self.digest


def named(number: int, total: int, data: bytes, format: str) -> ShardName:
    """The name of the file that holds `data`."""
    return ShardName(number, total, hashlib.sha256(data).hexdigest()[:_DIGEST], format)


def shards_in(n: int, size: int) -> int:
    """How many shards of `size` images hold n."""
    return -(-n // size)


def shard_of(number: int, n: int, size: int) -> Shard:
    """Shard `number` of n images; the last one may be smaller."""
    return Shard(number, number * size, min(size, n - number * size))


def check_shards(n: int, size: int, record: int) -> None:
    """Raise `RequestError` for more files than a folder should hold, and for a shard of images that take `record` bytes
    each which this machine cannot make: it is in memory twice, as records and as a file."""
    if (total := shards_in(n, size)) > MOST_SHARDS:
        raise RequestError(f"{n:,} images in shards of {size} make {total:,} files, expected at most {MOST_SHARDS:,}; "
                           "give a larger --shard.")  # fmt: skip
    needed, memory = 2 * min(n, size) * record, machine_memory()
    if memory is not None and needed > memory:
        raise RequestError(f"A file of {min(n, size):,} images needs {needed:,} bytes of memory, and this machine has "
                           f"{memory:,}; give a smaller --shard.")  # fmt: skip


def default_size(n: int, record: int) -> int:
    """Images of a shard where nobody says how many, for n images that take `record` bytes each: a power of two, so that
    whole batches fill it."""
    size = _LARGEST
    while size > _SMALLEST and size * record > _BYTES:
        size //= 2
    while shards_in(n, size) > MOST_SHARDS:
        size *= 2
    return size
