"""The runtime: samples, replays and scores with exported graphs. Needs NumPy and one engine; never PyTorch."""

from __future__ import annotations

from pixelsnail_infer.distributions import from_uint8, to_uint8
from pixelsnail_infer.runtime.codec import Decoder, Encoder, load_decoder, load_encoder
from pixelsnail_infer.runtime.loading import load
from pixelsnail_infer.runtime.pipeline import Generated, Pipeline, load_pipeline
from pixelsnail_infer.runtime.sampler import Sampler

__all__ = [
    "Decoder", "Encoder", "Generated", "Pipeline", "Sampler", "from_uint8", "load", "load_decoder", "load_encoder",
    "load_pipeline", "to_uint8",
]  # fmt: skip
