"""What comes of reading a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

__all__ = ["LoadedCheckpoint"]


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A network and what is known about it; the caller owns all of it."""

    family: str
    """"vq-prior", "pixelsnail", "pixel-models", "pixelcnn" or "pixelcnn++"; of codecs "vq-vae" or "vq-first-stage";
    "denoiser"."""
    config: Any
    """The family's own, such as `PriorConfig` or `SnailConfig`."""
    module: nn.Module
    """In eval mode, float32, on the CPU, without gradients."""
    sha256: str
    """Of the file's bytes, in hexadecimal; of a TensorFlow bundle the index and then every shard."""
    findings: list[str]
    """What was recognised, assumed and ignored, one line each."""
    beside: list[str] = field(default_factory=list)
    """What else the file holds and was left aside, one line each: for people, no part of an export."""
