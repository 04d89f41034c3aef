"""What `sample` and `generate` drew, as the files that `-o` names."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pixelsnail_infer import __version__
from pixelsnail_infer.codec import CodecManifest
from pixelsnail_infer.denoiser import DenoiserManifest
from pixelsnail_infer.manifest import Manifest
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.runtime.files.arrays import npy
from pixelsnail_infer.runtime.files.images import check_alone, grid_columns, make_grid, png_alone, png_grid
from pixelsnail_infer.runtime.files.saving import write_all

__all__ = [
    "DEFAULT_N", "Drawn", "check_grid_options", "check_picture", "how_drawn", "images_asked", "print_written",
    "write_drawn",
]  # fmt: skip

DEFAULT_N = 16


@dataclass(frozen=True, slots=True)
class Drawn:
    """`arrays` are what a .npy holds, codes [n, H, W] or images float32 [n, H, W, C], and `tiles` what a picture shows
    of them: the same, or the same stretched. `levels` are those of codes. `text` says how they were drawn."""

    arrays: NDArray[Any]
    tiles: NDArray[Any]
    levels: int | None
    text: dict[str, str]


def images_asked(args: argparse.Namespace) -> int:
    """How many images: `--n`, or one for each label."""
    n: int = args.n or len(args.label or ()) or DEFAULT_N
    return n


def check_grid_options(args: argparse.Namespace) -> None:
    """End with a usage error where options of a picture come without one."""
    if args.output is not None and args.output.each and args.columns is not None:
        args.fail("--columns is for one picture of all images, and -o names a file for each")


def check_picture(args: argparse.Namespace, n: int, shape: tuple[int, int]) -> None:
    """Raise `RequestError` now if the picture of n images of `shape` (H, W) would be too large."""
    if args.output is None or not args.output.picture:
        return
    if args.output.each:
        check_alone(shape, args.scale)
    else:
        make_grid(n, shape, captions=bool(args.label), columns=_columns(args, n), scale=args.scale)


def write_drawn(
    args: argparse.Namespace, paths: Sequence[Path], drawn: Drawn | None, more: Sequence[tuple[Path, bytes]] = ()
) -> None:
    """Write `paths`, which are those of `-o`, and then `more`."""
    files = [] if drawn is None else _files(args, paths, drawn)
    make_folders = args.output is not None and args.output.folder
    write_all(_chained(files, more), len(paths) + len(more), make_folders=make_folders)


def print_written(paths: Sequence[Path]) -> None:
    """Say which files are there."""
    if len(paths) > 1:
        print(f"wrote {len(paths)} files, {one_line(paths[0])} to {one_line(paths[-1])}")
    elif paths:
        print(f"wrote {one_line(paths[0])}")


def how_drawn(
    args: argparse.Namespace, files: Sequence[str], manifests: Sequence[Manifest | CodecManifest | DenoiserManifest]
) -> dict[str, str]:
    """What the text chunks of every picture of a call say: models and settings, nothing of the time or the machine."""
    settings = {name: getattr(args, name) for name in ("seed", "temperature", "top_k", "top_p")}
    return {
        "Software": f"pixelsnail-infer {__version__}",
        "model": ", ".join(Path(file).name for file in files),
        "checkpoint_sha256": ", ".join(manifest.checkpoint.sha256 for manifest in manifests),
        **{name: _setting(value) for name, value in settings.items() if value is not None},
    }


def _files(args: argparse.Namespace, paths: Sequence[Path], drawn: Drawn) -> Iterator[tuple[Path, bytes]]:
    picture, n = args.output.picture, len(drawn.arrays)
    labels = [str(args.label[k % len(args.label)]) for k in range(n)] if args.label else None
    if args.output.each:
        for k, path in enumerate(paths):
            text = drawn.text | {"index": str(k)} | ({"label": labels[k]} if labels else {})
            alone = png_alone(drawn.tiles[k], drawn.levels, scale=args.scale, text=text) if picture else b""
            yield path, alone or npy(drawn.arrays[k])
    elif picture:
        text = drawn.text | {"images": str(n)} | ({"labels": ",".join(map(str, args.label))} if labels else {})
        yield paths[0], png_grid(drawn.tiles, drawn.levels, captions=labels, columns=_columns(args, n),
                                 scale=args.scale, text=text)  # fmt: skip
    else:
        yield paths[0], npy(drawn.arrays)


def _chained(*parts: Any) -> Iterator[tuple[Path, bytes]]:
    for part in parts:
        yield from part


def _columns(args: argparse.Namespace, n: int) -> int:
    columns: int = args.columns or grid_columns(n, args.label)
    return columns


def _setting(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(_setting(item) for item in value)
    return "off" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
