"""Export the small digits model, draw forty digits with it, and compare result and time with PyTorch.

    python examples/demo.py                          writes out/digits.onnx, its siblings and out/digits.png

PyTorch's side is the sampler that people run: for every pixel, the whole network over all rows drawn so far. Its time
is measured at evenly spaced pixels, in turns with the runtime's, and extrapolated to all of them.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.checkpoints import load_checkpoint
from pixelsnail_infer.errors import PixelsnailError
from pixelsnail_infer.export.cli import main as export_model
from pixelsnail_infer.models import Prior
from pixelsnail_infer.noise import gumbel_row, image_keys
from pixelsnail_infer.runtime import Sampler, load
from pixelsnail_infer.runtime.files.images import png_grid

LABELS = [k % 10 for k in range(40)]
CHECKPOINT = Path(__file__).resolve().parent / "digits.pt"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for the files (default out)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="of either side (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of the timing; medians are shown")
    parser.add_argument("--every", type=int, default=4, help="time PyTorch at every k-th pixel")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    step = args.out / "digits.onnx"
    if code := export_model([str(CHECKPOINT), str(step)]):
        return code
    try:
        model = load_checkpoint(CHECKPOINT).module
        with load(step, threads=args.threads) as sampler:
            codes = draw(sampler, args.seed)
            picture = args.out / "digits.png"
            picture.write_bytes(png_grid(codes, sampler.manifest.levels, captions=[str(k) for k in LABELS], columns=10))
            size = f"{codes.shape[1]}x{codes.shape[2]}"
            print(f"\nsampled {len(codes)} images of {size}, labels 0-9, seed {args.seed}: {picture}")
            same = confirmed(model, codes, args.seed)
            print(f"{same:,} of {codes.size:,} draws are the ones that PyTorch makes from the same noise")
            compare(model, sampler, codes, args)
    except PixelsnailError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0 if same == codes.size else 1


def draw(sampler: Sampler, seed: int) -> NDArray[np.int64]:
    """All images in one batch, int64 [n, H, W]."""
    return sampler.sample(len(LABELS), seed=seed, label=LABELS, max_batch=len(LABELS))


@torch.no_grad()
def confirmed(model: Prior, codes: NDArray[np.int64], seed: int) -> int:
    """How many pixels of `codes` one full-image forward on them, with the same noise, draws likewise.

    If all: by induction over the pixels, sampling with PyTorch gives these very images.
    """
    (height, width), levels = model.config.shape, model.config.levels
    logits = model(torch.from_numpy(codes), label=torch.tensor(LABELS)).permute(0, 2, 3, 1).numpy()  # [n, H, W, L]
    keys = image_keys(seed, len(codes))
    noise = np.stack([gumbel_row(keys, i, width, levels) for i in range(height)], axis=1)
    return int(((logits + noise).argmax(-1) == codes).sum())


@torch.no_grad()
def compare(model: Prior, sampler: Sampler, codes: NDArray[np.int64], args: argparse.Namespace) -> None:
    """Time both samplers in turns and print the ratio."""
    (height, width), n = model.config.shape, len(codes)
    canvas, labels = torch.from_numpy(codes), torch.tensor(LABELS)
    pixels = range(args.every // 2, height * width, args.every)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(args.rounds):
        started = time.perf_counter()
        draw(sampler, args.seed)
        ours.append(time.perf_counter() - started)
        started = time.perf_counter()
        for p in pixels:
            logits = model(canvas[:, : p // width + 1], label=labels)[:, :, -1, p % width]
            torch.multinomial(logits.softmax(1), 1)
        theirs.append((time.perf_counter() - started) * height * width / len(pixels))
    fast, slow = statistics.median(ours), statistics.median(theirs)
    threads = f"{args.threads} thread{'s' if args.threads > 1 else ''}"
    print(f"the same {n} images in one batch, {threads} either side, medians of {args.rounds} turns:")
    print(f"  PyTorch, all rows drawn so far at every pixel   {slow:8.2f} s   (extrapolated from {len(pixels)} of "
          f"{height * width} pixels)")
    print(f"  runtime, row and step graphs                    {fast:8.2f} s")
    print(f"  {slow / fast:.1f} times faster")


if __name__ == "__main__":
    sys.exit(main())
