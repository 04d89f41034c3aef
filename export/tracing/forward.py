"""How a network is called: pixels and conditions in, logits out, and errors of its own code with their line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pixelsnail_infer.errors import ModelError, PixelsnailError
from pixelsnail_infer.export.tracing.source_lines import error_line
from pixelsnail_infer.messages import one_line

__all__ = ["Forward", "ForwardFunction"]

ForwardFunction = Callable[[nn.Module, Tensor, dict[str, Tensor]], Any]
ADVICE = "give forward= a function that returns the logits tensor, or wrap the network in a module that does."


class Forward:
    """Calls `function(module, pixels, conditions)`, by default `module(pixels, **conditions)`.

    Of a tuple or list the first element is taken, which `picked` then says. Whatever the function raises becomes a
    `ModelError` with the line of the code that raised it. What it writes into its inputs, it writes into copies.
    """

    def __init__(self, function: ForwardFunction | None = None) -> None:
        self._function = function or _plain
        self.default = function is None
        self.picked: str | None = None

    def check_names(self, module: nn.Module, names: Sequence[str]) -> None:
        """Raise `ModelError` where the module's own forward takes no such conditions, or needs others."""
        if not self.default:
            return
        try:
            signature = inspect.signature(module.forward)
        except ValueError:  # it has none to be seen
            return
        try:
            signature.bind(None, **dict.fromkeys(names))
        except TypeError as error:
            given = f"the conditions {', '.join(names)} by name" if names else "no conditions"
            raise ModelError(f"{type(module).__name__}.forward{signature} cannot be called with pixels and {given}: "
                             f"{error}. Declare its conditions under the names of its arguments.") from error

    def __call__(self, module: nn.Module, pixels: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        try:
            out = self._function(module, pixels.clone(), {name: value.clone() for name, value in conditions.items()})
        except PixelsnailError:
            raise
        except Exception as error:  # the user's code may raise anything
            line = error_line(error)
            what = f"{type(error).__name__}: {one_line(error, 300).rstrip('.')}"
            raise ModelError(f"the model's forward fails{f' at {line}' if line else ''}: {what}") from error
        if isinstance(out, (tuple, list)) and out and isinstance(out[0], Tensor):
            kind = "tuple" if isinstance(out, tuple) else "list"
            self.picked = f"the forward returns a {kind} of {len(out)}: its first element is taken as the logits"
            out = out[0]
        if not isinstance(out, torch.Tensor):
            held = f" with the keys {', '.join(map(str, out))}" if isinstance(out, Mapping) else ""
            raise ModelError(f"the model's forward returns a {type(out).__name__}{held}, expected a tensor: {ADVICE}")
        return out


def _plain(module: nn.Module, pixels: Tensor, conditions: dict[str, Tensor]) -> Any:
    return module(pixels, **conditions)
