"""The stages of a pipeline by what they do: priors, then at most one decoder, then denoisers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pixelsnail_infer.codec import CodecManifest
from pixelsnail_infer.denoiser import DenoiserManifest
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.codecs.codec import Decoder, Encoder
from pixelsnail_infer.runtime.denoising.denoiser import Denoiser
from pixelsnail_infer.runtime.drawing.sampler import Sampler

__all__ = ["Stage", "Stages", "make_stages"]

Stage = Sampler | Decoder | Denoiser


@dataclass(frozen=True, slots=True)
class Stages:
    """They run in this order; each kind may be lacking."""

    priors: tuple[Sampler, ...]
    decoder: Decoder | None
    denoisers: tuple[Denoiser, ...]

    @property
    def manifests(self) -> tuple[Manifest | CodecManifest | DenoiserManifest, ...]:
        """The frozen descriptions, in order."""
        coded = () if self.decoder is None else (self.decoder.manifest,)
        return (*(prior.manifest for prior in self.priors), *coded, *(one.manifest for one in self.denoisers))


def make_stages(stages: Sequence[Any]) -> Stages:
    """Stages in order of drawing. Raises `RequestError` for what is none, and for an order that cannot be."""
    for place, stage in enumerate(stages):
        what = f"stages[{place}] is "
        if isinstance(stage, Encoder):
            raise RequestError(f"{what}an encoder; give it as encoder=, beside the stages.")
        if not isinstance(stage, Stage):
            raise RequestError(f"{what}a {type(stage).__name__}, expected what load or load_decoder returns; "
                               "load_pipeline takes paths.")  # fmt: skip
        after = stages[place + 1 :]
        if isinstance(stage, Decoder) and not all(isinstance(other, Denoiser) for other in after):
            raise RequestError(f"{what}a decoder, which only denoisers can follow; give the priors before it.")
        if isinstance(stage, Denoiser) and not all(isinstance(other, Denoiser) for other in after):
            raise RequestError(f"{what}a denoiser, which only denoisers can follow; give priors and the decoder "
                               "before it.")  # fmt: skip
    decoders = [stage for stage in stages if isinstance(stage, Decoder)]
    return Stages(tuple(stage for stage in stages if isinstance(stage, Sampler)), decoders[0] if decoders else None,
                  tuple(stage for stage in stages if isinstance(stage, Denoiser)))  # fmt: skip
