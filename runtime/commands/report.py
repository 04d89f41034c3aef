"""What `info` prints: the manifest for people, the memory of the states, and whether the files are intact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pixelsnail_infer.codec import CODEC_KINDS, CodecManifest
from pixelsnail_infer.denoiser import DENOISER, DenoiserManifest
from pixelsnail_infer.errors import GraphFileError
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.runtime.codecs.codec import read_codec
from pixelsnail_infer.runtime.denoising.files import DenoiserFiles
from pixelsnail_infer.runtime.drawing.batch import buffer_bytes
from pixelsnail_infer.runtime.drawing.states import state_bytes
from pixelsnail_infer.runtime.files.archive_files import ArchiveFiles, is_archive, kind_of_file
from pixelsnail_infer.runtime.files.graphfile import GraphFile
from pixelsnail_infer.runtime.files.model_files import LOADERS, ModelFiles
from pixelsnail_infer.runtime.requests.conditions import describe


def describe_files(path: str | Path, *, json: bool = False) -> tuple[str, bool]:
    """Text about the export at `path`, and whether all its files are there and intact. Loads no engine.

    With `json` the text is the manifest's JSON and the other files are not looked at.
    """
    kind = kind_of_file(path, tuple(LOADERS))
    if kind == DENOISER:
        return _denoiser(DenoiserFiles(path), json)
    if kind in CODEC_KINDS:
        file, codec = read_codec(path)
        return (codec.to_json() if json else "\n".join(_codec(codec, file))), True
    if is_archive(path):
        archive = ArchiveFiles(path)
        return (archive.manifest.to_json() if json else "\n".join(_archive(archive))), True
    files = ModelFiles(path)
    manifest = files.manifest
    if json:
        return manifest.to_json(), True
    lines = [*_model(manifest), *_states(manifest), "files"]
    intact = True
    for part in manifest.files:
        try:
            file = files.open(part)
            lines.append(f"  {Path(file.name).name}  {_size(file.size)}, intact")
        except GraphFileError as error:
            intact = False
            lines.append(f"  {error}")
    return "\n".join(lines), intact


def _archive(archive: ArchiveFiles) -> Iterator[str]:
    manifest, file = archive.manifest, archive.open("step")
    yield from (*_model(manifest), *_states(manifest), "files")
    parts = ", ".join(("step", *manifest.parts))
    yield f"  {Path(file.name).name}  {_size(file.size)}, intact: an archive of {parts}"


def _codec(manifest: CodecManifest, file: GraphFile) -> Iterator[str]:
    image, precision, what = manifest.image, manifest.precision, "file" if file.part is None else "archive"
    colours = f"{image.channels} channel{'s' if image.channels > 1 else ''}"
    values = "in [-1, 1]" if image.values == "pixels" else f"of {image.values} values"
    yield f"{manifest.kind} of family {manifest.model.family}, format version {manifest.format_version}"
    yield f"  image       {image.shape[0]}×{image.shape[1]}, {colours} {values}"
    for spec in manifest.codes:
        yield f"  codes       {spec.name}: {spec.shape[0]}×{spec.shape[1]}, codes 0…{spec.levels - 1}"
    yield f"  parameters  {manifest.parameters:,}, precision {precision}, one {what} of {_size(file.size)}"
    yield from _origin(manifest)


def _denoiser(files: DenoiserFiles, json: bool) -> tuple[str, bool]:
    manifest, spec = files.manifest, files.manifest.diffusion
    if json:
        return manifest.to_json(), True
    image = manifest.image
    lines = [f"{manifest.kind} of family {manifest.model.family}, format version {manifest.format_version}",
             f"  image       {image.shape[0]}×{image.shape[1]}, {image.channels} channel"
             f"{'s' if image.channels > 1 else ''} in [-1, 1]",
             *(f"  condition   {describe(condition)}" for condition in manifest.conditions),
             f"  diffusion   {spec.steps} steps, {spec.noise_schedule}, predicts {spec.predict}, variance "
             f"{spec.variance}, times {'rescaled to 0 to 1000' if spec.rescale_timesteps else 'as they are'}",
             f"  parameters  {manifest.parameters:,}, precision {manifest.precision}, {manifest.projections:,} numbers "
             "tell an image its step",
             *_origin(manifest), "files"]  # fmt: skip
    try:
        times = files.times()
        held = "" if manifest.archive is None else ": an archive of step, times"
        return "\n".join([*lines, f"  {Path(times.name).name}  {_size(times.size)}, intact{held}"]), True
    except GraphFileError as error:
        return "\n".join([*lines, f"  {error}"]), False


def _origin(manifest: Manifest | CodecManifest | DenoiserManifest) -> Iterator[str]:
    yield f"  checkpoint  sha256 {manifest.checkpoint.sha256}"
    yield "  versions    " + ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    for name, value in manifest.verification.items():
        yield f"  verified    {name}: {value}"
    for note in manifest.notes:
        yield f"  note        {note}"


def _model(manifest: Manifest) -> Iterator[str]:
    parameters = manifest.parameters
    yield f"{manifest.kind} of family {manifest.model.family}, format version {manifest.format_version}"
    yield f"  canvas      {manifest.height}×{manifest.width}, {_pixels(manifest)}"
    for spec in manifest.conditions:
        yield f"  condition   {describe(spec)}"
    yield f"  parameters  {parameters.total:,}, read per image {parameters.per_image:,}, per row " + (
        f"{parameters.per_row:,}, per step {parameters.per_step:,}"
    )
    yield "  schedule    " + str(manifest.plan).removeprefix("schedule ")
    if (wave := manifest.wave) is not None:
        ahead = f", {wave.span} of them computed ahead together" if wave.span > 1 else ""
        yield f"  waves       also in waves of slope {wave.slope}{ahead}; parameters {wave.parameters:,}"
    if (bits := manifest.bits_per_dim) is not None:
        yield f"  bits/dim    {bits.exported:.4f} instead of {bits.reference:.4f} in float32, a change of " + (
            f"{bits.change:.2%} (allowed {bits.limit:.2%}), on {bits.images} {bits.codes} images"
        )
    yield f"  draw        {_distribution(manifest)}, noise version {manifest.noise.version}"
    yield from _origin(manifest)


def _pixels(manifest: Manifest) -> str:
    if (channels := manifest.pixel.channels) is None:
        return f"codes 0…{manifest.levels - 1}"
    return f"{channels} channel{'s' if channels > 1 else ''} in [-1, 1]"


def _distribution(manifest: Manifest) -> str:
    spec = manifest.distribution
    if spec.n_mix is None:
        return spec.kind
    return f"{spec.kind} of {spec.n_mix}, {'rounded to 8 bits' if spec.round else 'not rounded'}"


def _states(manifest: Manifest) -> Iterator[str]:
    yield "states, per image"
    for spec in manifest.states:
        sizes = "×".join(str(size) for size in spec.shape)
        what = f"{spec.role}, {spec.dtype} {sizes}, written by the {spec.writer}"
        yield f"  {spec.name}  {what}: {_size(spec.bytes_per_slot)}"
    yield "memory of a batch"
    for n in (1, 16):
        states, buffers = _size(state_bytes(manifest, n)), _size(buffer_bytes(manifest, n))
        yield f"  {n} image{'s' if n > 1 else ''}: states {states}, other buffers {buffers}"


def _size(count: int) -> str:
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit} ({count:,} bytes)"
    return f"{count:,} bytes"
