"""What an export gives back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pixelsnail_infer.codec import CodecManifest
from pixelsnail_infer.denoiser import DenoiserManifest
from pixelsnail_infer.export.proofs.verify import Check
from pixelsnail_infer.manifest import Manifest

__all__ = ["Exported"]

M = TypeVar("M", bound=Manifest | CodecManifest | DenoiserManifest, covariant=True)


@dataclass(frozen=True, slots=True)
class Exported(Generic[M]):
    """What an export wrote: the manifest (in the format both, that of the ONNX files), the files (the step
    first), and the proofs."""

    manifest: M
    files: tuple[Path, ...]
    checks: tuple[Check, ...]
    seen: tuple[str, ...] = ()
    """What showed of the network as it ran; among the manifest's notes as well."""

    @property
    def file(self) -> Path:
        """The file to load: the step, the decoder or the encoder."""
        return self.files[0]
