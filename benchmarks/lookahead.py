"""Would looking ahead within a row pay? How many pixels a pass could draw that computes several positions at once.

    python benchmarks/lookahead.py                       the trained examples, windows of 2, 4 and 8 pixels

With the noise fixed, the pixels ahead are guessed, one pass computes all positions of the window, and the longest
prefix is kept that single steps would have drawn: the image stays the same. Guesses are what the last pass drew there
from wrong neighbours, and where it drew nothing the pixel above. This counts with whole forwards in PyTorch; nothing
is timed. A pass can pay only if it keeps more pixels than it costs steps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pixelsnail_infer.checkpoints import load_checkpoint
from pixelsnail_infer.export.source.source_model import SourceModel, recognised_model
from pixelsnail_infer.manifest import ConditionSpec

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
NAMES = ("digits", "pixelcnn_digits", "vqvae_top", "vqvae_bottom")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(NAMES), help=f"of {', '.join(NAMES)} (default all)")
    parser.add_argument("--windows", default="2,4,8", help="pixels that a pass computes (default 2,4,8)")
    parser.add_argument("--images", type=int, default=32)
    args = parser.parse_args()
    for name in args.models.split(","):
        source = recognised_model(load_checkpoint(EXAMPLES / f"{name}.pt"), False)
        kept = [f"{window}: {pixels_per_pass(source, window, args.images):.2f}"
                for window in map(int, args.windows.split(","))]
        print(f"{name}, {'x'.join(map(str, source.shape))}, pixels kept in a pass of {', of '.join(kept)}", flush=True)


def conditions(spec: ConditionSpec, random: np.random.Generator, count: int) -> Tensor:
    """Random classes or codes; of vectors those that mean one class."""
    if spec.levels:
        return torch.from_numpy(random.integers(0, spec.levels, (count, *spec.shape)))
    return torch.eye(*spec.shape)[torch.from_numpy(random.integers(0, spec.shape[0], count))]


@torch.inference_mode()
def pixels_per_pass(source: SourceModel, window: int, count: int) -> float:
    """The mean over images and passes. Every image is compared with one forward on it at the end."""
    (height, width), levels, random = source.shape, source.distribution.parameters, np.random.default_rng(0)
    given = {spec.name: conditions(spec, random, count) for spec in source.conditions}
    noise = torch.from_numpy(random.gumbel(size=(count, height * width, levels)))
    module, codes = source.module.eval(), torch.zeros(count, height * width, dtype=torch.int64)

    def drawn() -> Tensor:
        logits = module(codes.view(count, height, width), **given)
        logits = logits[0] if isinstance(logits, tuple) else logits
        return (logits.permute(0, 2, 3, 1).reshape(count, -1, levels) + noise).argmax(2)

    at, guessed = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.int64)  # next; guesses end here
    passes = 0
    while bool((at < height * width).any()):
        found = drawn()
        for image in torch.nonzero(at < height * width).flatten().tolist():
            start = int(at[image])
            end = min(start + window, (start // width + 1) * width)
            wrong = torch.nonzero(found[image, start:end] != codes[image, start:end]).flatten()
            sure = end if len(wrong) == 0 else start + int(wrong[0]) + 1  # a first wrong one is right now
            codes[image, start:end] = found[image, start:end]
            at[image], guessed[image] = sure, end
            ahead = min(sure + window, (min(sure, height * width - 1) // width + 1) * width)
            for place in range(max(sure, end), ahead):
                codes[image, place] = codes[image, place - width] if place >= width else 0
            passes += 1
    assert bool((drawn() == codes).all()), "an image is not what single steps draw"
    return count * height * width / passes


if __name__ == "__main__":
    main()
