"""The user's file as the tests use it: its checkpoints, the command that exports them, and its own forward."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pixelsnail_infer.export.cli import main
from pixelsnail_infer.export.source.user_model import user_model
from pixelsnail_infer.noise import gumbel_row, image_keys

USER = Path(__file__).parent / "user"
LEVELS = 7
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """One network of `net.py`: what it is made with and which conditions it takes."""

    arguments: dict[str, Any] = field(default_factory=dict)
    declared: tuple[str, ...] = ()
    shape: tuple[int, int] = (4, 6)

    @property
    def made_with(self) -> str:
        return json.dumps({"shape": list(self.shape), "levels": LEVELS, **self.arguments})

    def options(self, name: str = "Net") -> list[str]:
        canvas = "x".join(map(str, self.shape))
        declared = [part for text in self.declared for part in ("--condition", text)]
        return ["--model", f"{USER / 'net.py'}:{name}", "--model-args", self.made_with, "--levels", str(LEVELS),
                "--shape", canvas, *declared]

    def given(self, count: int, seed: int = 0) -> Arrays:
        """Random conditions."""
        random, (height, width) = np.random.default_rng(seed), self.shape
        every: dict[str, Callable[[], NDArray[Any]]] = {
            "coarse": lambda: random.integers(0, 5, (count, height // 2, width // 2)),
            "label": lambda: random.integers(0, 3, count),
            "style": lambda: random.standard_normal((count, 4)).astype(np.float32),
            "depth": lambda: random.standard_normal((count, 2, height, width)).astype(np.float32),
        }
        return {name: every[name]() for name in (text.split(":")[0] for text in self.declared)}


CASES = {
    "alone": Case(),
    "coarse": Case({"coarse": 5}, ("coarse:codes:2x3:5",)),
    "all": Case({"coarse": 5, "labels": 3, "style": 4, "depth": 2},
                ("coarse:codes:2x3:5", "label:class:3", "style:vector:4", "depth:map:2x4x6")),
}


def weights(case: Case) -> dict[str, torch.Tensor]:
    """A state dict after one step of training, scaled so that draws depend on it."""
    torch.manual_seed(3)
    with user_model(f"{USER / 'net.py'}:Net", json.loads(case.made_with)) as net:
        optimiser = torch.optim.Adam(net.parameters(), lr=0.03)
        codes = torch.randint(LEVELS, (4, *case.shape))
        given = {name: torch.from_numpy(value) for name, value in case.given(4).items()}
        torch.nn.functional.cross_entropy(net(codes, **given)[0], codes).backward()
        optimiser.step()
        with torch.no_grad():
            net.out[1].weight.mul_(4)
        return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def checkpoint(case: Case, path: Path) -> Path:
    torch.save({"model": weights(case), "step": 1}, path)
    return path


def export(case: Case, folder: Path, *more: str) -> int:
    return main([str(checkpoint(case, folder / "net.pt")), str(folder / "out.onnx"), *case.options(), *more])


def own_logits(case: Case, codes: NDArray[Any], given: Arrays) -> NDArray[Any]:
    """`[n, H, W, levels]` of the file's own forward in float32."""
    with user_model(f"{USER / 'net.py'}:Net", json.loads(case.made_with)) as net:
        net.load_state_dict(weights(case))
        with torch.no_grad():
            out = net.eval()(torch.from_numpy(codes), **{k: torch.from_numpy(v) for k, v in given.items()})[0]
    result: NDArray[Any] = out.permute(0, 2, 3, 1).numpy()
    return result


def noise(case: Case, count: int, seed: int) -> NDArray[np.float32]:
    """The noise of `sample(count, seed=seed)`, `[n, H, W, levels]`."""
    keys, (height, width) = image_keys(seed, count), case.shape
    return np.stack([gumbel_row(keys, row, width, LEVELS) for row in range(height)], axis=1)
