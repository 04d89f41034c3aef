"""The files of an exported denoiser: the step, which has the manifest, and the part `times` beside it, or an archive of
both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pixelsnail_infer.denoiser import DENOISER, LABEL, LOW_RES, TIMES, DenoiserManifest
from pixelsnail_infer.errors import GraphFileError, ManifestError
from pixelsnail_infer.manifest import METADATA_KEY, PART_KEY, sibling_path
from pixelsnail_infer.runtime.backends.signature import Signature, Tensors
from pixelsnail_infer.runtime.denoising.schedule import COEFFICIENTS
from pixelsnail_infer.runtime.files.archive_files import is_archive, read_file
from pixelsnail_infer.runtime.files.graphfile import GraphFile, read_graph
from pixelsnail_infer.runtime.files.model_files import expect_described, expect_kind

__all__ = ["DenoiserFiles", "denoiser_signature"]


class DenoiserFiles:
    """The step file, read and checked, with its manifest; the other is opened when it is asked for.

    Raises `GraphFileError` and `ManifestError`.
    """

    def __init__(self, source: str | Path | bytes, siblings: Mapping[str, bytes] | None = None) -> None:
        if not isinstance(source, (str, Path, bytes, bytearray)):
            raise GraphFileError(f"path_or_bytes is a {type(source).__name__}, expected a path or the file's bytes.")
        archived = is_archive(source)
        if archived and siblings is not None:
            raise GraphFileError("siblings were given with an archive, which holds all parts; leave them out.")
        if not archived and isinstance(source, (bytes, bytearray)) != (siblings is not None):
            raise GraphFileError("The step graph as bytes needs siblings={'times': …}, and a path takes none.")
        self._source, self._siblings = source, siblings
        self.step = replace(read_file(source, "step"), what="step graph") if archived \
            else read_graph(source, "step graph")
        expect_kind(self.step, (DENOISER,))
        try:
            self.manifest = DenoiserManifest.from_json(self.step.metadata[METADATA_KEY])
        except ManifestError as error:
            raise ManifestError(f"{self.step.name}: {error}") from error
        expect_described(self.step, self.manifest.archive)

    def times(self) -> GraphFile:
        """The part `times`. Raises `GraphFileError` when it is missing, altered or of another export."""
        if self.manifest.archive is not None:
            return replace(self.step, part=TIMES, what=f"{TIMES} graph")
        file, expected = self._times(), self.manifest.files[TIMES].sha256
        if file.sha256 != expected:
            raise GraphFileError(
                f"{file.name} is not the file that the manifest names (sha256 {str(file.sha256)[:12]}…, expected "
                f"{expected[:12]}…); copy all files of one export together, or export again."
            )
        if (found := file.metadata.get(PART_KEY)) != TIMES:
            raise GraphFileError(f"{file.name} says it is {found!r}, expected {TIMES!r}; export the checkpoint again.")
        return file

    def _times(self) -> GraphFile:
        what = f"{TIMES} graph"
        if isinstance(self._source, (str, Path)):
            return read_graph(sibling_path(self._source, TIMES), what, digest=True)
        if self._siblings is None or TIMES not in self._siblings:
            raise GraphFileError(f"siblings lacks {TIMES!r}, which this model needs; give the bytes of that file.")
        return read_graph(self._siblings[TIMES], what, digest=True)


def denoiser_signature(manifest: DenoiserManifest, part: str) -> Signature:
    """What the part "step" or "times" takes and gives."""
    projections: Tensors = {"projections": ("float32", (manifest.projections,))}
    conditions: Tensors = {spec.name: (spec.dtype, spec.shape) for spec in manifest.conditions}
    if part == TIMES:
        return Signature({"time": ("float32", ())} | _only(conditions, LABEL), projections)
    image = ("float32", (manifest.image.channels, *manifest.image.shape))
    inputs: Tensors = {"x": image, "noise": image, "coefficients": ("float32", (len(COEFFICIENTS),))}
    outputs: Tensors = {"x_prev": image, "x0": image}
    if manifest.diffusion.variance == "learned-range":
        outputs["log_variance"] = image
    return Signature(inputs | projections | _only(conditions, LOW_RES), outputs)


def _only(tensors: Tensors, name: str) -> Tensors:
    return {name: tensors[name]} if name in tensors else {}
