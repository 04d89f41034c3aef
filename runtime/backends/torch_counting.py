"""The products of archives, as PyTorch meets them: every operator that it dispatches is looked at."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pixelsnail_infer.errors import EngineError
from pixelsnail_infer.runtime.backends.products import Product
from pixelsnail_infer.runtime.backends.protocol import Backend, BoundGraph, Graph
from pixelsnail_infer.runtime.backends.torch_cpu import TorchBackend, TorchBoundGraph, TorchGraph
from pixelsnail_infer.runtime.files.graphfile import GraphFile

__all__ = ["TorchCounter"]

_PLACES = {"aten::mm": (0, 1), "aten::bmm": (0, 1), "aten::addmm": (1, 2), "aten::baddbmm": (1, 2)}
"""Where the operands stand among the arguments."""
_NOT_COUNTED = ("aten::convolution", "aten::mv", "aten::addmv", "aten::dot", "aten::vdot")


class TorchCounter(TorchBackend):
    """Archives on the CPU, looked at."""

    def __init__(self) -> None:
        super().__init__(1)
        self._found: dict[str, list[Product]] = {}

    def _graph(self, module: Any, file: GraphFile) -> Graph:
        return _Watched(module, file, self.threads, self._found.setdefault(str(file.part), []))

    def products(self, part: str) -> list[Product]:
        """See `ProductCounter`. An archive does not tell which operand is a weight."""
        return self._found[part]

    def repeated(self, product: Product, copies: int, engine: Backend) -> BoundGraph:
        """See `ProductCounter`."""
        assert isinstance(engine, TorchBackend)
        batch, m, k, n = product.shape
        weight = torch.full((batch, k, n), 0.01, device=engine.place)
        values = [torch.full((batch, m, k), 0.01, device=engine.place) for _ in range(copies)]

        multiply = _Products(weight)
        return TorchBoundGraph(multiply, values, multiply(*values), engine.threads, "the products")


class _Products(torch.nn.Module):
    """Each of its arguments times one weight."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, *taken: torch.Tensor) -> list[torch.Tensor]:
        return [torch.bmm(value, self.weight) for value in taken]  # type: ignore[arg-type]


class _Watched(TorchGraph):
    """A part whose run is looked at."""

    def __init__(self, module: Any, file: GraphFile, threads: int | None, found: list[Product]) -> None:
        super().__init__(module, file, threads)
        self._module = _Looked(module, found)


class _Looked(torch.nn.Module):
    """A module whose products are noted anew at every call."""

    def __init__(self, module: torch.nn.Module, found: list[Product]) -> None:
        super().__init__()
        self._held, self._found = module, found

    def forward(self, *taken: torch.Tensor) -> Any:
        self._found.clear()
        with _Looking(self._found):
            return self._held(*taken)


class _Looking(TorchDispatchMode):
    """Within it, products are noted."""

    def __init__(self, found: list[Product]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().partition(".")[0]
        if name in _NOT_COUNTED:
            raise EngineError(f"The multiplications of {name} are not counted; this archive gets no floor.")
        if places := _PLACES.get(name):
            left, right = (args[place].shape for place in places)
            self._found.append(Product(math.prod(left[:-2]), left[-2], left[-1], right[-1]))
            return func(*args, **(kwargs or {}))
        with self:  # what is made of others, such as a matmul
            made = func.decompose(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if made is NotImplemented else made
