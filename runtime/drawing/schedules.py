"""Which schedule draws a batch: row by row, or in waves.

The rule of `auto` is what was measured on two cores with ONNX Runtime. Waves win by drawing many pixels with each
weight that is read and each node that runs; a large batch has many pixels either way, and then the row graph, which has
whole rows of them, is quicker.
"""

from __future__ import annotations

from pixelsnail_infer.errors import BackendError, GraphFileError, RequestError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.backends.protocol import Backend, WaveBackend
from pixelsnail_infer.wave import SCHEDULES, wave_count

__all__ = ["check_schedule", "in_waves", "most_images", "runs_waves"]

IMAGES_PER_ROW, LARGE_IMAGES_PER_ROW = 4.0, 0.33
"""Of a batch that `auto` draws in waves there may be so many images for every row that is live on average; fewer of
networks that have an ahead graph, whose rows alone fill the processor. Time of rows over time of waves: an 8x8 PixelCNN
(1.8 rows) 1.12, 1.03 and 0.78 at 1, 8 and 16 images; a 16x16 prior (5.6 rows) 1.26, 1.08 and 0.93 at 1, 16 and 64; the
stock bottom prior (16.2 rows, ahead graph) 1.56, 1.10 and 0.90 at 1, 4 and 8."""


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


def most_images(shape: tuple[int, int], slope: int, span: int) -> int:
    """The largest batch that `auto` draws in waves."""
    live = shape[0] * shape[1] / wave_count(shape, slope)
    return max(1, int((IMAGES_PER_ROW if span == 1 else LARGE_IMAGES_PER_ROW) * live))


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
    few = size <= most_images(manifest.shape, manifest.wave.slope, manifest.wave.span)
    return not filtered and not known and (few or manifest.wave.preferred)
