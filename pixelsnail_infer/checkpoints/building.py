"""From a configuration and a file's tensors to a network, for the families besides the VQ priors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.messages import one_line

__all__ = ["build", "size"]

Network = TypeVar("Network", bound=nn.Module)
COUNTERS = "num_batches_tracked"  # batch norm's own; nothing is computed from them in eval mode
LAYOUTS = {2: "[out, in]", 4: "[out, in, height, width]"}


def build(
    make: Callable[[], Network], tensors: Mapping[str, Tensor], *, what: str, norms: tuple[str, str] | None = None
) -> Network:
    """The network that `make` makes, in eval mode and without gradients, with `tensors` as its parameters and buffers.

    They must fit exactly; buffers that the network does not save are its own. `what` names the family in messages;
    `norms` are the last parts of the names of a weight-normed layer's direction and length. The result shares memory
    with `tensors`.

    Raises:
        CheckpointError: a tensor is missing, in addition, or of another shape, or a direction has the norm 0.
    """
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}
    state: dict[str, Tensor] = {}
    for name, shape in expected.items():
        if name.rpartition(".")[2] == COUNTERS:
            state[name] = torch.zeros((), dtype=torch.int64)
        elif name not in tensors:
            raise CheckpointError(f"{what} without {name}, which should have shape {list(shape)}: not complete")
        elif tuple(tensors[name].shape) != shape:
            found = list(tensors[name].shape)
            raise CheckpointError(f"{what} in which {name} has shape {found}; {list(shape)} is expected")
        else:
            state[name] = tensors[name]
    for name, tensor in tensors.items():
        if name not in expected:
            raise CheckpointError(
                f"{what} with {one_line(name)} {list(tensor.shape)} in addition, which no supported variant has"
            )
    if norms is not None:
        _check_norms(state, *norms)
    module = make()
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)


def _check_norms(state: Mapping[str, Tensor], direction: str, length: str) -> None:
    """Raise a CheckpointError for a direction whose norm is 0 or overflows."""
    for name, tensor in state.items():
        if name.rpartition(".")[2] == direction and f"{name[: -len(direction)]}{length}" in state:
            norm = tensor.flatten(1).norm(dim=1)
            if not (torch.isfinite(norm) & (norm > 0)).all():
                raise CheckpointError(f"{name} has a row whose norm is 0 or infinite: the model gives NaN")


def size(tensors: Mapping[str, Tensor], name: str, axis: int, dimensions: int = 4) -> int:
    """One size of a tensor that must be there with so many dimensions. Raises CheckpointError."""
    if name not in tensors or tensors[name].dim() != dimensions:
        found = "missing" if name not in tensors else f"of shape {list(tensors[name].shape)}"
        raise CheckpointError(f"{name} is {found}; a tensor {LAYOUTS.get(dimensions, '[out]')} is expected there")
    if tensors[name].shape[axis] < 1:
        raise CheckpointError(f"{name} of shape {list(tensors[name].shape)} is empty")
    return tensors[name].shape[axis]
