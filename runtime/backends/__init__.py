"""Engines that run the graphs. `open_backend` opens one, and never another device than the one asked for."""

from __future__ import annotations

from pixelsnail_infer.runtime.backends.choosing import BACKENDS, choose_backend, is_device, open_backend
from pixelsnail_infer.runtime.backends.protocol import Backend, BoundGraph, Buffer, Graph, TensorInfo

__all__ = [
    "BACKENDS", "Backend", "BoundGraph", "Buffer", "Graph", "TensorInfo", "choose_backend", "is_device", "open_backend",
]  # fmt: skip
