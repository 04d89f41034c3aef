"""Train the transformer of `digits_transformer.py` on scikit-learn's 8x8 digits, on the CPU in minutes.

    python examples/train_transformer.py --out examples/digits_transformer.pt --preview digits.png

The digits, their split and what is reported are those of `train_digits.py`. While it trains, digits are moved by a
pixel and pixels before the predicted one are replaced now and then, or so few would be known by heart. The averaged
weights are saved as {'model': state_dict, 'args': argparse.Namespace}.
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path

import torch
from digits_transformer import DigitsTransformer
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm
from train_digits import LABELS, LEVELS, SHAPE, Split, bits_per_dimension, load_splits


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


def train(args: argparse.Namespace, data: Split, watched: Split) -> DigitsTransformer:
    """The averaged weights (exponential moving average) after the last epoch; no epoch is picked by its figures."""
    codes, labels = data
    model = DigitsTransformer(SHAPE, LEVELS, LABELS, dropout=args.dropout)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), args.lr, (0.9, 0.99), weight_decay=args.weight_decay, fused=True)
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
            wanted, shown = varied(codes[batch], args.replaced)
            loss = F.cross_entropy(model(shown, label=labels[batch]), wanted)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            total += loss.item()
            with torch.no_grad():
                for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                    slow.lerp_(fast, 1 - args.ema)
        bar.set_postfix(
            train=f"{total / len(batches) / math.log(2):.3f}",
            watched=f"{bits_per_dimension(average, watched):.3f} bits/dim",
        )
    return average.eval()


@torch.no_grad()
def write_preview(model: DigitsTransformer, path: Path, seed: int) -> None:
    """Four digits of every label, one full forward for every pixel: the plain slow way."""
    from PIL import Image

    labels, generator = torch.arange(LABELS).repeat(4), torch.Generator().manual_seed(seed)
    codes = torch.zeros(len(labels), *SHAPE, dtype=torch.int64)
    for i in range(SHAPE[0]):
        for j in range(SHAPE[1]):
            probability = model(codes, label=labels)[:, :, i, j].softmax(dim=1)
            codes[:, i, j] = torch.multinomial(probability, 1, generator=generator)[:, 0]
    grid = F.pad(codes.view(4, LABELS, *SHAPE), [1, 1, 1, 1]).permute(0, 2, 1, 3).reshape(4 * 10, LABELS * 10)
    pixels = (grid * 255 // (LEVELS - 1)).to(torch.uint8).numpy()
    Image.fromarray(pixels).resize((800, 320), Image.Resampling.NEAREST).save(path)


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data, watched, held_out = load_splits()
    model = train(args, data, watched)
    args.bits_per_dim = bits_per_dimension(model, held_out)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    stored = argparse.Namespace(**{k: v for k, v in vars(args).items() if not isinstance(v, Path)})
    torch.save({"model": model.state_dict(), "args": stored}, args.out)
    count = sum(parameter.numel() for parameter in model.parameters())
    size = args.out.stat().st_size
    print(f"held out: {args.bits_per_dim:.3f} bits/dim; {count:,} parameters, {size:,} bytes: {args.out}")
    if args.preview:
        write_preview(model, args.preview, args.seed)


if __name__ == "__main__":
    main()
