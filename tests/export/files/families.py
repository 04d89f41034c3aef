"""Small checkpoints of every family as files, and what their networks give."""

from __future__ import annotations

import argparse
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pixelsnail_infer.checkpoints import CheckpointOptions, load_checkpoint
from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.models.kamen import Kamen, KamenConfig
from pixelsnail_infer.models.pixelcnn import PixelCNN, PixelCNNConfig

BOTTOM = PriorConfig(shape=(4, 6), levels=7, channel=8, kernel_size=5, n_block=2, n_res_block=1, res_channel=8,
                     attention=False, condition="codes", cond_res_block=1, cond_res_channel=8)
AUDIO = PriorConfig(shape=(20, 86), levels=9, channel=8, kernel_size=5, n_block=1, n_res_block=1, res_channel=8,
                    n_head=2, condition="label", n_label=7, label_hidden=(6, 6, 6))
KAMEN = KamenConfig(shape=(4, 5), n_channels=4, n_res_layers=1, attn_n_layers=2, attn_dv=6, n_logistic_mix=2,
                    approximate_first_position=True)
PIXELCNN = PixelCNNConfig(shape=(5, 6), n_bins=4, n_features=6, n_layers=2, n_class=3)
TF = Path(__file__).parents[2] / "checkpoints" / "data" / "h12.ckpt"

Arrays = dict[str, NDArray[Any]]


def prior(config: PriorConfig) -> Prior:
    """Random weights of a spread that makes draws depend on them."""
    torch.manual_seed(4)
    model = Prior(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight_g"):
                parameter.mul_(1.5)
    return model


def prior_file(config: PriorConfig, path: Path) -> Path:
    """As the public training script writes it; the audio code keeps a `cond_resnet` that nothing uses."""
    state = dict(prior(config).state_dict())
    if config.condition == "label":
        state["cond_resnet.blocks.0.conv.weight_v"] = torch.zeros(3, config.levels, 3, 3)
    torch.save({"model": state, "args": argparse.Namespace(n_head=2)}, path)
    return path


def kamen_files(folder: Path) -> tuple[Path, Path]:
    """The checkpoint, and the optimizer's state with averages beside it."""
    torch.manual_seed(5)
    model = Kamen(KAMEN)
    torch.save({"epoch": 3, "global_step": 9, "state_dict": model.state_dict()}, folder / "checkpoint.pt")
    entries = {k: {"ema": parameter + 0.1 * torch.randn_like(parameter)} for k, parameter in
               enumerate(model.parameters())}
    torch.save({"state": entries, "param_groups": [{"params": list(entries)}]}, folder / "optim_checkpoint.pt")
    return folder / "checkpoint.pt", folder / "optim_checkpoint.pt"


def pixelcnn_files(folder: Path) -> tuple[Path, Path]:
    """A state dict, and the same network pickled whole under the name of the public code's module."""
    torch.manual_seed(6)
    model = PixelCNN(PIXELCNN)
    torch.save(model.state_dict(), folder / "state.pt")
    tree = nn.Module.__new__(type("PixelCNN", (nn.Module,), {"__module__": "model", "__qualname__": "PixelCNN"}))
    nn.Module.__init__(tree)
    tree.layers, tree.input_batchnorm = model.layers, model.input_batchnorm
    sys.modules["model"] = types.ModuleType("model")
    vars(sys.modules["model"])["PixelCNN"] = type(tree)
    try:
        torch.save(tree, folder / "whole.pt")
    finally:
        del sys.modules["model"]
    return folder / "state.pt", folder / "whole.pt"


def network(path: Path, **options: Any) -> Any:
    """The network of a file, loaded on its own."""
    return load_checkpoint(path, options=CheckpointOptions(**options)).module


def logits(module: Callable[..., torch.Tensor], images: NDArray[Any], given: Arrays) -> NDArray[Any]:
    """`[n, H, W, parameters]` of one forward; images as at the runtime."""
    pixels = torch.from_numpy(images if images.ndim == 3 else np.moveaxis(images, 3, 1).copy())
    with torch.no_grad():
        out = module(pixels, **{name: torch.from_numpy(value) for name, value in given.items()})
    result: NDArray[Any] = out.permute(0, 2, 3, 1).numpy()
    return result
