"""The files that training code of many kinds leaves: one state dict, wrapped as each of them wraps it."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import random
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

State = dict[str, Tensor]


@contextmanager
def pretended(*names: str) -> Iterator[list[type]]:
    """Empty classes under the full names of libraries that need not be installed; one class for each name."""
    made, before = [], dict(sys.modules)
    for name in names:
        module, _, own = name.rpartition(".")
        for part in (module[:end] for end in range(1, len(module) + 1) if module[end: end + 1] in (".", "")):
            sys.modules[part] = sys.modules.get(part) or types.ModuleType(part)
        made.append(type(own, (), {"__module__": module}))
        setattr(sys.modules[module], own, made[-1])
    try:
        yield made
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]


def named(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def averaged(state: State) -> State:
    """Other numbers of the same kind: a moving average of the weights."""
    return {name: tensor * 1.5 if tensor.is_floating_point() and name != "background" else tensor
            for name, tensor in state.items()}


def dotless(state: State) -> State:
    """CompVis' LitEma: a buffer for each parameter, named without dots, and two counters."""
    kept = {name.replace(".", ""): tensor for name, tensor in state.items() if not name.endswith("background")}
    return {"decay": torch.tensor(0.999), "num_updates": torch.tensor(7, dtype=torch.int32), **kept}


def optimizer(state: State) -> dict[str, Any]:
    """Adam's state after a step over parameters of these shapes."""
    parameters = [nn.Parameter(torch.ones_like(tensor)) for tensor in state.values()]
    adam = torch.optim.Adam(parameters)
    sum(parameter.sum() for parameter in parameters).backward()
    adam.step()
    return adam.state_dict()


def metadata() -> dict[str, Any]:
    """What people store beside the weights."""
    return {
        "epoch": 12, "date": datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc),
        "took": datetime.timedelta(hours=3), "day": datetime.date(2024, 5, 6), "path": pathlib.Path("runs") / "a",
        "best": np.float64(1.25), "steps": np.int64(7), "half": np.float16(0.5), "done": np.bool_(True),
        "history": collections.defaultdict(list, {"loss": [1.0, 0.5]}), "last": collections.deque([1, 2], maxlen=5),
        "numpy_rng": np.random.default_rng(0).bit_generator.state,
        "scores": np.arange(6.0).reshape(2, 3), "kind": np.dtype("float32"),
        "python_rng": random.getstate(), "torch_rng": torch.get_rng_state(), "torch": torch.__version__,
        "types": [int, float, str], "config": types.SimpleNamespace(lr=0.1), "args": argparse.Namespace(lr=3e-4),
    }


def lightning(state: State, prefix: str = "net.") -> dict[str, Any]:
    """A `.ckpt` of PyTorch Lightning with the network as the attribute `net`."""
    extra = {"loss.vgg.weight": torch.ones(2), "train_metric.total": torch.ones(())}
    return {
        "epoch": 3, "global_step": 900, "pytorch-lightning_version": "1.9.5",
        "state_dict": {**named(prefix, state), **extra},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"current": {"ready": 4}}}},
        "callbacks": {"ModelCheckpoint{'monitor': None}": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [optimizer(state)], "lr_schedulers": [{"base_lrs": [0.1]}],
        "hparams_name": "kwargs", "hyper_parameters": {"lr": 1e-3, "width": np.int64(32)},
    }


def lucidrains(state: State) -> dict[str, Any]:
    """A trainer with the library ema_pytorch: the wrapper holds both networks."""
    ema = {"initted": torch.tensor(True), "step": torch.tensor(9)}
    return {"step": 9, "model": state, "opt": optimizer(state), "scaler": None, "version": "1.0",
            "ema": {**ema, **named("online_model.", state), **named("ema_model.", averaged(state))}}


# Each gives weights that are taken without any option.
PLAIN: dict[str, Callable[[State], object]] = {
    "a loop": lambda s: {"epoch": 1, "net": s, "optim": optimizer(s), "loss": torch.tensor(0.3)},
    "a loop with metadata": lambda s: {"weights": s, **metadata()},
    "nested": lambda s: {"run": {"best": {"generator": {"state": named("module.", s)}}}, "step": 4},
    "lightning": lightning,
    "lightning compiled": lambda s: lightning(s, "prior._orig_mod."),
    "distributed and compiled": lambda s: named("model.module._orig_mod.", s),
    "accelerate": lambda s: named("module.", s),
    "ema by name": lambda s: named("ema.", s),
    "a counter": lambda s: {**s, "step": torch.tensor(3), "loss.lpips.lin0.weight": torch.ones(3)},
    "parameters": lambda s: {"net": {name: nn.Parameter(t, requires_grad=False) for name, t in s.items()}},
    "views": lambda s: {"net": {name: t.transpose(0, -1).contiguous().transpose(0, -1) for name, t in s.items()}},
    "one storage": lambda s: {"net": views(s)},
    "two names of one": lambda s: {"net": s, "best": s},
    "ordered": lambda s: collections.OrderedDict(net=collections.OrderedDict(s)),
    "lucidrains": lucidrains,
    "timm": lambda s: {"arch": "prior", "state_dict": s, "state_dict_ema": averaged(s), "optimizer": optimizer(s)},
    "swa": lambda s: {"net": s, "swa_model": {"n_averaged": torch.tensor(3), **named("module.", averaged(s))}},
    "ema as a module": lambda s: {**named("net.", s), **named("net_ema.", averaged(s))},
    "compvis": lambda s: {"state_dict": {**named("net.", s), **named("model_ema.", dotless(averaged(s)))}},
    "compvis around": lambda s: {**named("net.", s), **named("model_ema.", dotless(named("net.", averaged(s))))},
    "parameters only": lambda s: {"net": s, "ema": {n: t for n, t in averaged(s).items() if n != "background"}},
}
AVERAGED = ("lucidrains", "timm", "swa", "ema as a module", "compvis", "compvis around", "parameters only")
"""Those of them with averages beside the weights."""


def views(state: State) -> State:
    """All tensors as parts of one storage."""
    flat = torch.cat([tensor.flatten() for tensor in state.values()])
    parts = flat.split([tensor.numel() for tensor in state.values()])
    return {name: part.view(tensor.shape) for part, (name, tensor) in zip(parts, state.items(), strict=True)}
