"""A TensorFlow checkpoint by its path, in either of the formats that `tf.train.Saver` writes."""

from __future__ import annotations

import os
from pathlib import Path

from pixelsnail_infer.checkpoints.tf_bundle import bundle_prefix, read_bundle
from pixelsnail_infer.checkpoints.tf_slices import read_slices, slice_file
from pixelsnail_infer.checkpoints.tf_variables import Variables

__all__ = ["open_variables", "tensorflow_path"]


def tensorflow_path(path: str | os.PathLike[str]) -> Path | None:
    """The prefix of the bundle that `path` means, or the single file that it is; None for other files."""
    return bundle_prefix(path) or slice_file(path)


def open_variables(path: str | os.PathLike[str]) -> Variables:
    """The variables; a path that is neither format is read as a bundle's prefix. Raises CheckpointError."""
    prefix = bundle_prefix(path)
    single = None if prefix else slice_file(path)
    return read_slices(single) if single else read_bundle(prefix or Path(path))
