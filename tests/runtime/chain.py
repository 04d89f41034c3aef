"""Toy priors and codecs that fit together, as graph files by the contract and as plain NumPy.

    logits(i, j) = T1[left] + T2[above] + C[label] + A[condition at (i·h // H, j·w // W)]        (a prior)
    image = Σ TABLE[codes], each level's cells enlarged to the image's size                      (a decoder)
    codes = the number of CUTS that a level's cell reaches in its first pixel's first channel    (an encoder)

A pixel outside the canvas counts as code L. All numbers are small multiples of 1/64, so that the graphs equal NumPy to
the bit. The label and the condition are optional.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto

from pixelsnail_infer import distributions, noise
from pixelsnail_infer.codec import CodecManifest, CodesSpec, ImageSpec
from pixelsnail_infer.manifest import (
    METADATA_KEY,
    PART_KEY,
    CheckpointSpec,
    ConditionSpec,
    Manifest,
    ModelSpec,
    NoiseSpec,
    PixelSpec,
    PrologueSpec,
    RowResultSpec,
    StateSpec,
)

from .synthetic import Builder, file_spec, filtered_draw, make_manifest, write

ROWS = 2  # of the ring: this row and the one above


def _table(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-96, 96, shape).astype(np.float32) / 64


@dataclass(frozen=True)
class Toy:
    """A prior over codes of `shape` with `levels`; `condition` is the grid and the levels of its condition of codes."""

    shape: tuple[int, int]
    levels: int
    labels: int = 0
    condition: tuple[int, int, int] | None = None
    name: str = "condition"

    @property
    def tables(self) -> tuple[np.ndarray, ...]:
        classes = self.condition[2] if self.condition else 1
        return (_table(1, self.levels + 1, self.levels), _table(2, self.levels + 1, self.levels),
                _table(3, max(self.labels, 1), self.levels), _table(4, classes, self.levels))

    def index(self) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of the condition's cell for every row and column."""
        assert self.condition is not None
        return tuple(np.arange(size) * cells // size for size, cells in zip(self.shape, self.condition, strict=False))

    def bias(self, n: int, label: Any = None, condition: Any = None) -> np.ndarray:
        """What the prologue gives, [n, H, W, L]."""
        bias = np.zeros((n, *self.shape, self.levels), np.float32)
        if self.labels:
            bias += self.tables[2][np.broadcast_to(label, (n,))][:, None, None]
        if self.condition:
            rows, columns = self.index()
            bias += self.tables[3][np.broadcast_to(condition, (n, *self.condition[:2]))][:, rows][:, :, columns]
        return bias

    def logits(self, codes: np.ndarray, **given: Any) -> np.ndarray:
        (height, width), n, (t1, t2, _, _) = self.shape, len(codes), self.tables
        left = np.concatenate([np.full((n, height, 1), self.levels), codes[:, :, :-1]], axis=2)
        above = np.concatenate([np.full((n, 1, width), self.levels), codes[:, :-1]], axis=1)
        return t1[left] + t2[above] + self.bias(n, **given)

    def sample_slowly(
        self, keys: np.ndarray, temperature: Any = 1.0, top_k: Any = None, top_p: Any = None,
        known: np.ndarray | None = None, mask: np.ndarray | None = None, **given: Any,
    ) -> np.ndarray:  # fmt: skip
        """What the runtime must draw, one code at a time from the closed form; `mask` is [H, W]."""
        (height, width), n = self.shape, len(keys)
        codes = np.zeros((n, height, width), np.int64)
        heat = np.broadcast_to(np.float32(temperature), (n,))
        for i in range(height):
            gumbel = noise.gumbel_row(keys, i, width, self.levels)
            for j in range(width):
                seen = self.logits(codes, **given)[:, i, j]
                codes[:, i, j] = distributions.draw(seen, gumbel[:, j], heat, top_k, top_p)
                if known is not None and mask is not None and mask[i, j]:
                    codes[:, i, j] = known[:, i, j]
        return codes

    # The graphs -------------------------------------------------------------------------------------------------------

    @property
    def stride(self) -> int:
        return self.shape[1] + 1

    @property
    def ring(self) -> tuple[int, int, int]:
        return 1, ROWS * self.stride, 1

    @property
    def inputs(self) -> dict[str, Any]:
        bias = {"prologue.0": ("float32", ("B", *self.shape, self.levels))} if self.labels or self.condition else {}
        return {"row": ("int64", ("B",)), **bias, "state.ring": ("int64", ("B", *self.ring))}

    def prologue(self) -> Any:
        g, inputs, parts = Builder(), {}, []
        if self.labels:
            inputs["label"] = ("int64", ("B",))
            parts.append(g.op("Unsqueeze", g.table(self.tables[2], "label"), g.const([1, 2])))
        if self.condition:
            inputs[self.name] = ("int64", ("B", *self.condition[:2]))
            rows, columns = self.index()
            near = g.op("Gather", g.op("Gather", self.name, g.const(rows), axis=1), g.const(columns), axis=2)
            parts.append(g.table(self.tables[3], near))
        blank = g.const(np.zeros((1, *self.shape, self.levels)), "float32")
        g.op("Sum", blank, *parts, out="prologue.0")
        return g.model(inputs, {"prologue.0": self.inputs["prologue.0"]}, {PART_KEY: "prologue"})

    def row(self) -> Any:
        width, g = self.shape[1], Builder()
        start = g.op("Mul", g.op("Mod", g.op("Add", "row", g.const(ROWS - 1)), g.const(ROWS)), g.const(self.stride))
        index = g.op("Add", g.op("Unsqueeze", start, g.const([1])), g.const(np.arange(1, width + 1)[None]))
        flat = g.op("Squeeze", "state.ring", g.const([1, 3]))
        above = g.table(self.tables[1], g.op("GatherElements", flat, index, axis=1))  # [B, W, L]
        if "prologue.0" in self.inputs:
            one = g.op("Unsqueeze", "row", g.const([1]))
            g.op("Add", above, g.op("GatherND", "prologue.0", one, batch_dims=1), out="row_result")
        else:
            g.op("Identity", above, out="row_result")
        return g.model(self.inputs, {"row_result": ("float32", ("B", width, self.levels))}, {PART_KEY: "row"})

    def step(self, metadata: dict[str, str], filtered: bool = False) -> Any:
        (_, width), levels, g = self.shape, self.levels, Builder()

        def column(name: str) -> str:
            return g.op("Squeeze", g.op("Gather", name, "col", axis=1), g.const([1]))

        start = g.op("Add", g.op("Mul", g.op("Mod", "row", g.const(ROWS)), g.const(self.stride)), "col")
        flat = g.op("Squeeze", "state.ring", g.const([1, 3]))
        left = g.op("GatherElements", flat, g.op("Unsqueeze", start, g.const([1])), axis=1)
        g.op("Add", column("row_result"), g.table(self.tables[0], g.op("Squeeze", left, g.const([1]))), out="logits")
        heat = g.op("Unsqueeze", "temperature", g.const([1]))
        scores = g.op("Add", "logits", g.op("Mul", heat, column("noise")))
        drawn = filtered_draw(g, scores, heat, levels) if filtered else g.op("ArgMax", scores, axis=1, keepdims=0)
        g.op("Where", column("use_given"), column("given"), drawn, out="pixel")
        cell = g.op("Unsqueeze", "pixel", g.const([1, 2, 3]))
        g.op("TensorScatter", "state.ring", cell, g.op("Add", start, g.const(1)), out="state.ring.out", axis=2)
        inputs = {
            "row": ("int64", ("B",)), "col": ("int64", (1,)), "row_result": ("float32", ("B", width, levels)),
            "noise": ("float32", ("B", width, levels)), "temperature": ("float32", ("B",)),
            "given": ("int64", ("B", width)), "use_given": ("bool", ("B", width)),
            "state.ring": ("int64", ("B", *self.ring)),
        }  # fmt: skip
        if filtered:
            inputs |= {"top_k": ("int64", ("B",)), "top_p": ("float32", ("B",))}
        outputs = {"logits": ("float32", ("B", levels)), "pixel": ("int64", ("B",))}
        return g.model(inputs, {**outputs, "state.ring.out": inputs["state.ring"]}, metadata)

    def manifest(self, files: dict[str, Any]) -> Manifest:
        label = (ConditionSpec("label", "class", (), "int64", self.labels),) if self.labels else ()
        codes = (ConditionSpec(self.name, "codes", self.condition[:2], "int64", self.condition[2]),) \
            if self.condition else ()
        prologue = (PrologueSpec("prologue.0", (*self.shape, self.levels), "float32"),) if label or codes else ()
        ring = StateSpec("state.ring", self.ring, "int64", float(self.levels), "pixels", "step")
        return replace(
            make_manifest({**files, "prologue": files["row"]}), pixel=PixelSpec("codes", self.levels), shape=self.shape,
            conditions=label + codes, prologue=prologue, states=(ring,), row_result=RowResultSpec(self.levels),
            noise=NoiseSpec(1, self.levels), files=files,
        )  # fmt: skip

    def write(self, folder: Path, name: str) -> Path:
        """Write the files without a score graph; returns the path of the step file."""
        graphs = {"row": self.row(), "filtered": self.step({PART_KEY: "filtered"}, filtered=True)}
        if self.labels or self.condition:
            graphs["prologue"] = self.prologue()
        parts = {part: graph.SerializeToString() for part, graph in graphs.items()}
        manifest = self.manifest({part: file_spec(data) for part, data in parts.items()})
        return write(folder, {"step": self.step({METADATA_KEY: manifest.to_json()}).SerializeToString(), **parts}, name)


# Codecs ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Codec:
    """Levels of codes, each (name, shape, levels), and an image of `shape`, a multiple of theirs, with `channels`."""

    levels: tuple[tuple[str, tuple[int, int], int], ...]
    shape: tuple[int, int]
    channels: int = 3
    values: str = "pixels"

    def table(self, level: int) -> np.ndarray:
        return _table(10 + level, self.levels[level][2], self.channels) / 4

    def spread(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        grid = self.levels[level][1]
        return tuple(np.arange(size) * cells // size for size, cells in zip(self.shape, grid, strict=True))

    def decode(self, *codes: np.ndarray) -> np.ndarray:
        image = np.zeros((len(codes[0]), *self.shape, self.channels), np.float32)
        for level, held in enumerate(codes):
            rows, columns = self.spread(level)
            image += self.table(level)[held][:, rows][:, :, columns]
        return image

    def corners(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        grid = self.levels[level][1]
        return tuple(np.arange(cells) * (size // cells) for size, cells in zip(self.shape, grid, strict=True))

    def cuts(self, level: int) -> np.ndarray:
        count = self.levels[level][2]
        return (np.arange(1, count) * 2 / count - 1).astype(np.float32)

    def encode(self, images: np.ndarray) -> tuple[np.ndarray, ...]:
        found = []
        for level in range(len(self.levels)):
            rows, columns = self.corners(level)
            found.append((images[:, rows][:, :, columns, :1] >= self.cuts(level)).sum(-1))
        return tuple(found)

    def graph(self, kind: str) -> Any:
        g = Builder()
        image = {"image": ("float32", ("B", *self.shape, self.channels))}
        codes = {name: ("int64", ("B", *grid)) for name, grid, _ in self.levels}
        manifest = CodecManifest(
            kind=kind, model=ModelSpec("toy", {}), image=ImageSpec(self.channels, self.shape, self.values),
            codes=tuple(CodesSpec(*level) for level in self.levels), precision="float32",
            checkpoint=CheckpointSpec("0" * 64), parameters=1, versions={},
        )  # fmt: skip
        metadata = {METADATA_KEY: manifest.to_json()}
        parts = []
        for level, (name, _, _) in enumerate(self.levels):
            rows, columns = (g.const(place) for place in (self.spread if kind == "decoder" else self.corners)(level))
            source = name if kind == "decoder" else "image"
            cells = g.op("Gather", g.op("Gather", source, rows, axis=1), columns, axis=2)
            if kind == "decoder":
                parts.append(g.table(self.table(level), cells))
                continue
            first = g.op("Gather", cells, g.const([0]), axis=3)
            reached = g.op("GreaterOrEqual", first, g.const(self.cuts(level), "float32"))
            g.op("ReduceSum", g.op("Cast", reached, to=TensorProto.INT64), g.const([3]), keepdims=0, out=name)
        if kind == "encoder":
            return g.model(image, codes, metadata)
        g.op("Sum", *parts, out="image")
        return g.model(codes, image, metadata)

    def write(self, folder: Path, kind: str, **changed: Any) -> Path:
        """Write the decoder or the encoder; returns its path."""
        path = folder / f"{kind}.onnx"
        path.write_bytes(replace(self, **changed).graph(kind).SerializeToString())
        return path


TOP, BOTTOM = Toy((2, 3), 4, labels=3), Toy((4, 6), 5, labels=3, condition=(2, 3, 4))
CODEC = Codec((("top", (2, 3), 4), ("bottom", (4, 6), 5)), (8, 12))
LABEL = np.array([0, 1, 2, 0, 1])


def write_chain(folder: Path) -> dict[str, Path]:
    """The files of `TOP`, `BOTTOM` and `CODEC`: top, bottom, decoder, encoder."""
    priors = {"top": TOP.write(folder, "top.onnx"), "bottom": BOTTOM.write(folder, "bottom.onnx")}
    return {**priors, **{kind: CODEC.write(folder, kind) for kind in ("decoder", "encoder")}}
