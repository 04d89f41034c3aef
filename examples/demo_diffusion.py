"""Export the small denoiser, draw digits with it, and show how they come out of noise.

    python examples/demo_diffusion.py --out out/diffusion

Writes diffusion.png, eight rows of the digits 0 to 9 in 50 DDIM steps, and diffusion-strip.png, ten digits from noise
on in all 1,000 steps, and prints the bits per dimension of digits that it was not trained on.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from pixelsnail_infer.export import export_checkpoint
from pixelsnail_infer.runtime import load, to_uint8
from pixelsnail_infer.runtime.denoising.denoiser import Denoised

ROOT = Path(__file__).resolve().parent
LABELS, ROWS, SCALE = 10, 8, 4
SHOWN = (999, 800, 600, 500, 400, 300, 200, 100, 50, 0)  # steps of the strip, rows from noise on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/diffusion"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "denoiser.onnx"
    export_checkpoint(ROOT / "denoiser_digits.pt", path, shape="8x8", noise_schedule="cosine", say=print)
    labels = np.arange(LABELS)
    with load(path) as denoiser:
        started = time.perf_counter()
        images = denoiser.sample(ROWS * LABELS, steps="ddim50", label=np.tile(labels, ROWS), max_batch=ROWS * LABELS)
        print(f"{len(images)} digits in 50 steps: {time.perf_counter() - started:.1f} s")
        save(args.out / "diffusion.png", images.reshape(ROWS, LABELS, 8, 8))
        frames: dict[int, NDArray[np.float32]] = {}

        def keep(one: Denoised) -> None:
            if one.time in SHOWN:
                frames[one.time] = one.x

        denoiser.sample(LABELS, seed=1, label=labels, on_step=keep, max_batch=LABELS)
        save(args.out / "diffusion-strip.png", np.stack([frames[step] for step in SHOWN]).reshape(-1, LABELS, 8, 8))
        digits, order = load_digits(), torch.randperm(1797, generator=torch.Generator().manual_seed(1797)).numpy()
        kept = order[:64]
        real = (digits.images[kept] / 8 - 1).astype(np.float32)[..., None]
        bits = denoiser.bits_per_dim(real, label=digits.target[kept], steps=200, max_batch=64)
        print(f"bits per dimension of {len(kept)} digits that it never saw, as images of 256 levels: at most "
              f"{bits.mean():.3f} (200 steps)")
    print(f"wrote {args.out}/diffusion.png and {args.out}/diffusion-strip.png")


def save(path: Path, rows: NDArray[np.float32]) -> None:
    """Images [rows, columns, 8, 8] as one enlarged picture with a margin of one pixel."""
    framed = np.pad(np.clip(rows, -1, 1), ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=0.0)
    sheet = framed.transpose(0, 2, 1, 3).reshape(rows.shape[0] * 9, rows.shape[1] * 9)[:-1, :-1]
    picture = np.kron(to_uint8(sheet[..., None])[..., 0], np.ones((SCALE, SCALE), np.uint8))
    Image.fromarray(picture).save(path, optimize=True)


if __name__ == "__main__":
    main()
