"""All parts of a decoder: the stock VQ-VAE-2 at 256x256 pixels, random weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import each

from pixelsnail_infer.export import export_codec
from pixelsnail_infer.models.vqvae import VqVae
from pixelsnail_infer.models.vqvae_config import VqVaeConfig
from pixelsnail_infer.runtime import load_decoder

FORMATS = {"torch": ("torchscript", ".pt"), "onnxruntime": ("onnx", ".onnx"), "tensorrt": ("onnx", ".onnx")}
CLOSE = 1e-3
"""Of the pictures' standard deviation: convolutions add up in another order on a GPU."""
SIZES = {"decoder": (256, 256), "small-decoder": (32, 32)}


def check(name: str, args: argparse.Namespace, parts: Any) -> None:
    """Run every part of a decoder that the arguments ask for."""
    torch.manual_seed(0)
    module = VqVae(VqVaeConfig(shape=SIZES[name])).eval()
    codes = [np.random.default_rng(0).integers(0, spec.levels, (max(map(int, args.batches.split(","))), *spec.shape))
             for spec in module.config.codes]
    files: dict[str, Path] = {}

    def written(format: str, suffix: str) -> Path:
        if format not in files:
            target = args.out / f"{name}{suffix}"
            files[format] = export_codec(module, target, kind="decoder", format=format).file
        return files[format]

    for engine in filter(None, args.engines.split(",")):

        def agreement(engine: str = engine) -> dict[str, Any]:
            some = [level[:2] for level in codes]
            with torch.inference_mode():
                expected = module.decode(*(torch.from_numpy(level) for level in some)).permute(0, 2, 3, 1).numpy()
            with load_decoder(written(*FORMATS[engine]), device=args.device, backend=engine) as decoder:
                off = float(np.abs(decoder.decode(*some) - expected).max() / expected.std())
            return {"pictures_sigma": off, **({} if off <= CLOSE else {"failed": f"over {CLOSE}"})}

        parts.run(f"{name}, {engine} float32, pictures beside PyTorch's on the CPU", agreement)
        for batch in map(int, args.batches.split(",")):

            def measured(engine: str = engine, batch: int = batch) -> dict[str, Any]:
                some = [level[:batch] for level in codes]
                with load_decoder(written(*FORMATS[engine]), device=args.device, backend=engine) as decoder:
                    seconds = each(lambda: decoder.decode(*some, max_batch=batch), args.device, 1, 3)
                return {"image_s": seconds / batch, "images_per_minute": 60 * batch / seconds}

            parts.run(f"{name}, {engine} float32, batch {batch}", measured)
    parts.run(f"{name}, full canvas, eager", lambda: _eager(module, codes, args.device))


def _eager(module: Any, codes: list[Any], device: str) -> dict[str, Any]:
    """The module as it stands, at batch 1."""
    given = [torch.from_numpy(level[:1]).to(device) for level in codes]
    try:
        module.to(device)
        with torch.inference_mode():
            return {"image_s": each(lambda: module.decode(*given), device, 1, 3)}
    finally:
        module.cpu()
