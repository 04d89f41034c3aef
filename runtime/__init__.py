"""The runtime: samples, replays and scores with exported graphs. Needs NumPy and one engine; never PyTorch."""

from __future__ import annotations

from pixelsnail_infer.distributions import from_uint8, to_uint8
from pixelsnail_infer.runtime.codecs.codec import Decoder, Encoder, load_decoder, load_encoder
from pixelsnail_infer.runtime.denoising.denoiser import Denoiser
from pixelsnail_infer.runtime.drawing.sampler import Sampler
from pixelsnail_infer.runtime.engine.engine import Engine
from pixelsnail_infer.runtime.engine.pipeline_engine import PipelineEngine
from pixelsnail_infer.runtime.engine.ticket import Ticket
from pixelsnail_infer.runtime.loading import load
from pixelsnail_infer.runtime.pipeline.generated import Generated
from pixelsnail_infer.runtime.pipeline.loading import load_pipeline
from pixelsnail_infer.runtime.pipeline.pipeline import Pipeline

__all__ = [
    "Decoder", "Denoiser", "Encoder", "Engine", "Generated", "Pipeline", "PipelineEngine", "Sampler", "Ticket",
    "from_uint8", "load", "load_decoder", "load_encoder", "load_pipeline", "to_uint8",
]  # fmt: skip
