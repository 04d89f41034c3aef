"""Which schedule draws a batch: row by row, or in waves.

The rule of `auto` is what was measured on two cores with ONNX Runtime. Waves win by drawing many pixels with each
weight that is read and each node that runs; a large batch has many pixels either way, and then the row graph, which has
whole rows of them, is quicker. Networks with a lead leave most of their weights to the row graph, and have few rows
live: they are drawn in waves where rows and steps read so many more weights.
"""

from __future__ import annotations

from pixelsnail_infer.errors import BackendError, GraphFileError, RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.backends.protocol import Backend, WaveBackend
from pixelsnail_infer.wave import SCHEDULES, WaveSpec, wave_count

__all__ = ["check_schedule", "in_waves", "most_images", "runs_waves"]

IMAGES_PER_ROW, LARGE_IMAGES_PER_ROW = 4.0, 0.33
"""Of a batch that `auto` draws in waves there may be so many images for every row that is live on average; fewer of
networks that have an ahead graph, whose rows alone fill the processor. Time of rows over time of waves: an 8x8 PixelCNN
(1.8 rows) 1.12, 1.03 and 0.78 at 1, 8 and 16 images; a 16x16 prior (5.6 rows) 1.26, 1.08 and 0.93 at 1, 16 and 64; the
stock bottom prior (16.2 rows, ahead graph) 1.56, 1.10 and 0.90 at 1, 4 and 8."""

FEWER_WEIGHTS, FEWER_PER_IMAGE = 1.35, 0.3
"""Of networks with a lead: how many times the weights of waves rows and steps must read for one image, and how many
more for every other image of a batch. Gated PixelCNNs of two stacks, 64 features, time of rows over time of waves: 12
layers at 28x28 read 0.46 times as many, 0.59 and 0.28 at 1 and 4 images; 8 layers at 64x64 1.30 times, 0.96 and 0.59; 4
layers at 64x64 1.88 times, 1.50, 1.14 and 0.94 at 1, 2 and 4."""


def check_schedule(asked: object, manifest: Manifest, backend: Backend) -> None:
    """Raise `RequestError` for a schedule that is none, `GraphFileError` where the export has no wave graphs but they
    are asked for, `BackendError` where the backend does not run them."""
    if asked not in SCHEDULES:
        raise RequestError(f"schedule is {shown(asked)}, expected 'auto', 'raster' or 'wavefront'.")
    if asked == "wavefront" and manifest.wave is None:
        raise GraphFileError("This export has no wave graphs; leave schedule out, or export the checkpoint again with "
                             "--schedule wavefront.")  # fmt: skip
    if asked == "wavefront" and not runs_waves(backend):
        raise BackendError(f"the backend for device {backend.device!r} does not run wave graphs, only ONNX Runtime on "
                           "the CPU does; leave schedule out.")  # fmt: skip


def most_images(manifest: Manifest, wave: WaveSpec) -> int:
    """The largest batch that `auto` draws in waves; 0 for none."""
    height, width = manifest.shape
    waves = wave_count(wave.lanes(manifest.shape), wave.slope)
    live = height * width / waves
    most = max(1, int((IMAGES_PER_ROW if wave.span == 1 else LARGE_IMAGES_PER_ROW) * live))
    if not wave.lead:
        return most
    read = height * (manifest.parameters.per_row + width * manifest.parameters.per_step)
    fewer = read / (waves * max(wave.parameters, 1))
    return min(most, max(0, int(1 + (fewer - FEWER_WEIGHTS) / FEWER_PER_IMAGE)))


def runs_waves(backend: Backend) -> bool:
    """Whether the backend runs wave graphs."""
    return isinstance(backend, WaveBackend) and backend.device == "cpu"


def in_waves(asked: str, manifest: Manifest, backend: Backend, size: int, filtered: bool, known: int) -> bool:
    """Whether a batch of `size` images is drawn in waves. `filtered`: with top-k or top-p, which only steps have;
    `known` leading rows are filled in by the score graph, which leaves states for steps.

    Raises `RequestError` where waves are asked for and cannot draw the batch.
    """
    if asked == "wavefront" and filtered:
        raise RequestError("waves have no top-k and top-p; leave them out, or load the model without "
                           "schedule='wavefront'.")  # fmt: skip
    if asked != "auto" or manifest.wave is None or not runs_waves(backend):
        return asked == "wavefront"
    few = size <= most_images(manifest, manifest.wave)
    return not filtered and not known and (few or manifest.wave.preferred)
