"""Record the ATen operations that one eval-mode forward dispatches.

What depends on pixels or conditions is traced with fake tensors (shapes only); everything else is real and is executed,
which folds weight norm, masks and coordinates into constants. The forward runs at two batch sizes; integers that grow
with the batch become `BatchInt`, and constants that were expanded along it shrink to one. `torch.export` is not used:
it fails on modules that write to `.data` or cache masks, and a failed export leaves fake tensors in their caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.tracing.double import double_default
from pixelsnail_infer.export.tracing.fresh import fresh_copy
from pixelsnail_infer.export.tracing.recorder import Recorder
from pixelsnail_infer.export.tracing.traced import BatchInt, InputSpec, Ref, Trace, TraceNode, Where

__all__ = ["BatchInt", "InputSpec", "Ref", "Trace", "TraceNode", "Where", "trace_model"]

BATCHES = (2, 3)
EQUAL = 1e-12  # constants of a batch may differ in their last bits, as kernels round


def trace_model(module: torch.nn.Module, forward: Callable[..., torch.Tensor], inputs: tuple[InputSpec, ...]) -> Trace:
    """Trace `forward(module, *inputs)` on a copy of `module`, in eval mode, and return the unified record.

    Raises `UnsupportedOpError` for operations that cannot be recorded, `ModelError` where the module's behaviour
    depends on the batch size or changes from call to call, and `NotCausalError` for instance norms.
    """
    records = [_record(module, forward, inputs, batch) for batch in BATCHES]
    return _unify(inputs, *records)


@contextmanager
def _no_fused_attention() -> Iterator[None]:
    """nn.MultiheadAttention takes its ordinary path, not one fused operation."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _record(module: torch.nn.Module, forward: Callable[..., torch.Tensor], inputs: tuple[InputSpec, ...],
            batch: int) -> tuple[Recorder, Ref]:
    module = fresh_copy(module)
    recorder = Recorder(module)
    values = [recorder.input(spec, batch) for spec in inputs]
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _no_fused_attention(), double_default(), recorder:
        out = forward(module, *values)
        found = recorder.output(out)
    if found is None:
        raise ModelError("the network's output does not depend on its pixels: the forward returned "
                         f"{type(out).__name__}. Give forward= a function that returns the logits tensor.")
    return recorder, found


def _unify(inputs: tuple[InputSpec, ...], first: tuple[Recorder, Ref], second: tuple[Recorder, Ref]) -> Trace:
    (a, out), (b, other) = first, second
    mine, others = a.nodes(), b.nodes()
    ops = [n.op for n in mine], [n.op for n in others]
    if ops[0] != ops[1] or out != other:
        raise ModelError("the network runs different operations at batch sizes 2 and 3; it cannot be traced.")
    nodes = [TraceNode(n.op, _merge(n.args, m.args, n.where), _merge(n.kwargs, m.kwargs, n.where), n.outputs, n.where)
             for n, m in zip(mine, others, strict=True)]
    shapes = {k: tuple(_merge_int(x, y) for x, y in zip(s, b.shapes[k], strict=True)) for k, s in a.shapes.items()}
    return Trace(inputs, nodes, out, shapes)


def _merge(x: Any, y: Any, where: Where) -> Any:
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
        return _merge_tensor(x, y, where)
    if isinstance(x, (tuple, list)):
        return type(x)(_merge(u, v, where) for u, v in zip(x, y, strict=True))
    if isinstance(x, dict):
        return {k: _merge(v, y[k], where) for k, v in x.items()}
    if isinstance(x, int) and not isinstance(x, bool):
        return _merge_int(x, y)
    if x != y:
        raise ModelError(f"{where} depends on the batch size ({x} at batch 2, {y} at batch 3); it cannot be traced.")
    return x


def _merge_int(x: int, y: int) -> int | BatchInt:
    if x == y:
        return x
    if x * BATCHES[1] == y * BATCHES[0]:
        return BatchInt(x // BATCHES[0])
    raise ModelError(f"a size is {x} at batch 2 and {y} at batch 3; it does not scale with the batch.")


def _merge_tensor(x: torch.Tensor, y: torch.Tensor, where: Where) -> torch.Tensor:
    if x.shape != y.shape:
        for axis, (m, n) in enumerate(zip(x.shape, y.shape, strict=True)):
            if m != n:
                each = m // BATCHES[0]  # more than one where the batch and other axes were made one
                u, v = x.narrow(axis, 0, each), y.narrow(axis, 0, each)
                if any(k * each != size or not torch.allclose(torch.cat([part] * k, axis), whole, EQUAL, EQUAL, True)
                       for k, size, part, whole in zip(BATCHES, (m, n), (u, v), (x, y), strict=True)):
                    raise ModelError(f"{where} uses a constant that differs along the batch; it cannot be traced.")
                x, y = u, v
    if x is not y and not torch.equal(x, y) and not torch.allclose(x, y, EQUAL, EQUAL, True):
        raise ModelError(f"{where} uses a constant that changes from call to call. Is dropout or another random "
                         "layer active in eval mode?")
    return x
