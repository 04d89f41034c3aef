"""Train a small conditional PixelCNN on scikit-learn's 8x8 digits, on the CPU in minutes, and sample between classes.

    python examples/train_pixelcnn.py --out examples/pixelcnn_digits.pt --preview digits.png

The digits, which `digits_training.py` splits, are brought from 17 to 8 grey levels. The network sees the class as a
vector, so that after training a vector that is half one class and half another can be given: the preview's lower rows.
What is saved is {'model': state_dict, 'args': argparse.Namespace}, named as in the public code.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path

import torch
from digits_training import LABELS, SHAPE, Split, averaged, load_splits, save, write_preview
from torch import Tensor
from torch.nn import functional as F

from pixelsnail_infer.models.pixelcnn import PixelCNN, PixelCNNConfig
from pixelsnail_infer.models.pixelcnn_layers import MaskedConv

PAIRS = [(1, 7), (3, 8), (4, 9), (5, 6), (0, 6)]  # what the preview mixes half and half; the first four as published


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("pixelcnn_digits.pt"), help="checkpoint to write")
    parser.add_argument("--preview", type=Path, help="also sample digits, and digits between classes, into this PNG")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--ema", type=float, default=0.995, help="decay of the averaged weights, which are saved")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--n-bins", type=int, default=8)
    parser.add_argument("--n-features", type=int, default=32)
    parser.add_argument("--n-layers", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.4)
    return parser.parse_args()


def make_model(args: argparse.Namespace) -> PixelCNN:
    config = PixelCNNConfig(
        shape=SHAPE,
        n_bins=args.n_bins,
        n_features=args.n_features,
        n_layers=args.n_layers,
        n_class=LABELS,
        condition="vector",
        dropout=args.dropout,
    )
    return PixelCNN(config)


def one_hot(labels: Tensor) -> Tensor:
    return F.one_hot(labels, LABELS).float()


@torch.no_grad()
def bits_per_dimension(model: PixelCNN, split: Split) -> float:
    codes, labels = split
    return F.nll_loss(model.eval()(codes, h=one_hot(labels)), codes).item() / math.log(2)


@torch.no_grad()
def settle(average: PixelCNN, codes: Tensor, labels: Tensor) -> None:
    """Give the averaged weights batch statistics of their own: those of the whole training set."""
    norms = [module for module in average.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    average.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
        norm.train()
    for part, which in zip(codes.split(200), labels.split(200), strict=True):
        average(part, h=one_hot(which))
    average.eval()
    for norm in norms:
        norm.momentum = 0.1


@torch.no_grad()
def clear_masked(model: PixelCNN) -> None:
    """Zero what the masks hide, as the public code does at every forward."""
    for module in model.modules():
        if isinstance(module, MaskedConv):
            module.weight.mul_(module.mask)


def shown_classes() -> Tensor:
    """Class vectors float32 [90, 10] of the preview: four rows of ten digits; then, for each pair of classes, a row of
    ten drawn between them."""
    between = [one_hot(torch.tensor(pair)).mean(dim=0).expand(LABELS, -1) for pair in PAIRS]
    return torch.cat([one_hot(torch.arange(LABELS).repeat(4)), *between])


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data, watched, held_out = load_splits(args.n_bins)
    start = make_model(args)
    model = averaged(
        start,
        args,
        data,
        lambda codes, labels: F.nll_loss(start(codes, h=one_hot(labels)), codes),
        lambda average: bits_per_dimension(average, watched),
        weight_decay=1e-2,
        settle=lambda average: settle(average, *data),
    )
    clear_masked(model)
    save(model, args, bits_per_dimension(model, held_out), **asdict(model.config))
    if args.preview:
        shown = shown_classes()
        write_preview(lambda codes: model(codes, h=shown), len(shown), args.n_bins, args.preview, args.seed)


if __name__ == "__main__":
    main()
