"""Export a small RGB PixelSNAIL and a conditional PixelCNN, sample both, and mix classes half and half.

    python examples/demo_rgb.py            writes out/patches.onnx, out/pixelcnn.onnx, out/patches.png, out/between.png

`examples/patches.pt` learned 16x16 patches of scikit-learn's two sample photographs (`train_patches.py`),
`examples/pixelcnn_digits.pt` its digits with the class as a vector (`train_pixelcnn.py`).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.cli import main as export_model
from pixelsnail_infer.runtime import Sampler, load
from pixelsnail_infer.runtime.files.images import png_grid

HERE = Path(__file__).resolve().parent
PAIRS = [(1, 7), (3, 8), (4, 9), (5, 6), (0, 6)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the files (default out)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        for name, draw in (("patches", patches), ("pixelcnn_digits", between)):
            step = args.out / f"{name}.onnx"
            if code := export_model([str(HERE / f"{name}.pt"), str(step)]):
                return code
            with load(step, threads=args.threads) as sampler:
                draw(sampler, args)
    except PixelsnailError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


def patches(sampler: Sampler, args: argparse.Namespace) -> None:
    """Sixteen patches of each photograph: the temple above, the dahlia below."""
    started = time.perf_counter()
    images = sampler.sample(32, seed=args.seed, label=[0] * 16 + [1] * 16, max_batch=32)
    picture = args.out / "patches.png"
    picture.write_bytes(png_grid(images, None, columns=8))
    seconds = time.perf_counter() - started
    print(f"\n32 images of {images.shape[1]}x{images.shape[2]}x{images.shape[3]} in {seconds:.1f} s: {picture}\n")


def between(sampler: Sampler, args: argparse.Namespace) -> None:
    """One row per pair of digits: pure at both ends, mixed half and half in the middle."""
    (spec,) = sampler.manifest.conditions
    weights, captions = [], []
    for a, b in PAIRS:
        for share in (0.0, 0.0, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0):
            mixed = np.zeros(spec.shape, np.float32)
            mixed[a], mixed[b] = 1 - share, share
            weights.append(mixed)
            captions.append(f"{a}{b}" if share == 0.5 else str(a if share == 0 else b))
    codes = sampler.sample(len(weights), seed=args.seed, max_batch=len(weights), **{spec.name: np.stack(weights)})
    picture = args.out / "between.png"
    picture.write_bytes(png_grid(codes, sampler.manifest.levels, captions=captions, columns=8))
    print(f"\n{len(codes)} digits, the middle ones half of one class and half of another: {picture}")


if __name__ == "__main__":
    sys.exit(main())
