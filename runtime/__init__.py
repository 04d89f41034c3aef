"""The runtime: samples, replays and scores with exported graphs. Needs NumPy and one engine; never PyTorch."""

from __future__ import annotations

from pixelsnail_infer.distributions import from_uint8, to_uint8
from pixelsnail_infer.runtime.codecs.codec import Decoder, Encoder, load_decoder, load_encoder
from pixelsnail_infer.runtime.drawing.loading import load
from pixelsnail_infer.runtime.drawing.sampler import Sampler
from pixelsnail_infer.runtime.pipeline.pipeline import Generated, Pipeline, load_pipeline

__all__ = [
    "Decoder", "Encoder", "Generated", "Pipeline", "Sampler", "from_uint8", "load", "load_decoder", "load_encoder",
    "load_pipeline", "to_uint8",
]  # fmt: skip
