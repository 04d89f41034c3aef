"""Write a checkpoint of the published PixelCNN++ with random weights, to measure and to try things with.

    python examples/make_stock_pixelcnnpp.py cifar.pt                               32x32 RGB, 53.7 M parameters, 215 MB
    python examples/make_stock_pixelcnnpp.py classes.pt --n-label 10
    python examples/make_stock_pixelcnnpp.py small.pt --shape 8 8 --nr-filters 16 --nr-resnet 1

The weights were set from one batch of smooth random images, as the original does it, and have made one optimiser step.
The file is in this project's own format, {'model': state_dict, 'args': Namespace}, and the same for the same seed.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

import torch
from make_stock_snail import take_one_step

from pixelsnail_infer.models.pixelcnnpp import PixelCNNpp, PixelCNNppConfig


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("out", type=Path, help="checkpoint to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=3e-4, help="size of the one optimiser step")
    parser.add_argument("--shape", type=int, nargs=2, default=[32, 32], metavar=("H", "W"))
    parser.add_argument("--nr-filters", type=int, default=160)
    parser.add_argument("--nr-resnet", type=int, default=5)
    parser.add_argument("--nr-logistic-mix", type=int, default=10)
    parser.add_argument("--n-label", type=int, default=0, help="classes; 0: no condition")
    return parser.parse_args()


def make_config(args: argparse.Namespace) -> PixelCNNppConfig:
    return PixelCNNppConfig(
        shape=tuple(args.shape),
        nr_filters=args.nr_filters,
        nr_resnet=args.nr_resnet,
        nr_logistic_mix=args.nr_logistic_mix,
        condition="label" if args.n_label else None,
        n_label=args.n_label,
    )


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    model = PixelCNNpp(make_config(args))
    conditions = {"label": torch.arange(2) % args.n_label} if args.n_label else {}
    loss = take_one_step(model, args.lr, **conditions)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "args": argparse.Namespace(**asdict(model.config))}, args.out)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{args.out}: {count:,} parameters, {args.out.stat().st_size:,} bytes; {loss:.2f} bits per dimension before")


if __name__ == "__main__":
    main()
