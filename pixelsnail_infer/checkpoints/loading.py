"""From a file to a network that is ready to run."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor

from pixelsnail_infer.checkpoints.normalise import find_args, normalise, unwrap
from pixelsnail_infer.checkpoints.options import CheckpointOptions
from pixelsnail_infer.checkpoints.prior import is_prior, read_prior
from pixelsnail_infer.checkpoints.reading import one_line, read_file
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.models import Prior, PriorConfig
from pixelsnail_infer.models.layers import NormedWeight
from pixelsnail_infer.models.prior import coordinates

__all__ = ["LoadedCheckpoint", "load_checkpoint"]

SUPPORTED = (
    "PixelSNAIL priors over VQ codes as in rosinality/vq-vae-2-pytorch and its forks, and label-conditioned ones as in "
    "liuxubo717/sound_generation"
)

_DEFAULTS = CheckpointOptions()


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A network and what is known about it; the caller owns all of it."""

    family: str
    """"vq-prior"."""
    config: PriorConfig
    module: Prior
    """In eval mode, float32, on the CPU, without gradients."""
    sha256: str
    """Of the file's bytes, in hexadecimal."""
    findings: list[str]
    """What was recognised, assumed and ignored, one line each."""


def load_checkpoint(path: str | os.PathLike[str], *, options: CheckpointOptions = _DEFAULTS) -> LoadedCheckpoint:
    """Read a checkpoint, recognise its family from names and shapes, and build its network.

    Nothing that the file says is run, and it is not changed. Global state is left alone.

    Raises:
        CheckpointError: the file is missing, damaged, unsafe, of an unknown model, holds NaN, or contradicts the
            options.
    """
    content, sha256 = read_file(path)
    try:
        findings: list[str] = []
        tensors = normalise(unwrap(content, findings), findings)
        if not is_prior(tensors):
            raise CheckpointError(_unknown(tensors))
        config, used = read_prior(tensors, find_args(content), options, findings)
        module = _build(config, used, findings)
    except CheckpointError as error:
        raise CheckpointError(f"{one_line(os.fspath(path))}: {error}") from None
    return LoadedCheckpoint("vq-prior", config, module, sha256, findings)


def _unknown(tensors: dict[str, Tensor]) -> str:
    seen = [f"{one_line(name, 60)} {list(tensor.shape)}" for name, tensor in list(tensors.items())[:4]]
    more = ", …" if len(tensors) > len(seen) else ""
    return (
        f"a model that is not known: {len(tensors)} tensors ({', '.join(seen)}{more}); supported are {SUPPORTED} "
        "(weight norm in place)"
    )


def _build(config: PriorConfig, tensors: dict[str, Tensor], findings: list[str]) -> Prior:
    """The network with the file's tensors as its parameters; they must fit exactly."""
    with torch.device("meta"):
        module = Prior(config)
    state = dict(tensors)
    background = coordinates(*config.shape)
    if "background" not in state:
        state["background"] = background
        findings.append("no background buffer in the file: made the coordinates anew")
    elif state["background"].shape == background.shape and not torch.allclose(
        state["background"], background, atol=1e-3
    ):
        findings.append("the file's background differs from the usual coordinates; the file's is used")
    expected = module.state_dict()
    _compare(
        {name: tuple(tensor.shape) for name, tensor in state.items()},
        {name: tuple(tensor.shape) for name, tensor in expected.items()},
    )
    module.load_state_dict(state, assign=True)
    _check_norms(module)
    return module.eval().requires_grad_(False)


def _check_norms(module: Prior) -> None:
    """Raise a CheckpointError for a weight whose norm is 0 or overflows: every result would be NaN."""
    for name, layer in module.named_modules():
        if isinstance(layer, NormedWeight):
            norm = layer.masked_v().detach().flatten(1).norm(dim=1)
            if not (torch.isfinite(norm) & (norm > 0)).all():
                raise CheckpointError(f"{name}.weight_v has a row whose norm is 0 or infinite: the model gives NaN")


def _compare(found: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]]) -> None:
    """Raise a CheckpointError for the first name or shape that does not belong."""
    for name, shape in expected.items():
        if name not in found:
            raise CheckpointError(f"a VQ prior without {name}, which should have shape {list(shape)}: not complete")
        if found[name] != shape:
            raise CheckpointError(
                f"a VQ prior in which {name} has shape {list(found[name])}; {list(shape)} is expected"
            )
    for name, shape in found.items():
        if name not in expected:
            raise CheckpointError(
                f"a VQ prior with {one_line(name)} {list(shape)} in addition, which no supported variant has; "
                f"supported are {SUPPORTED}"
            )
