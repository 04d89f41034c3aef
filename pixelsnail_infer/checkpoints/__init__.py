"""Which file is which model, and how to load it safely."""

from pixelsnail_infer.checkpoints.loading import LoadedCheckpoint, load_checkpoint
from pixelsnail_infer.checkpoints.options import CheckpointOptions

__all__ = ["CheckpointOptions", "LoadedCheckpoint", "load_checkpoint"]
