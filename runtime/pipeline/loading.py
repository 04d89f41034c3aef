"""From paths to a `Pipeline`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pixelsnail_infer.denoiser import DENOISER
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.runtime.codecs.codec import load_decoder, load_encoder
from pixelsnail_infer.runtime.denoising.loading import load_denoiser
from pixelsnail_infer.runtime.drawing.loading import load
from pixelsnail_infer.runtime.files.archive_files import kind_of_file
from pixelsnail_infer.runtime.pipeline.pipeline import Pipeline
from pixelsnail_infer.runtime.pipeline.stages import Stage
from pixelsnail_infer.runtime.pipeline.wiring import Links

__all__ = ["load_pipeline"]


def load_pipeline(
    paths: Sequence[str | Path],
    *,
    encoder: str | Path | None = None,
    links: Links | None = None,
    device: str | Sequence[str] = "cpu",
    backend: str | Sequence[str] = "auto",
    threads: int | None = None,
) -> Pipeline:
    """Load exported files as a `Pipeline` that owns them: priors in order of drawing, then optionally a decoder, then
    denoisers, or denoisers alone; each file's manifest says which it is. `device`, `backend` and `threads` are as for
    `load`, for all files; each of the first two may also be a sequence with one entry for each file, the encoder's
    last.

    Raises `RequestError` when they do not fit together, and what `load` raises; then nothing stays loaded.
    """
    files = len(paths) + (encoder is not None)
    devices, backends = _per_file(device, "device", files), _per_file(backend, "backend", files)
    loaded: list[Stage] = []
    with ExitStack() as opened:
        for path, place, engine in zip(paths, devices, backends, strict=False):  # the encoder has no path here
            stage = _load(path, device=place, backend=engine, threads=threads)
            opened.callback(stage.close)
            loaded.append(stage)
        encodes = None
        if encoder is not None:
            encodes = opened.enter_context(load_encoder(
                encoder, device=devices[-1], backend=backends[-1], threads=threads))
        pipeline = Pipeline(loaded, encodes, links=links, owns=True)
        opened.pop_all()
    return pipeline


def _load(path: str | Path, **how: Any) -> Stage:
    kind = kind_of_file(path, ("prior", "decoder", DENOISER))
    return load_denoiser(path, **how) if kind == DENOISER else load_decoder(path, **how) if kind == "decoder" \
        else load(path, **how)  # fmt: skip


def _per_file(value: str | Sequence[str], name: str, files: int) -> list[str]:
    """What one value, or a sequence of one for each file, says of every file."""
    if isinstance(value, str) or not isinstance(value, Sequence):  # what is neither, `load` refuses
        return [value] * files
    if len(value) != files:
        raise RequestError(f"{name} has {len(value)} entries for {files} files, the encoder's included; give one for "
                           "all, or one for each.")  # fmt: skip
    return list(value)
