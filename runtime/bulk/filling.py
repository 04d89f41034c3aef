"""Filling a folder: the shards that it lacks, drawn here or elsewhere, written by this process."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing

from pixelsnail_infer.errors import PixelsnailError, RequestError
from pixelsnail_infer.runtime.bulk.drawer import ShardDrawer
from pixelsnail_infer.runtime.bulk.folder import BulkFolder, FolderChanged
from pixelsnail_infer.runtime.bulk.shards import Shard

__all__ = ["Drawn", "OnImages", "drawn_here", "fill_folder"]

OnImages = Callable[[int], object]
"""Told how many images more are drawn."""
Drawn = Generator[tuple[Shard, bytes], None, None]
"""Shards as they are done, each with the bytes of its file."""


def fill_folder(folder: BulkFolder, drawn: Drawn) -> None:
    """Write every shard that `drawn` gives, with the bytes of its file, in whatever order.

    An error or an interrupt says how far it came: everything that was written stays, and the next call draws the rest.
    """
    try:
        with closing(drawn):
            for shard, data in drawn:
                folder.keep(shard, data)
    except FolderChanged:  # nobody knows what is written now
        raise
    except (PixelsnailError, MemoryError) as error:
        raise RequestError(f"{error} {_state(folder)}") from error
    except KeyboardInterrupt as stop:
        raise KeyboardInterrupt(_state(folder)) from stop


def drawn_here(drawer: ShardDrawer, shards: Iterable[Shard], on_images: OnImages) -> Drawn:
    """Draw the shards in this process, one after the other."""
    for shard in shards:
        yield shard, drawer.file(shard, on_images)


def _state(folder: BulkFolder) -> str:
    done, total = folder.shards_done
    return f"{done} of {total} shards are written; the same command draws the rest."
