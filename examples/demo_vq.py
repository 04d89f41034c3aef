"""Export a small VQ-VAE-2 and its two priors, draw pictures with all three, and redraw a part of a photograph.

    python examples/demo_vq.py             writes out/top.onnx, …, out/photographs.png, out/redrawn.png
    python examples/demo_vq.py --train     trains the three networks first, in about ten minutes

`examples/vqvae.pt`, `vqvae_top.pt` and `vqvae_bottom.pt` learned 64x64 patches of scikit-learn's two sample photographs
(`train_vqvae2.py`).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from photographs import grid_patches, load_photographs

from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.cli import main as export_model
from pixelsnail_infer.runtime import Pipeline, load_pipeline
from pixelsnail_infer.runtime.files.images import png_grid

HERE = Path(__file__).resolve().parent
SIZE = 64
PARTS = {
    "top.onnx": ("vqvae_top.pt", ()),
    "bottom.onnx": ("vqvae_bottom.pt", ()),
    "decoder.onnx": ("vqvae.pt", ("--shape", f"{SIZE}x{SIZE}")),
    "encoder.onnx": ("vqvae.pt", ("--shape", f"{SIZE}x{SIZE}", "--part", "encoder")),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the files (default out)")
    parser.add_argument("--train", action="store_true", help="train in --out instead of taking the shipped checkpoints")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    source = HERE
    if args.train:
        source = args.out
        subprocess.run([sys.executable, HERE / "train_vqvae2.py", "--out", source], check=True)
    for name, (checkpoint, options) in PARTS.items():
        if code := export_model([str(source / checkpoint), str(args.out / name), *options]):
            return code
    *stages, encoder = (args.out / name for name in PARTS)
    try:
        with load_pipeline(stages, encoder=encoder, threads=args.threads) as pipeline:
            draw(pipeline, args)
            redraw(pipeline, args)
    except PixelsnailError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def draw(pipeline: Pipeline, args: argparse.Namespace) -> None:
    """Twelve pictures after each photograph: the temple above, the dahlia below."""
    started = time.perf_counter()
    drawn = pipeline.generate(24, seed=args.seed, label=[0] * 12 + [1] * 12, max_batch=24)
    seconds = time.perf_counter() - started
    picture = args.out / "photographs.png"
    picture.write_bytes(png_grid(drawn.images, None, columns=6, scale=2))
    codes = " and ".join(f"{held[0].size} {name}" for name, held in drawn.by_name.items())
    print(f"\n24 images of {SIZE}x{SIZE}x3, each of {codes} codes, in {seconds:.1f} s: {picture}\n")


def redraw(pipeline: Pipeline, args: argparse.Namespace) -> None:
    """A row per patch: the patch, and five times its left half with the right half drawn anew."""
    rows: list[NDArray[np.float32]] = []
    patches, labels = grid_patches(load_photographs()[0], SIZE, step=48)
    for place in (6, 32):  # a roof, and the middle of the flower
        patch = patches[place].permute(1, 2, 0).numpy()  # [H, W, C]
        keep = (0, 0, SIZE // 2, SIZE)
        again = pipeline.generate(5, seed=args.seed, image=patch, keep=keep, label=int(labels[place]))
        rows += [patch[None], again.images]
    picture = args.out / "redrawn.png"
    picture.write_bytes(png_grid(np.concatenate(rows), None, columns=6, scale=2))
    print(f"the right halves of two patches drawn anew, five times each: {picture}")


if __name__ == "__main__":
    sys.exit(main())
