"""Train the transformer of `digits_transformer.py` on scikit-learn's 8x8 digits, on the CPU in minutes.

    python examples/train_transformer.py --out examples/digits_transformer.pt --preview digits.png

`digits_training.py` says what digits they are, and how they are split. While it trains, digits are moved by a pixel and
pixels before the predicted one are replaced now and then, or so few would be known by heart. What is saved is
{'model': state_dict, 'args': argparse.Namespace}.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from digits_training import LABELS, LEVELS, SHAPE, Split, averaged, load_splits, save, write_preview
from digits_transformer import DigitsTransformer
from torch import Tensor
from torch.nn import functional as F


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("digits_transformer.pt"), help="checkpoint to write")
    parser.add_argument("--preview", type=Path, help="also sample four digits of every label into this PNG")
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--ema", type=float, default=0.998, help="decay of the averaged weights, which are saved")
    parser.add_argument("--weight-decay", type=float, default=5e-2)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--replaced", type=float, default=0.05, help="share of the pixels that are not what they were")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def varied(codes: Tensor, replaced: float) -> tuple[Tensor, Tensor]:
    """Digits int64 [B, 8, 8] moved by up to a column, half of them as they are, and what the network sees of them."""
    beside = torch.stack([F.pad(codes, [1, 1])[:, :, k:k + SHAPE[1]] for k in range(3)])
    moved = beside[torch.tensor([1, 1, 0, 2])[torch.randint(4, (len(codes),))], torch.arange(len(codes))]
    other = torch.rand(moved.shape) < replaced
    return moved, torch.where(other, torch.randint(LEVELS, moved.shape), moved)


@torch.no_grad()
def bits_per_dimension(model: DigitsTransformer, split: Split) -> float:
    codes, labels = split
    return F.cross_entropy(model.eval()(codes, label=labels), codes).item() / math.log(2)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data, watched, held_out = load_splits()
    start = DigitsTransformer(SHAPE, LEVELS, LABELS, dropout=args.dropout)

    def loss(codes: Tensor, labels: Tensor) -> Tensor:
        wanted, seen = varied(codes, args.replaced)
        return F.cross_entropy(start(seen, label=labels), wanted)

    model = averaged(
        start,
        args,
        data,
        loss,
        lambda average: bits_per_dimension(average, watched),
        weight_decay=args.weight_decay,
    )
    save(model, args, bits_per_dimension(model, held_out))
    if args.preview:
        shown = torch.arange(LABELS).repeat(4)  # [40], four rows of ten
        write_preview(lambda codes: model(codes, label=shown), len(shown), LEVELS, args.preview, args.seed)


if __name__ == "__main__":
    main()
