"""Train a small label-conditioned PixelSNAIL with attention on scikit-learn's 8x8 digits, on the CPU in minutes.

    python examples/train_digits.py --out examples/digits.pt --preview digits.png

`digits_training.py` says what digits they are, and how they are split. The weights are saved in the format of the
VQ-prior family: {'model': state_dict, 'args': argparse.Namespace}.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from digits_training import LABELS, LEVELS, SHAPE, Split, averaged, load_splits, save, write_preview
from torch.nn import functional as F

from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.models.layers import CausalConv2d


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


@torch.no_grad()
def bits_per_dimension(model: Prior, split: Split) -> float:
    codes, labels = split
    return F.cross_entropy(model.eval()(codes, label=labels), codes).item() / math.log(2)


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
    start = make_model(args)
    model = averaged(
        start,
        args,
        data,
        lambda codes, labels: F.cross_entropy(start(codes, label=labels), codes),
        lambda average: bits_per_dimension(average, watched),
        weight_decay=args.weight_decay,
    )
    clear_masked(model)
    save(model, args, bits_per_dimension(model, held_out))
    if args.preview:
        shown = torch.arange(LABELS).repeat(4)  # [40], four rows of ten
        write_preview(lambda codes: model(codes, label=shown), len(shown), LEVELS, args.preview, args.seed)


if __name__ == "__main__":
    main()
