"""One spelling for the many ways in which the same state dict is saved."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import torch
from torch import Tensor

from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.messages import one_line

__all__ = ["WEIGHT_NORM", "find_args", "normalise", "respelled", "stored_in_full"]

# Batch norm's count of batches, and pixel_models' causal mask: whole numbers from which no network here computes.
BOOKKEEPING = ("num_batches_tracked", "attn_mask")
WEIGHT_NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def find_args(content: object) -> dict[str, object]:
    """The training arguments beside the weights (`args`, a Namespace or a mapping), or an empty dict."""
    args = content.get("args") if isinstance(content, Mapping) else None
    if isinstance(args, argparse.Namespace):
        return dict(vars(args))
    return {str(key): value for key, value in args.items()} if isinstance(args, Mapping) else {}


def normalise(tensors: Mapping[str, Tensor], findings: list[str]) -> dict[str, Tensor]:
    """Weight norm as `weight_g` and `weight_v`, float32 tensors on the CPU, without what is no network's.

    Appends to `findings` what was changed. The tensors of the result may share memory with the input.

    Raises:
        CheckpointError: a tensor is no plain one, two get one name, or a weight is NaN or infinite.
    """
    tensors = _one_weight_norm(tensors, findings)
    tensors = _drop_stale(tensors, findings)
    tensors = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] not in BOOKKEEPING}
    return _plain(tensors, findings)


def respelled(name: str) -> str:
    """A tensor's name in the older spelling of weight norm."""
    for theirs, ours in WEIGHT_NORM.items():
        if name.endswith("." + theirs):
            return name[: -len(theirs)] + ours
    return name


def stored_in_full(tensor: Tensor) -> bool:
    """Whether a tensor is dense, on the CPU, and every number of it is in memory: a few bytes can claim to be many."""
    dense = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    return dense and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


def _one_weight_norm(tensors: Mapping[str, Tensor], findings: list[str]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if (ours := respelled(name)) in result:
            raise CheckpointError(f"{one_line(ours)} is in the file under both spellings of weight norm")
        result[ours] = tensor
    renamed = len(result.keys() - tensors.keys())
    if renamed:
        findings.append(
            f"weight norm is spelled as parametrizations: renamed {renamed} tensors to weight_g and weight_v"
        )
    return result


def _drop_stale(tensors: dict[str, Tensor], findings: list[str]) -> dict[str, Tensor]:
    """Without `.weight` where `.weight_g` and `.weight_v` stand beside it: it is what some earlier forward left."""
    stale = [name for name in tensors if name.endswith(".weight") and name + "_g" in tensors and name + "_v" in tensors]
    if stale:
        findings.append(f"ignored {len(stale)} stale .weight tensors beside weight_g and weight_v, {stale[0]} first")
    return {name: tensor for name, tensor in tensors.items() if name not in set(stale)}


def _plain(tensors: dict[str, Tensor], findings: list[str]) -> dict[str, Tensor]:
    """Dense, finite float32 tensors that the file holds in full."""
    result: dict[str, Tensor] = {}
    dtypes = set()
    for name, tensor in tensors.items():
        short = one_line(name)
        strided = tensor.layout == torch.strided and not tensor.is_nested
        if not strided or tensor.device.type != "cpu" or not tensor.is_floating_point():
            kind = f"{tensor.layout}, {tensor.dtype}, {tensor.device.type}"
            raise CheckpointError(f"tensor {short} is not a dense tensor of floating-point numbers ({kind})")
        if not stored_in_full(tensor):
            raise CheckpointError(f"tensor {short} of shape {list(tensor.shape)} is not stored in full")
        if tensor.dtype != torch.float32:
            dtypes.add(str(tensor.dtype))
        tensor = tensor.detach().to(torch.float32).contiguous()
        if not torch.isfinite(tensor).all():
            raise CheckpointError(
                f"tensor {short} holds NaN or infinite numbers; training has diverged, so take an earlier checkpoint"
            )
        result[name] = tensor
    if dtypes:
        findings.append(f"converted {', '.join(sorted(dtypes))} tensors to float32")
    return result
