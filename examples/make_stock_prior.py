"""Write a checkpoint of the stock top prior's shape with random weights, to measure and to try things with.

    python examples/make_stock_prior.py stock.pt                                 32x32 codes, 84.9 M parameters, 340 MB
    python examples/make_stock_prior.py bottom.pt --shape 64 64 --no-attention --condition codes
    python examples/make_stock_prior.py small.pt --shape 8 8 --levels 16 --channel 32 --res-channel 32

The weights have made one optimiser step on random codes, so that no weight and no norm is at its initial value. The
file is in the family's own format, {'model': state_dict, 'args': Namespace}, and the same for the same seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch.nn import functional as F

from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.models.layers import CausalConv2d


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("out", type=Path, help="checkpoint to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=3e-4, help="size of the one optimiser step")
    parser.add_argument("--shape", type=int, nargs=2, default=[32, 32], metavar=("H", "W"))
    parser.add_argument("--levels", type=int, default=512)
    parser.add_argument("--channel", type=int, default=256)
    parser.add_argument("--kernel", type=int, default=5)
    parser.add_argument("--n-block", type=int, default=4)
    parser.add_argument("--n-res-block", type=int, default=4)
    parser.add_argument("--res-channel", type=int, default=256)
    parser.add_argument("--no-attention", action="store_true")
    parser.add_argument("--n-head", type=int, default=8)
    parser.add_argument("--n-out-res-block", type=int, default=0)
    parser.add_argument("--condition", choices=["codes", "label"], help="twice coarser codes, or one of ten labels")
    parser.add_argument("--elu-inplace", action="store_true", help="as trained before July 2020; the file cannot tell")
    return parser.parse_args()


def make_config(args: argparse.Namespace) -> PriorConfig:
    condition: dict[str, object] = {}
    if args.condition == "codes":
        condition = {"cond_res_block": 3, "cond_res_channel": args.res_channel}
    elif args.condition == "label":
        condition = {"n_label": 10, "label_hidden": (2048, 2048, 2048)}
    return PriorConfig(
        shape=tuple(args.shape),
        levels=args.levels,
        channel=args.channel,
        kernel_size=args.kernel,
        n_block=args.n_block,
        n_res_block=args.n_res_block,
        res_channel=args.res_channel,
        attention=not args.no_attention,
        n_head=args.n_head,
        n_out_res_block=args.n_out_res_block,
        condition=args.condition,
        elu_inplace=args.elu_inplace,
        **condition,
    )


def take_one_step(model: Prior, learning_rate: float) -> float:
    """One Adam step on random codes and conditions; gives the loss before it."""
    config = model.config
    codes = torch.randint(config.levels, (1, *config.shape))
    highest = {"label": config.n_label, "condition": config.levels}
    conditions = {name: torch.randint(highest[name], (1, *shape)) for name, shape in config.condition_shapes.items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    loss = F.cross_entropy(model.train()(codes, **conditions), codes)
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def soil_masked(model: Prior, size: float) -> None:
    """Small numbers where the causal masks hide them: the public code zeroes there, but only at its next forward."""
    for module in model.modules():
        if isinstance(module, CausalConv2d):
            hidden = module.conv.conv.weight_v - module.conv.conv.masked_v()
            module.conv.conv.weight_v.copy_(module.conv.conv.masked_v() + size * hidden.sign())


def main() -> None:
    args = parse_args()
    torch.manual_seed(args.seed)
    model = Prior(make_config(args))
    loss = take_one_step(model, args.lr)
    soil_masked(model, args.lr)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    stored = argparse.Namespace(hier="top" if args.condition is None else "bottom", n_head=args.n_head, seed=args.seed)
    torch.save({"model": model.state_dict(), "args": stored}, args.out)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{args.out}: {count:,} parameters, {args.out.stat().st_size:,} bytes; loss before the step {loss:.4f}")


if __name__ == "__main__":
    main()
