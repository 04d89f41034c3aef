"""Moving averages that lie beside a model's weights under names of their own.

CompVis' LitEma keeps them as buffers named like the parameters without their dots, under `model_ema.`; other code
copies the parameters only. Either way the buffers, such as a code book's statistics or coordinates, are the model's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from pixelsnail_infer.checkpoints.candidates import AVERAGED, Candidate
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.messages import one_line

__all__ = ["dotless_averages", "filled"]

PARAMETERS = ("weight", "bias", "weight_g", "weight_v", "original0", "original1", "V", "g", "b", "hw")
"""Last parts of the names of what is trained, in every known family."""


def dotless_averages(
    model: Candidate, found: Iterable[Candidate], names: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """For each prefix in the model's dictionary under which averages without dots lie, these by the model's names.

    `names` are all tensors of that dictionary; what lies under the prefix of one of `found` is a whole model.
    """
    models = {one.prefix for one in found if one.keys == model.keys}
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in names.items():
        prefix, _, rest = name.rpartition(".")
        if AVERAGED.search(prefix.rpartition(".")[2]) and f"{prefix}." not in models:
            groups.setdefault(prefix + ".", {})[rest] = tensor
    steps = model.prefix.split(".")[:-1]
    # The averaged module is the model, or one of those around it, whose attributes then come first.
    spellings = [{"".join(steps[start:]) + name.replace(".", ""): name for name in model.tensors}
                 for start in range(len(steps), -1, -1)]
    result = {}
    for prefix, group in groups.items():
        for flat in spellings:
            matched = {flat[name]: tensor for name, tensor in group.items() if name in flat}
            if matched and len(flat) == len(model.tensors):
                result[prefix] = matched
                break
    return result


def filled(averages: Mapping[str, Tensor], model: Candidate, findings: list[str]) -> dict[str, Tensor]:
    """The averages, and the model's own buffers where there is none. Raises CheckpointError for a missing parameter."""
    own = [name for name in model.tensors if name not in averages]
    trained = [name for name in own if name.rpartition(".")[2] in PARAMETERS and f"{name}_g" not in model.tensors]
    if trained:
        raise CheckpointError(f"the averages lack {len(trained)} parameters, {one_line(trained[0])} first: not "
                              "complete; leave --ema out")
    for name, tensor in averages.items():
        if name not in model.tensors:
            raise CheckpointError(f"the averages have {one_line(name)} in addition to the weights; leave --ema out")
        if tensor.shape != model.tensors[name].shape:
            raise CheckpointError(f"the average of {one_line(name)} has shape {list(tensor.shape)}; "
                                  f"{list(model.tensors[name].shape)} is expected; leave --ema out")
    if own:
        findings.append(f"{len(own)} tensors have no averages and are taken from the weights, {one_line(own[0])} first")
    return {name: averages.get(name, tensor) for name, tensor in model.tensors.items()}
