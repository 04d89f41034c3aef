"""Write a checkpoint of a published PixelSNAIL of images with random weights, to measure and to try things with.

    python examples/make_stock_snail.py h12.pt                                      32x32 RGB, 46.2 M parameters, 185 MB
    python examples/make_stock_snail.py pooled.pt --arch h12_pool2_smallkey
    python examples/make_stock_snail.py small.pt --arch h6_shift --shape 8 8 --nr-filters 16 --nr-resnet 2

The weights were set from one batch of smooth random images, as the original does it, and have made one optimiser step.
The file is in this project's own format, {'model': state_dict, 'args': Namespace}, and the same for the same seed.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pixelsnail_infer.models import Snail, SnailConfig
from pixelsnail_infer.models.mixture import bits_per_dimension
from pixelsnail_infer.models.pixelcnnpp import PixelCNNpp, PixelCNNppConfig
from pixelsnail_infer.models.snail import initialise
from pixelsnail_infer.models.snail_config import NAMED


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("out", type=Path, help="checkpoint to write")
    parser.add_argument("--arch", choices=sorted(NAMED), default="h12_noup_smallkey")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=3e-4, help="size of the one optimiser step")
    parser.add_argument("--shape", type=int, nargs=2, default=[32, 32], metavar=("H", "W"))
    parser.add_argument("--nr-filters", type=int, default=256)
    parser.add_argument("--nr-resnet", type=int, default=4)
    parser.add_argument("--nr-mix", type=int, default=10)
    return parser.parse_args()


def make_config(args: argparse.Namespace) -> SnailConfig:
    sizes = {"nr_filters": args.nr_filters, "nr_resnet": args.nr_resnet, "nr_mix": args.nr_mix}
    return replace(NAMED[args.arch], shape=tuple(args.shape), **sizes)


def smooth_images(n: int, config: SnailConfig | PixelCNNppConfig) -> Tensor:
    """Random images float32 [n, C, H, W] in [-1, 1] whose neighbouring pixels are alike."""
    smooth = F.interpolate(torch.randn(n, config.channels, 4, 4), size=config.shape, mode="bilinear")
    return ((smooth + 0.1 * torch.randn_like(smooth)) / 2).clamp(-1, 1)


def take_one_step(model: Snail | PixelCNNpp, learning_rate: float, **conditions: Tensor) -> float:
    """The start from two images and one Adam step; gives the bits per dimension before it."""
    images = smooth_images(2, model.config)
    initialise(model.train(), images, **conditions)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    loss = bits_per_dimension(model(images, **conditions), images)
    loss.backward()
    optimizer.step()
    return loss.item()


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    model = Snail(make_config(args))
    loss = take_one_step(model, args.lr)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    stored = argparse.Namespace(arch=args.arch, **asdict(model.config))
    torch.save({"model": model.state_dict(), "args": stored}, args.out)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{args.out}: {count:,} parameters, {args.out.stat().st_size:,} bytes; {loss:.2f} bits per dimension before")


if __name__ == "__main__":
    main()
