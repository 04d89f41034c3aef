"""From a file to the model that draws with it, whatever its kind: a `Sampler` or a `Denoiser`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, overload

from pixelsnail_infer.denoiser import DENOISER
from pixelsnail_infer.errors import RequestError
from pixelsnail_infer.messages import shown
from pixelsnail_infer.runtime.denoising.denoiser import Denoiser
from pixelsnail_infer.runtime.denoising.loading import load_denoiser
from pixelsnail_infer.runtime.drawing.loading import load as load_prior
from pixelsnail_infer.runtime.drawing.sampler import Sampler
from pixelsnail_infer.runtime.files.archive_files import kind_of_file

__all__ = ["load"]

PRIOR = "prior"


@overload
def load(path_or_bytes: str | Path | bytes, *, kind: Literal["prior"], siblings: Mapping[str, bytes] | None = None,
         device: str = "cpu", backend: str = "auto", threads: int | None = None, schedule: str = "auto"
         ) -> Sampler: ...  # fmt: skip
@overload
def load(path_or_bytes: str | Path | bytes, *, kind: Literal["denoiser"], siblings: Mapping[str, bytes] | None = None,
         device: str = "cpu", backend: str = "auto", threads: int | None = None, schedule: str = "auto"
         ) -> Denoiser: ...  # fmt: skip
@overload
def load(path_or_bytes: str | Path | bytes, *, kind: None = None, siblings: Mapping[str, bytes] | None = None,
         device: str = "cpu", backend: str = "auto", threads: int | None = None, schedule: str = "auto"
         ) -> Sampler | Denoiser: ...  # fmt: skip
def load(
    path_or_bytes: str | Path | bytes,
    *,
    kind: Literal["prior", "denoiser"] | None = None,
    siblings: Mapping[str, bytes] | None = None,
    device: str = "cpu",
    backend: str = "auto",
    threads: int | None = None,
    schedule: str = "auto",
) -> Sampler | Denoiser:
    """Load an exported model that draws: a prior as a `Sampler`, a denoiser as a `Denoiser`, as its manifest says.

    With `kind` "prior" or "denoiser" a file of the other kind is a `ManifestError`, and type checkers know what comes.

    `path_or_bytes` is the step file (`out.onnx`); its siblings lie beside it under their names. With bytes, `siblings`
    maps "row", "prologue", "score", "filtered", "wave" and "ahead", or "times" of a denoiser, to theirs, as far as the
    model has them. Siblings must have the sha256 that the manifest gives; the score, filtered and wave graphs are read
    when first needed, so their files must stay until then.

    An export in the format torchscript is one archive, `out.pt`, and has no siblings.

    `device` is "cpu" or "cuda", of "torch" and "tensorrt" also "cuda:1" and so on; another device than the one asked
    for is never used. `backend` is "onnxruntime", which runs ONNX files, "torch", which runs archives, "tensorrt",
    which runs ONNX files on a GPU and first builds engines where none are kept, or "auto": onnxruntime or torch, as
    the file wants. `threads` is the number of threads that one run of a graph uses (None: every core this process may
    use, or PyTorch's own setting), and of TensorRT its builder; no global setting stays changed. Any thread may call
    the model; calls on one wait for each other.

    `schedule`, for priors, says in which order pixels are drawn, which changes how long it takes: "raster", row by row;
    "wavefront", one pixel of many rows at a time, for which the export must have wave graphs; "auto", what is quicker
    (see `drawing.schedules`).

    Raises `GraphFileError` (missing, altered, damaged or unsafe file), `ManifestError`, `BackendError`, or
    `RequestError` for a `kind` or a `schedule` that cannot be.
    """
    if kind not in (None, PRIOR, DENOISER):
        raise RequestError(f"kind is {shown(kind)}, expected {PRIOR!r}, {DENOISER!r} or None.")
    if (kind or _kind_of(path_or_bytes)) != DENOISER:
        return load_prior(path_or_bytes, siblings=siblings, device=device, backend=backend, threads=threads,
                          schedule=schedule)  # fmt: skip
    if schedule != "auto":
        raise RequestError(f"schedule is {shown(schedule)}, but a denoiser makes whole images; leave it out.")
    return load_denoiser(path_or_bytes, siblings=siblings, device=device, backend=backend, threads=threads)


def _kind_of(source: object) -> str | None:
    """What the file says it is; what is neither a path nor bytes counts as a prior, whose loading refuses it."""
    if isinstance(source, (str, Path, bytes)):
        return kind_of_file(source, (PRIOR, DENOISER), "step graph")
    return kind_of_file(bytes(source), (PRIOR, DENOISER), "step graph") if isinstance(source, bytearray) else PRIOR
