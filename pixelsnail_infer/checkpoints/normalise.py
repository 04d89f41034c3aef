"""One spelling for the many ways in which the same state dict is saved."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import torch
from torch import Tensor

from pixelsnail_infer.checkpoints.reading import one_line
from pixelsnail_infer.errors import CheckpointError

__all__ = ["find_args", "normalise", "unwrap"]

WRAPPERS = ("model", "state_dict", "model_state_dict")
# Batch norm's count of batches, and pixel_models' causal mask: whole numbers from which no network here computes.
BOOKKEEPING = ("num_batches_tracked", "attn_mask")
PREFIXES = ("module.", "model.", "_orig_mod.")
WEIGHT_NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


def unwrap(content: object, findings: list[str]) -> Mapping[object, object]:
    """The innermost mapping under the known wrappers. Appends to `findings`. Raises CheckpointError."""
    while isinstance(content, Mapping):
        inside = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inside:
            return content
        if len(inside) > 1:
            findings.append(f"the file holds {' and '.join(inside)}; took '{inside[0]}'")
        content = content[inside[0]]
    raise CheckpointError(
        f"the file holds a {type(content).__name__}; expected a state dict (names to tensors), bare or under "
        f"{', '.join(WRAPPERS)}"
    )


def find_args(content: object) -> dict[str, object]:
    """The training arguments beside the weights (`args`, a Namespace or a mapping), or an empty dict."""
    args = content.get("args") if isinstance(content, Mapping) else None
    if isinstance(args, argparse.Namespace):
        return dict(vars(args))
    return {str(key): value for key, value in args.items()} if isinstance(args, Mapping) else {}


def normalise(state: Mapping[object, object], findings: list[str]) -> dict[str, Tensor]:
    """Names without prefixes, weight norm as `weight_g` and `weight_v`, float32 tensors on the CPU.

    Appends to `findings` what was changed. The tensors of the result may share memory with the input.

    Raises:
        CheckpointError: an entry is not a plain tensor, two entries get one name, or a weight is NaN or infinite.
    """
    tensors: dict[str, Tensor] = {}
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"entry {one_line(repr(key), 80)} is a {type(value).__name__}; a state dict has names and tensors only"
            )
        tensors[key] = value
    tensors = _strip_prefixes(tensors, findings)
    tensors = _one_weight_norm(tensors, findings)
    tensors = _drop_stale(tensors, findings)
    tensors = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[2] not in BOOKKEEPING}
    return _plain(tensors, findings)


def _strip_prefixes(tensors: dict[str, Tensor], findings: list[str]) -> dict[str, Tensor]:
    """Take away prefixes that every name has."""
    while tensors:
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
        findings.append(f"took the prefix '{prefix}' off every name")
    return tensors


def _one_weight_norm(tensors: dict[str, Tensor], findings: list[str]) -> dict[str, Tensor]:
    result: dict[str, Tensor] = {}
    renamed = 0
    for name, tensor in tensors.items():
        for theirs, ours in WEIGHT_NORM.items():
            if name.endswith("." + theirs):
                name = name[: -len(theirs)] + ours
                renamed += 1
                break
        if name in result:
            raise CheckpointError(f"{one_line(name)} is in the file under both spellings of weight norm")
        result[name] = tensor
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
        if tensor.layout != torch.strided or tensor.device.type != "cpu" or not tensor.is_floating_point():
            kind = f"{tensor.layout}, {tensor.dtype}, {tensor.device.type}"
            raise CheckpointError(f"tensor {short} is not a dense tensor of floating-point numbers ({kind})")
        if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
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
