"""Train a small conditional PixelCNN on scikit-learn's 8x8 digits, on the CPU in minutes, and sample between classes.

    python examples/train_pixelcnn.py --out examples/pixelcnn_digits.pt --preview digits.png

The digits are brought from 17 to 8 grey levels. The network sees the class as a vector, so that after training a vector
that is half one class and half another can be given: the preview's lower rows. The split is that of `train_digits.py`:
1,397 digits to train on, 200 to watch, 200 that are looked at once, at the end, for the bits per dimension that are
printed and stored in the file: {'model': state_dict, 'args': argparse.Namespace}, named as in the public code.

`sample` is the plain slow way: the whole network once for every pixel.
"""

from __future__ import annotations

import argparse
import copy
import math
from dataclasses import asdict
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from pixelsnail_infer.models.pixelcnn import PixelCNN, PixelCNNConfig
from pixelsnail_infer.models.pixelcnn_layers import MaskedConv

SHAPE, LABELS = (8, 8), 10
PAIRS = [(1, 7), (3, 8), (4, 9), (5, 6), (0, 6)]  # what the preview mixes half and half; the first four as published
Split = tuple[Tensor, Tensor]  # codes int64 [N, 8, 8], labels int64 [N]


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


def load_splits(n_bins: int) -> tuple[Split, Split, Split]:
    """Training, watched and held-out digits; the split is the same for every seed."""
    digits = load_digits()
    codes = (torch.from_numpy(digits.images) * (n_bins - 1) / 16).round().long()  # [1797, 8, 8]
    labels = torch.from_numpy(digits.target).long()  # [1797]
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(1797))
    held_out, watched, train = order[:200], order[200:400], order[400:]
    return (codes[train], labels[train]), (codes[watched], labels[watched]), (codes[held_out], labels[held_out])


def one_hot(labels: Tensor) -> Tensor:
    return F.one_hot(labels, LABELS).float()


@torch.no_grad()
def bits_per_dimension(model: PixelCNN, split: Split) -> float:
    codes, labels = split
    return F.nll_loss(model.eval()(codes, h=one_hot(labels)), codes).item() / math.log(2)


@torch.no_grad()
def sample(model: PixelCNN, classes: Tensor, generator: torch.Generator) -> Tensor:
    """Codes int64 [N, 8, 8] for class vectors float32 [N, 10], one full forward for every pixel."""
    model.eval()
    height, width = model.config.shape
    codes = torch.zeros(len(classes), height, width, dtype=torch.int64)
    for i in range(height):
        for j in range(width):
            probability = model(codes, h=classes)[:, :, i, j].exp()
            codes[:, i, j] = torch.multinomial(probability, 1, generator=generator)[:, 0]
    return codes


def write_preview(model: PixelCNN, path: Path, seed: int) -> None:
    """Four rows of ten digits; then, for each pair of classes, a row of ten drawn between them."""
    from PIL import Image

    classes = [one_hot(torch.arange(LABELS).repeat(4))]  # [40, 10]
    for pair in PAIRS:
        classes.append(one_hot(torch.tensor(pair)).mean(dim=0).expand(LABELS, -1))  # [10, 10]
    codes = sample(model, torch.cat(classes), torch.Generator().manual_seed(seed))
    rows = len(codes) // LABELS
    grid = F.pad(codes, [1, 1, 1, 1]).view(rows, LABELS, 10, 10).permute(0, 2, 1, 3).reshape(rows * 10, LABELS * 10)
    pixels = (grid * 255 // (model.config.n_bins - 1)).to(torch.uint8).numpy()
    Image.fromarray(pixels).resize((800, rows * 80), Image.Resampling.NEAREST).save(path)


def train(args: argparse.Namespace, data: Split, watched: Split) -> PixelCNN:
    """The averaged weights after the last epoch; no epoch is picked by its figures."""
    codes, labels = data
    config = PixelCNNConfig(
        shape=SHAPE,
        n_bins=args.n_bins,
        n_features=args.n_features,
        n_layers=args.n_layers,
        n_class=LABELS,
        condition="vector",
        dropout=args.dropout,
    )
    model = PixelCNN(config)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-2, betas=(0.9, 0.99), fused=True)
    steps = args.epochs * (len(codes) // args.batch)

    def rate(step: int) -> float:
        return min((step + 1) / 100, 0.5 * (1 + math.cos(math.pi * step / steps)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    bar = tqdm(range(args.epochs), unit="epoch")
    for _ in bar:
        model.train()
        total, batches = 0.0, torch.randperm(len(codes)).split(args.batch)
        batches = [batch for batch in batches if len(batch) == args.batch]
        for batch in batches:
            loss = F.nll_loss(model(codes[batch], h=one_hot(labels[batch])), codes[batch])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            total += loss.item()
            update(average, model, args.ema)
        settle(average, codes, labels)
        bar.set_postfix(
            train=f"{total / len(batches) / math.log(2):.3f}",
            watched=f"{bits_per_dimension(average, watched):.3f} bits/dim",
        )
    return average.eval()


@torch.no_grad()
def update(average: PixelCNN, model: PixelCNN, decay: float) -> None:
    for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - decay)


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


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data, watched, held_out = load_splits(args.n_bins)
    model = train(args, data, watched)
    clear_masked(model)
    args.bits_per_dim = bits_per_dimension(model, held_out)
    stored = {k: v for k, v in vars(args).items() if not isinstance(v, Path)} | asdict(model.config)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": model.state_dict(), "args": argparse.Namespace(**stored)}, args.out)
    count = sum(parameter.numel() for parameter in model.parameters())
    size = args.out.stat().st_size
    print(f"held out: {args.bits_per_dim:.3f} bits/dim; {count:,} parameters, {size:,} bytes: {args.out}")
    if args.preview:
        write_preview(model, args.preview, args.seed)


if __name__ == "__main__":
    main()
