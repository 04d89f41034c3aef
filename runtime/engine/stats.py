"""What an engine did so far and has at hand: counted by its loop, read at any time."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Stats"]


@dataclass(slots=True)
class Stats:
    """A snapshot. Counts and seconds are of the engine's whole life; differences of two snapshots are of the time
    between them.

    At hand: `waiting` requests with images that have no slot yet, `waiting_images`, `live` images in slots of `slots`,
    `held_bytes` of `memory` bytes that all unfinished requests hold.
    Ended requests: `done`, `failed`, `expired`, `cancelled` (also by `close`); and `refused` ones: not accepted.
    `images` are finished ones. `batches` counts the rows that were drawn for a whole batch, and took `batch_seconds`;
    `rows` counts rows of images, `slot_rows` the slots that the batches had: occupancy is rows / slot_rows.
    `failures` counts rows and joins at which the backend failed.
    Of `begun` requests, the first image waited `wait_seconds` for its slot; of `seen` requests, the first row came
    `first_row_seconds` after they were submitted. All of these are sums.
    """

    slots: int
    memory: int
    waiting: int = 0
    waiting_images: int = 0
    live: int = 0
    held_bytes: int = 0
    done: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0
    refused: int = 0
    images: int = 0
    batches: int = 0
    batch_seconds: float = 0.0
    rows: int = 0
    slot_rows: int = 0
    failures: int = 0
    begun: int = 0
    wait_seconds: float = 0.0
    seen: int = 0
    first_row_seconds: float = 0.0
