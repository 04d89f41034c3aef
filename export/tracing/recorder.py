"""The dispatch mode that records: what is traced is fake and noted, what is constant is real and executed.

A tensor is traced by its memory: once a value that depends on pixels is written into a constant, all that shares the
constant's memory is traced from there on, though the tensors themselves stay as they were. Fake twins stand for them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from pixelsnail_infer.errors import ModelError, NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.tracing.aliases import Alias, Memory, Step, read, steps_of, write
from pixelsnail_infer.export.tracing.double import as_double
from pixelsnail_infer.export.tracing.source_lines import caller_line
from pixelsnail_infer.export.tracing.traced import InputSpec, Ref, TraceNode, Where
from pixelsnail_infer.export.tracing.writes import result

__all__ = ["Recorder"]

SHAPE_ONLY = {"zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty",
              "new_empty_strided"}
UNFILLED = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted"}
TURNS = {"squeeze_", "unsqueeze_", "transpose_", "t_", "detach_"}  # change what a tensor shows of its memory


@dataclass(frozen=True, slots=True)
class _Kept:
    """A constant among recorded arguments, by its number: its tensor is copied before the model writes into it."""

    index: int


class Recorder(TorchDispatchMode):
    """Records one forward of `module`, whose hooks say which submodule runs."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.fake_mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.shapes: dict[int, tuple[int, ...]] = {}
        self._nodes: list[TraceNode] = []
        self._values: list[torch.Tensor] = []  # strong references keep id() unique
        self._fakes: dict[int, Alias] = {}
        self._reals: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self._memories: dict[int, tuple[Any, Memory]] = {}  # of real storages; what is held keeps their keys unique
        self._twins: dict[Memory, torch.Tensor] = {}
        self._constants: list[torch.Tensor] = []
        self._held: dict[int, list[int]] = {}  # constants by storage
        self._path: list[str] = []
        for name, child in module.named_modules():
            child.register_forward_pre_hook(lambda _m, _a, name=name: self._path.append(name))
            child.register_forward_hook(self._leave)

    def _leave(self, _module: torch.nn.Module, _args: Any, _out: Any) -> None:
        self._path.pop()

    def input(self, spec: InputSpec, batch: int) -> torch.Tensor:
        """A traced value; the first one is number 0."""
        with self.fake_mode:
            tensor = torch.empty((batch, *spec.shape), dtype=spec.dtype)
        self._new(tensor, self._number(tuple(tensor.shape)))
        return tensor

    def output(self, tensor: Any) -> Ref | None:
        """What the trace calls `tensor` now, None for anything that is not traced."""
        return Ref(read(self._alias(tensor), self._record)) if isinstance(tensor, torch.Tensor) and \
            self.traced(tensor) else None

    def nodes(self) -> list[TraceNode]:
        """What was recorded, constants as they were when they were used."""
        return [TraceNode(n.op, self._filled(n.args), self._filled(n.kwargs), n.outputs, n.where) for n in self._nodes]

    def _filled(self, tree: Any) -> Any:
        if isinstance(tree, _Kept):
            return self._constants[tree.index]
        if isinstance(tree, (tuple, list)):
            return type(tree)(self._filled(item) for item in tree)
        return {key: self._filled(value) for key, value in tree.items()} if isinstance(tree, dict) else tree

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = as_double(kwargs)
        name = func._schema.name.split("::")[1]
        where = Where(self._path[-1] if self._path else "", name, caller_line(sys._getframe()))
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise ModelError(f"{where} draws random numbers: the network is not the same from call to call. Is dropout "
                             "or another random layer active, or are weights made in the forward?")
        if name in SHAPE_ONLY or not any(self.traced(t) for t in _tensors((args, kwargs))):
            return self._execute(func, name, _realise(args), kwargs, where)
        if name == "native_batch_norm" and args[5] and args[0].shape[0] == 1:  # traced batches are larger
            raise NotCausalError(f"{where} is an instance norm: it works over all positions of the canvas, later "
                                 "pixels included.")
        written = _written(func, args, kwargs)
        if torch.Tag.inplace_view in func.tags:
            return self._turn(func, name, args, kwargs, where)
        if written:
            return self._write(func, name, args, kwargs, written, where)
        out = self._run(func, args, kwargs, where)
        if any(isinstance(t, torch.Tensor) for t in _tensors((out,))):
            self._note(name, args, kwargs, out if isinstance(out, (tuple, list)) else (out,), where)
        return out

    def _execute(self, func: Any, name: str, args: Any, kwargs: Any, where: Where) -> Any:
        """Constants: what they give is one."""
        for t in _written(func, args, kwargs):
            for index in self._held.pop(t.untyped_storage()._cdata, ()):
                self._constants[index] = self._constants[index].clone()
        source = args[0] if args and isinstance(args[0], torch.Tensor) else None
        before = self._alias(source) if source is not None and torch.Tag.inplace_view in func.tags else None
        out = func(*args, **kwargs)
        if name in UNFILLED:  # whatever lies there; what the model does not fill must be the same in both records
            return out.zero_()
        if source is not None and before is not None:
            self._reals[source] = before.memory.add(source, before, Step(name[:-1], tuple(args[1:]), where))
        elif source is not None and _views(func):
            outs = [t for t in _tensors((out,)) if t is not source and _same_memory(t, source)]
            parent = self._alias(source)
            for t, step in zip(outs, steps_of(name, args, kwargs, where, len(outs)), strict=False):
                self._reals[t] = parent.memory.add(t, parent, step)
        return out

    def _run(self, func: Any, args: Any, kwargs: Any, where: Where) -> Any:
        try:
            return func(*self._fake(args), **self._fake(kwargs))
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise UnsupportedOpError(f"{where} needs the value of a pixel or condition while the network is built "
                                     "(a data-dependent branch or index); the graph must not.") from error

    def _note(self, name: str, args: Any, kwargs: Any, outs: Any, where: Where) -> None:
        """Record an operation that changes nothing, and what its results show of the memory of its operands."""
        saved = (self.value(args), self.value(kwargs))
        numbers = tuple(self._number(tuple(t.shape)) if isinstance(t, torch.Tensor) else -1 for t in outs)
        self._nodes.append(TraceNode(name, *saved, numbers, where))
        source = next((t for t in _tensors(args) if self.traced(t)), None)
        views = source is not None and isinstance(args[0], torch.Tensor) and _same_memory(outs[0], self._fake(source))
        steps = steps_of(name, args, kwargs, where, len(outs)) if views else []
        for k, (t, number) in enumerate(zip(outs, numbers, strict=True)):
            if views and source is not None:
                self._new(t, number, self._alias(source), steps[k])
            elif isinstance(t, torch.Tensor):
                self._new(t, number)

    def _turn(self, func: Any, name: str, args: Any, kwargs: Any, where: Where) -> Any:
        """A tensor that from now on shows its memory in another order."""
        target, places = args[0], _places(args[0])
        before, (step,) = self._alias(target), steps_of(name[:-1], args, kwargs, where, 1)
        self._run(func, args, kwargs, where)
        if isinstance(target, FakeTensor) and _places(target) == places:  # PyTorch's pools set strides of single ones
            step = Step("alias", (), where)
        elif name not in TURNS or not isinstance(target, FakeTensor):
            raise UnsupportedOpError(f"{where} gives a tensor another size or other memory in place; make a new one.")
        self._fakes[id(target)] = before.memory.add(target, before, step)
        return target

    def _write(self, func: Any, name: str, args: Any, kwargs: Any, written: list[torch.Tensor], where: Where) -> Any:
        if len(written) > 1:
            raise UnsupportedOpError(f"{where} writes into several tensors at once, which is not understood.")
        (target,) = written
        if not self.traced(target):
            self._track(target)
        shape, alias = target.shape, self._alias(target)
        self._run(func, args, kwargs, where)
        if target.shape != shape:
            raise UnsupportedOpError(f"{where} gives a tensor another size in place; make a new one.")
        new = result(self, name, args, kwargs, target, where)
        write(alias, new.index, where, self._record)
        return target

    def traced(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor depends on inputs: what it holds is in the trace and not in its memory."""
        if isinstance(tensor, FakeTensor):
            return True
        if not self._twins or tensor.layout != torch.strided:
            return False
        known = self._memories.get(tensor.untyped_storage()._cdata)
        return known is not None and known[1].tracked

    def value(self, tree: Any) -> Any:
        """Arguments with traced tensors replaced by references, and constants by their numbers."""
        if isinstance(tree, torch.Tensor):
            return Ref(read(self._alias(tree), self._record)) if self.traced(tree) else self._keep(tree)
        if isinstance(tree, (tuple, list)):
            return type(tree)(self.value(item) for item in tree)
        return {key: self.value(value) for key, value in tree.items()} if isinstance(tree, dict) else tree

    def emit(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any], shape: tuple[int, ...], where: Where) -> Ref:
        """Record an operation that the model did not call as such."""
        return Ref(self._record(op, args, kwargs, shape, where))

    def _record(self, op: str, args: tuple[Any, ...], kwargs: dict[str, Any], shape: tuple[int, ...], where: Where
                ) -> int:
        number = self._number(shape)
        self._nodes.append(TraceNode(op, args, kwargs, (number,), where))
        return number

    def _number(self, shape: tuple[int, ...]) -> int:
        number = len(self.shapes)
        self.shapes[number] = shape
        return number

    def _keep(self, tensor: torch.Tensor) -> _Kept:
        self._constants.append(tensor.detach())
        if tensor.layout == torch.strided:
            self._held.setdefault(tensor.untyped_storage()._cdata, []).append(len(self._constants) - 1)
        return _Kept(len(self._constants) - 1)

    def _new(self, tensor: torch.Tensor, number: int, parent: Alias | None = None, step: Step | None = None) -> None:
        memory = parent.memory if parent else Memory(tracked=True)
        self._values.append(tensor)
        self._fakes[id(tensor)] = memory.add(tensor, parent, step, number)

    def _alias(self, tensor: torch.Tensor) -> Alias:
        """What `tensor` shows of which memory. A real tensor that is new may be another name of one that is known."""
        if isinstance(tensor, FakeTensor):
            return self._fakes[id(tensor)]
        found: Alias | None = self._reals.get(tensor)
        if found is None:
            storage = tensor.untyped_storage()
            _, memory = self._memories.setdefault(storage._cdata, (StorageWeakRef(storage), Memory()))
            found = memory.like(tensor) or memory.root(tensor)
            self._reals[tensor] = found
        return found

    def _track(self, tensor: torch.Tensor) -> None:
        """From now on a constant is traced, and all that shares its memory."""
        memory = self._alias(tensor).memory
        root, storage = memory.aliases[0], tensor.untyped_storage()
        memory.tracked = True
        self._memories[storage._cdata] = (storage, memory)
        content = tensor.detach().as_strided(root.shape, root.strides, root.offset).clone()
        with self.fake_mode:
            self._twins[memory] = torch.empty_strided(root.shape, root.strides, dtype=root.dtype)
        root.number = self._record("clone", (self._keep(content),), {}, root.shape, Where("", "clone", ""))

    def _fake(self, tree: Any) -> Any:
        """Arguments with fake twins in the place of real tensors that are traced."""
        if isinstance(tree, torch.Tensor) and not isinstance(tree, FakeTensor) and self.traced(tree):
            memory = self._alias(tree).memory
            twin = self._twins[memory]
            place = tree.storage_offset() - memory.aliases[0].offset
            if place < 0 or tree.dtype != twin.dtype:
                raise UnsupportedOpError("a tensor that shares memory with one that was changed in place shows more of "
                                         "it than the recording saw. Make it in the forward, as a view of the other.")
            return twin.as_strided(tree.shape, tree.stride(), place)
        if isinstance(tree, (tuple, list)):
            return type(tree)(self._fake(item) for item in tree)
        return {key: self._fake(value) for key, value in tree.items()} if isinstance(tree, dict) else tree


def _places(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Where in its memory a tensor's elements lie."""
    strides = [step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]
    return tensor.shape, tensor.storage_offset(), strides


def _views(func: Any) -> bool:
    """Whether an operation's results show the memory of an argument."""
    return any(a.alias_info is not None and not a.alias_info.is_write for a in func._schema.arguments)


def _same_memory(a: Any, b: torch.Tensor) -> bool:
    return isinstance(a, torch.Tensor) and a.layout == b.layout == torch.strided and \
        a.untyped_storage()._cdata == b.untyped_storage()._cdata


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
