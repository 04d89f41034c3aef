"""Record the ATen operations that one eval-mode forward dispatches.

What depends on pixels or conditions is traced with fake tensors (shapes only); everything else is real and is executed,
which folds weight norm, masks and coordinates into constants. The forward runs at two batch sizes; integers that grow
with the batch become `BatchInt`, and constants that were expanded along it shrink to one. `torch.export` is not used:
it fails on modules that write to `.data` or cache masks, and a failed export leaves fake tensors in their caches.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from pixelsnail_infer.errors import ModelError, NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.tracing.double import as_double, double_default
from pixelsnail_infer.export.tracing.fresh import fresh_copy
from pixelsnail_infer.export.tracing.source_lines import caller_line
from pixelsnail_infer.export.tracing.traced import BatchInt, InputSpec, Ref, Trace, TraceNode, Where

__all__ = ["BatchInt", "InputSpec", "Ref", "Trace", "TraceNode", "Where", "trace_model"]

BATCHES = (2, 3)
EQUAL = 1e-12  # constants of a batch may differ in their last bits, as kernels round
SHAPE_ONLY = {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty"}


def trace_model(module: torch.nn.Module, forward: Callable[..., torch.Tensor], inputs: tuple[InputSpec, ...]) -> Trace:
    """Trace `forward(module, *inputs)` on a copy of `module`, in eval mode, and return the unified record.

    Raises `UnsupportedOpError` for operations that cannot be recorded, `ModelError` where the module's behaviour
    depends on the batch size or changes from call to call, and `NotCausalError` for instance norms.
    """
    records = [_record(module, forward, inputs, batch) for batch in BATCHES]
    return _unify(inputs, *records)


class _Recorder(TorchDispatchMode):
    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fake_mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.nodes: list[TraceNode] = []
        self.values: list[torch.Tensor] = []  # strong references keep id() unique
        self.numbers: dict[int, int] = {}
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.count = 0
        self.stale: dict[int, Where] = {}
        self.aliases: dict[int, list[torch.Tensor]] = {}
        self.path: list[str] = []
        self._hook(module)

    def _hook(self, module: torch.nn.Module) -> None:
        for name, child in module.named_modules():
            child.register_forward_pre_hook(lambda _m, _a, name=name: self.path.append(name))
            child.register_forward_hook(self._leave)

    def _leave(self, _module: torch.nn.Module, _args: Any, _out: Any) -> None:
        self.path.pop()

    def input(self, spec: InputSpec, batch: int) -> torch.Tensor:
        with self.fake_mode:
            tensor = torch.empty((batch, *spec.shape), dtype=spec.dtype)
        self._number(tensor)
        return tensor

    def _number(self, tensor: torch.Tensor) -> int:
        number = self.count
        self.count += 1
        self.values.append(tensor)
        self.numbers[id(tensor)] = number
        self.shapes[number] = tuple(tensor.shape)
        self.aliases.setdefault(tensor.untyped_storage()._cdata, []).append(tensor)
        return number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = as_double(kwargs)
        tensors = list(_tensors((args, kwargs)))
        name = func._schema.name.split("::")[1]
        where = Where(self.path[-1] if self.path else "", name, caller_line(sys._getframe()))
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise ModelError(f"{where} draws random numbers: the network is not the same from call to call. Is dropout "
                             "or another random layer active, or are weights made in the forward?")
        if not any(isinstance(t, FakeTensor) for t in tensors):
            return func(*args, **kwargs)
        if name == "native_batch_norm" and args[5] and args[0].shape[0] == 1:  # traced batches are larger
            raise NotCausalError(f"{where} is an instance norm: it works over all positions of the canvas, later "
                                 "pixels included.")
        if name in SHAPE_ONLY:
            return func(*_realise(args), **kwargs)
        written = _written(func, args, kwargs)
        if any(not isinstance(t, FakeTensor) for t in written):
            raise UnsupportedOpError(
                f"{where} writes a value that depends on the pixels into a constant tensor; the trace cannot follow "
                "that. Build the value functionally, for instance with torch.nn.functional.one_hot or torch.where.")
        for t in tensors:
            if id(t) in self.stale:
                raise UnsupportedOpError(f"{where} reads a view that {self.stale[id(t)]} changed in place. "
                                         "Write the assignment without in-place views.")
        out = self._run(func, args, kwargs, where)
        self._write(name, args, kwargs, out, written, where)
        return out

    def _run(self, func: Any, args: Any, kwargs: Any, where: Where) -> Any:
        try:
            return func(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise UnsupportedOpError(f"{where} needs the value of a pixel or condition while the network is built "
                                     "(a data-dependent branch or index); the graph must not.") from error

    def _write(self, name: str, args: Any, kwargs: Any, out: Any, written: list[torch.Tensor], where: Where) -> None:
        saved = (_saved(args, self.numbers), _saved(kwargs, self.numbers))
        outs = out if isinstance(out, (tuple, list)) else (out,)
        for t in written:
            for other in self.aliases.get(t.untyped_storage()._cdata, []):
                if other is not t:
                    self.stale[id(other)] = where
        if not any(isinstance(t, torch.Tensor) for t in outs):
            return
        op = name[:-1] if written and name.endswith("_") else name
        numbers = tuple(self._number(t) if isinstance(t, torch.Tensor) else -1 for t in outs)
        self.nodes.append(TraceNode(op, saved[0], saved[1], numbers, where))


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
            batch: int) -> tuple[_Recorder, Ref]:
    module = fresh_copy(module)
    recorder = _Recorder(module)
    values = [recorder.input(spec, batch) for spec in inputs]
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), _no_fused_attention(), double_default(), recorder:
        out = forward(module, *values)
    if not isinstance(out, torch.Tensor) or id(out) not in recorder.numbers:
        raise ModelError("the network's output does not depend on its pixels: the forward returned "
                         f"{type(out).__name__}. Give forward= a function that returns the logits tensor.")
    return recorder, Ref(recorder.numbers[id(out)])


def _unify(inputs: tuple[InputSpec, ...], first: tuple[_Recorder, Ref], second: tuple[_Recorder, Ref]) -> Trace:
    (a, out), (b, other) = first, second
    ops = [n.op for n in a.nodes], [n.op for n in b.nodes]
    if ops[0] != ops[1] or out != other:
        raise ModelError("the network runs different operations at batch sizes 2 and 3; it cannot be traced.")
    nodes = [TraceNode(n.op, _merge(n.args, m.args, n.where), _merge(n.kwargs, m.kwargs, n.where), n.outputs, n.where)
             for n, m in zip(a.nodes, b.nodes, strict=True)]
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


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for item in tree:
            yield from _tensors(item)
    elif isinstance(tree, dict):
        yield from _tensors(tuple(tree.values()))


def _realise(args: Any) -> Any:
    """Stand-ins of the same shape for `zeros_like` and its kin, which read a tensor's shape only."""
    return tuple(torch.empty(a.shape, dtype=a.dtype) if isinstance(a, FakeTensor) else a for a in args)


def _written(func: Any, args: Any, kwargs: Any) -> list[torch.Tensor]:
    written = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[position] if position < len(args) else kwargs.get(argument.name)
            written += list(_tensors(value))
    return written


def _saved(tree: Any, numbers: dict[int, int]) -> Any:
    if isinstance(tree, torch.Tensor):
        return Ref(numbers[id(tree)]) if id(tree) in numbers else tree.detach()
    if isinstance(tree, (tuple, list)):
        return type(tree)(_saved(item, numbers) for item in tree)
    if isinstance(tree, dict):
        return {key: _saved(value, numbers) for key, value in tree.items()}
    return tree
