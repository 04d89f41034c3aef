"""What a service is told at its start."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LOCAL", "Settings"]

LOCAL = ("127.0.0.1", "::1", "localhost")
"""Addresses that only this machine reaches, and the names that a browser knows them by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Limits, and who may ask.

    `keys` are SHA-256 digests of API keys; without any, everybody who reaches the port may ask. `hosts` are the names
    that a request may address this service by; without any, all. `most_images` bounds n of a request, `most_body` the
    bytes of its body, `most_bodies` those of all bodies that are in memory at once, and `streams` how many streams one
    client may have open. While answers of more than `most_unsent` bytes wait for their clients, no images are drawn for
    new requests. A body must be there after `body_seconds`; a connection whose client takes nothing of an answer for
    `stall_seconds` is closed, and a stream without rows has a sign of life every `ping_seconds`.
    """

    keys: tuple[bytes, ...] = ()
    hosts: tuple[str, ...] = ()
    most_images: int = 64
    most_body: int = 8 << 20
    most_bodies: int = 64 << 20
    most_unsent: int = 256 << 20
    streams: int = 4
    body_seconds: float = 30.0
    stall_seconds: float = 60.0
    ping_seconds: float = 15.0
