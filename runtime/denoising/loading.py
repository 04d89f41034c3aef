"""From a path or bytes to a `Denoiser`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pixelsnail_infer.denoiser import TIMES, DenoiserManifest
from pixelsnail_infer.runtime.backends import Backend, Graph, choose_backend, open_backend
from pixelsnail_infer.runtime.backends.graphs import load_graph
from pixelsnail_infer.runtime.backends.plans import check_plan
from pixelsnail_infer.runtime.denoising.batch import batch_bytes
from pixelsnail_infer.runtime.denoising.denoiser import Denoiser
from pixelsnail_infer.runtime.denoising.files import DenoiserFiles, denoiser_signature
from pixelsnail_infer.runtime.requests.memory import expect_room

__all__ = ["load_denoiser", "opened"]


def load_denoiser(
    path_or_bytes: str | Path | bytes,
    *,
    siblings: Mapping[str, bytes] | None = None,
    device: str = "cpu",
    backend: str = "auto",
    threads: int | None = None,
) -> Denoiser:
    """Load an exported denoiser from its step file, which the part `times` lies beside, or from an archive of both.

    With bytes, `siblings` maps "times" to those of that file. The rest is as for `pixelsnail_infer.runtime.load`.

    Raises `GraphFileError` (missing, altered, damaged or unsafe file), `ManifestError` (not a denoiser) or
    `BackendError`.
    """
    return Denoiser(*opened(path_or_bytes, siblings, device=device, backend=backend, threads=threads))


def opened(
    source: str | Path | bytes, siblings: Mapping[str, bytes] | None = None, *, device: str, backend: str,
    threads: int | None,
) -> tuple[DenoiserManifest, Backend, Graph, Graph]:  # fmt: skip
    """What `load_denoiser` makes a `Denoiser` of: the manifest, the engine, and both graphs loaded into it."""
    files = DenoiserFiles(source, siblings)
    manifest, name = files.manifest, files.step.name
    expect_room(batch_bytes(manifest, 1), name)
    engine = open_backend(device, threads, choose_backend(backend, files.step.format, name))
    check_plan(manifest.plan, engine, name)
    times = files.times()
    levels = {spec.name: spec.levels for spec in manifest.conditions if spec.levels is not None}
    step = load_graph(engine, files.step, denoiser_signature(manifest, "step"), {})
    return manifest, engine, step, load_graph(engine, times, denoiser_signature(manifest, TIMES), levels)
