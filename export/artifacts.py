"""The files of one export: built into a temporary folder beside their target, and moved into place together."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.analysis.layout import Layout
from pixelsnail_infer.export.analysis.row_forms import PLAIN
from pixelsnail_infer.export.analysis.widths import is_exact
from pixelsnail_infer.export.compile import Compiled
from pixelsnail_infer.export.emission.builder import HALVES, GraphBuilder
from pixelsnail_infer.export.emission.full import emit_prologue
from pixelsnail_infer.export.emission.graph import Graph
from pixelsnail_infer.export.emission.results import row_results
from pixelsnail_infer.export.emission.row import emit_row
from pixelsnail_infer.export.emission.score import emit_score
from pixelsnail_infer.export.emission.step import emit_step
from pixelsnail_infer.export.emission.wave import ahead_width, emit_ahead, emit_wave
from pixelsnail_infer.export.fields import Node
from pixelsnail_infer.export.plans import TEST_PLAN, check_graph_plan
from pixelsnail_infer.export.writing.formats import DEFAULT_FORMAT, FORMATS, Files, names_of
from pixelsnail_infer.manifest import Manifest, PrologueSpec, RowResultSpec, StateSpec, StridedRowSpec, WaveSpec
from pixelsnail_infer.plan import DEFAULT_PLAN, INT8_PLAN

WAVES = ("wave", "ahead")
WAVE_FORMATS = ("onnx",)

__all__ = ["WAVE_FORMATS", "Artifacts", "build_part", "staging_folder", "state_specs"]

EXACT = (DEFAULT_PLAN.precision, TEST_PLAN.precision)  # in which the form of a product is a matter of speed


def build_part(compiled: Compiled, part: str) -> Graph:
    """Decide one graph, "step" or one of `manifest.PARTS`. Raises `ModelError` for a plan that cannot be built."""
    check_graph_plan(compiled.plan)
    builder = GraphBuilder(part, compiled.plan.dtype, compiled.scales if compiled.plan == INT8_PLAN else {})
    program, layout, prologue = compiled.program, compiled.layout, compiled.prologue
    if part == "row":
        emit_row(program, layout, prologue, builder, compiled.row_form if compiled.plan.precision in EXACT else PLAIN)
    elif part == "prologue":
        emit_prologue(program, prologue, builder)
    elif part == "score":
        emit_score(program, layout, prologue, builder, compiled.distribution)
    elif part == "wave":
        assert compiled.wave is not None
        emit_wave(compiled.wave, builder, compiled.distribution)
    elif part == "ahead":
        assert compiled.wave is not None
        emit_ahead(compiled.wave, builder)
    else:
        emit_step(program, layout, prologue, builder, compiled.distribution, filtered=part == "filtered")
    return builder.graph()


def state_specs(layout: Layout, dtype: str = DEFAULT_PLAN.dtype) -> tuple[StateSpec, ...]:
    """The states as the manifest describes them, of this dtype but for those that are exact."""
    canvases = tuple(StateSpec(c.name, c.shape, stored_as(c.members, dtype), c.border, c.name.split(".")[1], c.writer)
                     for c in layout.canvases)
    return canvases + tuple(StateSpec(c.name, c.shape, stored_as(c.members, dtype), 0.0, c.role, c.writer)
                            for c in layout.caches)


def stored_as(values: Sequence[Node], dtype: str) -> str:
    """The dtype that a tensor of these values has in a plan of this dtype."""
    return "float32" if dtype in HALVES and is_exact(values) else dtype


@contextmanager
def staging_folder(target: Path, format: str = DEFAULT_FORMAT) -> Iterator[Path]:
    """A temporary folder beside `target`, removed at the end; write errors become one clear message."""
    folder = target.parent.resolve()
    if not folder.is_dir():
        raise PixelsnailError(f"{target} cannot be written: there is no folder {folder}; create it first.")
    for path in names_of(target, format):
        if path.exists() and not path.is_file():
            raise PixelsnailError(f"{path} is not a regular file; give the path of a file to write.")
    temporary: Path | None = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.stem}.", suffix=".part", dir=folder))
        yield temporary
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise PixelsnailError(f"{target} cannot be written ({reason}); nothing was written. Free some space or choose "
                              "another folder.") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


@dataclass(slots=True)
class Artifacts:
    """Files in the staging folder, of every format in `targets`, which names the file to load of each.

    `write` decides every part once and writes it in all formats; `publish` moves them, with their final manifests.
    """

    compiled: Compiled
    folder: Path
    targets: Mapping[str, Path]
    files: dict[str, Files] = field(default_factory=dict)
    preferred: bool = False  # waves, where there are some

    def path(self, format: str) -> Path:
        """The file of this format that is loaded, in the staging folder."""
        return self.folder / self.targets[format].name

    @property
    def parts(self) -> tuple[str, ...]:
        """The siblings that this model has in every format."""
        conditioned = any(node.condition for node in self.compiled.program.order)
        filtered = ("filtered",) if self.compiled.distribution.filters else ()
        return ("row", *(("prologue",) if conditioned else ()), "score", *filtered)

    def write(self, manifest: Manifest) -> dict[str, Manifest]:
        """Write every part; returns each format's manifest, with files, states and prologue filled in."""
        self.files = {one: FORMATS[one](self.path(one)) for one in self.targets}
        weights = {}
        wave = self._wave(manifest)
        for part in (*self.parts, *(wave.parts if wave else ()), "step"):
            graph = build_part(self.compiled, part)
            weights[part] = graph.weights
            for one, files in self.files.items():
                if part not in WAVES or one in WAVE_FORMATS:
                    files.add(part, graph)
        if wave is not None:
            wave = replace(wave, parameters=sum(weights[part] for part in wave.parts))
        program, prologue = self.compiled.program, self.compiled.prologue
        dtype = manifest.plan.dtype
        row, *strided = row_results(program, self.compiled.layout.stacks)
        result = RowResultSpec(max(1, sum(row.sizes)), None if (held := stored_as(row.nodes, dtype)) == dtype else held)
        others = tuple(StridedRowSpec(one.name, (one.columns, sum(one.sizes)), stored_as(one.nodes, dtype))
                       for one in strided)
        specs = tuple(PrologueSpec(prologue.name(n), tuple(prologue.shape(n)), prologue.dtype(n, stored_as([n], dtype)))
                      for n in prologue.crossing)
        parameters = replace(manifest.parameters, per_image=weights.get("prologue", 0), per_row=weights["row"],
                             per_step=weights["step"])
        filled = replace(manifest, states=state_specs(self.compiled.layout, dtype), prologue=specs,
                         row_result=result, row_results=others or None, parameters=parameters)
        return {one: self.describe(one, files.filled(filled, wave if one in WAVE_FORMATS else None))
                for one, files in self.files.items()}

    def _wave(self, manifest: Manifest) -> WaveSpec | None:
        """What the manifest says of the wave graphs, which only exports of float32 have."""
        wave = self.compiled.wave
        if wave is None or self.compiled.plan != DEFAULT_PLAN or not {*self.targets} & {*WAVE_FORMATS}:
            return None
        states = tuple(replace(spec, writer="wave") for spec in state_specs(wave.layout))
        ahead = ahead_width(wave) if wave.span > 1 else None
        return WaveSpec(wave.slope, wave.span, states, 0, self.preferred, ahead, wave.lead or None)

    def describe(self, format: str, manifest: Manifest) -> Manifest:
        """Write the file of this format that is loaded, with this manifest."""
        self.files[format].describe(manifest)
        return manifest

    def publish(self) -> list[Path]:
        """Move all files to where they belong, what is loaded after its siblings, and return their paths.

        The files of an older export are put aside first, and back where anything fails or interrupts.
        """
        names = [path for one, target in self.targets.items() for path in FORMATS[one].names(target)]
        old = Path(tempfile.mkdtemp(prefix="old.", dir=self.folder))
        moves: list[tuple[Path, Path]] = []
        try:
            for path in names:
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, f"{path.name} is a folder")
                if path.exists():
                    moves.append((path, old / path.name))
                    os.replace(path, old / path.name)
            for path in reversed([path for path in names if (self.folder / path.name).is_file()]):
                moves.append((self.folder / path.name, path))
                os.replace(self.folder / path.name, path)
        except BaseException:
            for source, destination in reversed(moves):
                if destination.exists() and not source.exists():
                    os.replace(destination, source)
            raise
        return [path for path in names if path.exists()]
