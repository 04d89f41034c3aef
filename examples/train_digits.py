"""Train a small label-conditioned PixelSNAIL with attention on scikit-learn's 8x8 digits, on the CPU in minutes.

    python examples/train_digits.py --out examples/digits.pt --preview digits.png

The digits have 17 grey levels (0…16), which are the codes. They are split into 1,397 to train on, 200 to watch, and
200 that are looked at once, at the end: their bits per dimension are printed and stored in the file, next to the
weights, in the format of the VQ-prior family: {'model': state_dict, 'args': argparse.Namespace}.

`sample` is the plain slow way: the whole network once for every pixel.
"""

from __future__ import annotations

import argparse
import copy
import math
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.models.layers import CausalConv2d

SHAPE, LEVELS, LABELS = (8, 8), 17, 10
Split = tuple[Tensor, Tensor]  # codes int64 [N, 8, 8], labels int64 [N]


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("digits.pt"), help="checkpoint to write")
    parser.add_argument("--preview", type=Path, help="also sample four digits of every label into this PNG")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--ema", type=float, default=0.998, help="decay of the averaged weights, which are saved")
    parser.add_argument("--weight-decay", type=float, default=1e-2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channel", type=int, default=40)
    parser.add_argument("--kernel", type=int, default=3)
    parser.add_argument("--n-block", type=int, default=2)
    parser.add_argument("--n-res-block", type=int, default=2)
    parser.add_argument("--n-head", type=int, default=4)
    parser.add_argument("--n-out-res-block", type=int, default=1)
    parser.add_argument("--embed", type=int, default=24, help="width of the layers that make a label's condition map")
    parser.add_argument("--dropout", type=float, default=0.25)
    return parser.parse_args()


def make_model(args: argparse.Namespace) -> Prior:
    config = PriorConfig(
        shape=SHAPE,
        levels=LEVELS,
        channel=args.channel,
        kernel_size=args.kernel,
        n_block=args.n_block,
        n_res_block=args.n_res_block,
        res_channel=args.channel,
        n_head=args.n_head,
        n_out_res_block=args.n_out_res_block,
        condition="label",
        n_label=LABELS,
        label_hidden=(args.embed,) * 3,
        dropout=args.dropout,
    )
    return Prior(config)


def load_splits() -> tuple[Split, Split, Split]:
    """Training, watched and held-out digits; the split is the same for every seed."""
    digits = load_digits()
    codes = torch.from_numpy(digits.images).long()  # [1797, 8, 8]
    labels = torch.from_numpy(digits.target).long()  # [1797]
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(1797))
    held_out, watched, train = order[:200], order[200:400], order[400:]
    return (codes[train], labels[train]), (codes[watched], labels[watched]), (codes[held_out], labels[held_out])


@torch.no_grad()
def bits_per_dimension(model: Prior, split: Split) -> float:
    codes, labels = split
    return F.cross_entropy(model.eval()(codes, label=labels), codes).item() / math.log(2)


@torch.no_grad()
def sample(model: Prior, labels: Tensor, generator: torch.Generator) -> Tensor:
    """Codes int64 [N, 8, 8] for labels int64 [N], one full forward for every pixel."""
    model.eval()
    height, width = model.config.shape
    codes = torch.zeros(len(labels), height, width, dtype=torch.int64)
    for i in range(height):
        for j in range(width):
            probability = model(codes, label=labels)[:, :, i, j].softmax(dim=1)
            codes[:, i, j] = torch.multinomial(probability, 1, generator=generator)[:, 0]
    return codes


def write_preview(model: Prior, path: Path, seed: int) -> None:
    from PIL import Image

    labels = torch.arange(LABELS).repeat(4)  # [40], four rows of ten
    codes = sample(model, labels, torch.Generator().manual_seed(seed)).view(4, LABELS, *SHAPE)
    grid = F.pad(codes, [1, 1, 1, 1]).permute(0, 2, 1, 3).reshape(4 * 10, LABELS * 10)  # [40, 100]
    pixels = (grid * 255 // (LEVELS - 1)).to(torch.uint8).numpy()
    Image.fromarray(pixels).resize((800, 320), Image.Resampling.NEAREST).save(path)


def train(args: argparse.Namespace, data: Split, watched: Split) -> Prior:
    """The averaged weights (exponential moving average) after the last epoch; no epoch is picked by its figures."""
    codes, labels = data
    model = make_model(args)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=args.lr, weight_decay=args.weight_decay, betas=(0.9, 0.99), fused=True
    )
    steps = args.epochs * (len(codes) // args.batch)
    warm_up = min(100, max(steps // 10, 1))

    def rate(step: int) -> float:
        return min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * step / steps)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    bar = tqdm(range(args.epochs), unit="epoch")
    for _ in bar:
        model.train()
        total, batches = 0.0, torch.randperm(len(codes)).split(args.batch)
        batches = [batch for batch in batches if len(batch) == args.batch]
        for batch in batches:
            loss = F.cross_entropy(model(codes[batch], label=labels[batch]), codes[batch])
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
def clear_masked(model: Prior) -> None:
    """Zero what the causal masks hide: it never learned, and the public code zeroes it in place at every forward."""
    for module in model.modules():
        if isinstance(module, CausalConv2d):
            module.conv.conv.weight_v.copy_(module.conv.conv.masked_v())


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data, watched, held_out = load_splits()
    model = train(args, data, watched)
    clear_masked(model)
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
