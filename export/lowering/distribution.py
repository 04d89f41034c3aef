"""Operations on sequences, part by part: on the tokens in front, and on those on the canvas.

Every handler knows views alone. What treats every token alike is done to both parts; a product over tokens is a sum of
two, and a softmax over keys one over those of both parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from pixelsnail_infer.errors import NotCausalError, UnsupportedOpError
from pixelsnail_infer.export.evaluation.weights import FILL, Block, attention_nodes
from pixelsnail_infer.export.fields import topological
from pixelsnail_infer.export.lowering.elementwise import elementwise, without_nan
from pixelsnail_infer.export.lowering.positionwise import positionwise
from pixelsnail_infer.export.lowering.state import Lowering
from pixelsnail_infer.export.lowering.tokens import KEYS, POSITIONS, Part, Tokens, first
from pixelsnail_infer.export.lowering.views import View, filled
from pixelsnail_infer.export.tracing.traced import BatchInt, TraceNode, Where

__all__ = ["apply"]

Handler = Callable[[Lowering, TraceNode], Any]
WEIGHED = ("mm", "bmm", "addmm", "convolution", "embedding", "native_layer_norm", "native_group_norm",
           "native_batch_norm", "_native_batch_norm_legit_no_training")  # with constants that no token has a part of
PRODUCTS = ("bmm", "mm")
SOFTMAXES = ("_softmax", "_safe_softmax")


def apply(state: Lowering, item: TraceNode, handler: Handler) -> Any:
    """What `handler` makes of an operation, any of whose arguments may be sequences."""
    args = state.get(item.args)
    tokens = first(args)
    if tokens is None:
        return handler(state, item)
    item = replace(item, args=args)
    if item.op in ("view", "_unsafe_view", "reshape"):
        return _reshaped(state, item, handler, tokens)
    if item.op == "expand":
        return _expanded(state, item, handler, tokens)
    if item.op == "baddbmm":
        return _added(state, item, handler)
    if item.op in PRODUCTS and isinstance(args[1], Tokens):
        return _product(state, item, handler)
    if item.op in SOFTMAXES and tokens.kind == KEYS and _dimension(item.args[1], tokens) == tokens.axis:
        return _softmax(state, item, handler, tokens)
    if any(_dimension(axis, tokens) == tokens.axis for axis in _along(item)):
        return handler(state, item)
    return _each(state, item, handler, tokens)


def _dimension(axis: int, tokens: Tokens) -> int:
    """A dimension counted from the last one."""
    return axis if axis < 0 else axis - len(tokens.dims)


def _along(item: TraceNode) -> list[int]:
    """The dimensions that an operation cuts, pads or joins."""
    if item.op in ("cat", "slice", "unbind", "select"):
        return [item.args[1] if len(item.args) > 1 else 0]
    if item.op in ("split", "split_with_sizes", "chunk"):
        return [item.args[2] if len(item.args) > 2 else item.kwargs.get("dim", 0)]
    if item.op in ("slice_scatter", "select_scatter"):
        return [item.args[2]]
    if item.op == "constant_pad_nd":
        return [-1 - k // 2 for k, amount in enumerate(item.args[1]) if amount]
    return []


def _each(state: Lowering, item: TraceNode, handler: Handler, tokens: Tokens,
          given: Callable[[str, int], tuple[Any, ...]] | None = None) -> Any:
    """The operation on each part; `given(part, size)` are its arguments."""
    results = {}
    for name, size in tokens.sizes():
        args = given(name, size) if given else _arguments(item.args, tokens, name, item.op not in WEIGHED)
        results[name] = apply(state, replace(item, args=args), handler)
    return _together(results.get("front"), results["canvas"], tokens, item.where)


def _arguments(tree: Any, tokens: Tokens, name: str, cut: bool) -> Any:
    """Arguments for one part: of sequences that part, of constants that vary over the tokens the same ones."""
    if isinstance(tree, Tokens) and tree.kind == tokens.kind:
        if tree.count != tokens.count:
            raise UnsupportedOpError(f"sequences of {tree.count} and {tokens.count} tokens meet, which is not "
                                     "understood.")
        return getattr(tree, name)
    if isinstance(tree, torch.Tensor) and cut:
        return _cut(tree, tokens, name)
    if isinstance(tree, (list, tuple)):
        return [_arguments(item, tokens, name, cut) for item in tree]
    return tree


def _cut(constant: torch.Tensor, tokens: Tokens, name: str) -> torch.Tensor:
    axis, outside = tokens.axis, tokens.count - tokens.inside
    if constant.ndim < -axis or constant.shape[axis] != tokens.count:
        return constant
    if outside < 0:
        nothing = constant.new_zeros([-outside if k == constant.ndim + axis else n
                                      for k, n in enumerate(constant.shape)])
        return torch.cat([nothing, constant], axis)
    return constant.narrow(axis, *((0, outside) if name == "front" else (outside, tokens.inside)))


def _together(front: Any, canvas: Any, tokens: Tokens, where: Where) -> Any:
    """The results of both parts as results of sequences."""
    if isinstance(canvas, (list, tuple)):
        fronts = front if front is not None else [None] * len(canvas)
        return [_together(one, other, tokens, where) for one, other in zip(fronts, canvas, strict=True)]
    if canvas is None:
        return None
    result = Tokens(tokens.kind, tokens.count, front, canvas, tokens.hidden)
    if not isinstance(canvas, (View, Tokens)) or result.inside != tokens.inside:
        raise UnsupportedOpError(f"{where} works over the tokens of a sequence, which is not understood.")
    return result


def _reshaped(state: Lowering, item: TraceNode, handler: Handler, tokens: Tokens) -> Any:
    """Every part in its own sizes; all tokens stay in one dimension."""
    atoms = [atom for dim in tokens.dims for atom in dim]
    target = filled(atoms, list(item.args[1]), item.where)
    before = math.prod(a.size for a in atoms[:atoms.index(tokens.token)] if a.kind != "b")
    done, place = 1, None
    for number, size in enumerate(target):
        want = size.factor if isinstance(size, BatchInt) else size
        if before % done == 0 and done * want % (before * tokens.count) == 0:
            place = number
            break
        done *= want
    if place is None:
        raise UnsupportedOpError(f"{item.where}: a reshape to {target} that cuts a sequence of {tokens.count} tokens "
                                 "is not understood.")
    found = target[place]

    def given(name: str, size: int) -> tuple[Any, ...]:
        sized = BatchInt(found.factor // tokens.count * size) if isinstance(found, BatchInt) else \
            found // tokens.count * size
        return getattr(tokens, name), [*target[:place], sized, *target[place + 1:]]

    return _each(state, item, handler, tokens, given)


def _expanded(state: Lowering, item: TraceNode, handler: Handler, tokens: Tokens) -> Any:
    sizes = list(item.args[1])
    sizes[tokens.axis] = -1
    return _each(state, item, handler, tokens, lambda name, _: (getattr(tokens, name), sizes))


def _added(state: Lowering, item: TraceNode, handler: Handler) -> Any:
    """A product and what is added to it."""
    extra, a, b = item.args[:3]
    if any(item.kwargs.get(k, 1) != 1 for k in ("alpha", "beta")):
        raise UnsupportedOpError(f"{item.where} of a sequence with alpha or beta is not understood.")
    zero = torch.zeros((), dtype=torch.float64)
    product = apply(state, TraceNode("bmm", (a, b), {}, item.outputs, item.where),
                    lambda s, one: handler(s, replace(one, args=(zero, *one.args), kwargs={"beta": 0})))
    return apply(state, TraceNode("add", (product, extra), {}, item.outputs, item.where),
                 lambda s, one: elementwise("add", list(one.args), item.where))


def _product(state: Lowering, item: TraceNode, handler: Handler) -> Any:
    """`a [.., i, k] @ b [.., k, j]`, of which at least b is a sequence."""
    a, b = item.args[:2]
    for side, (one, axis) in enumerate(((a, -2), (b, -1))):
        if isinstance(one, Tokens) and one.axis == axis:
            parts = {name: apply(state, replace(item, args=(part, b) if side == 0 else (a, part)), handler)
                     for name, _ in one.sizes() for part in [getattr(one, name)]}
            return Tokens(_kind(parts["canvas"], axis), one.count, parts.get("front"), parts["canvas"])
    if isinstance(a, Tokens) and isinstance(b, Tokens) and (a.axis, b.axis, a.count) == (-1, -2, b.count):
        if a.front is None:
            raise UnsupportedOpError(f"{item.where}: attention over a sequence that is shorter than the canvas.")
        total = apply(state, replace(item, args=(a.front, b.front)), handler)
        if a.hidden:
            return total
        other = apply(state, replace(item, args=(a.canvas, b.canvas)), handler)
        return elementwise("add", [total, other], item.where)
    raise UnsupportedOpError(f"{item.where}: a product over the tokens of a sequence that is not attention.")


def _kind(part: Part, axis: int) -> str:
    """What the tokens of a product are, positions or keys."""
    kinds = {a.kind for a in part.dims[axis] if a.size > 1}
    return KEYS if kinds & set(KEYS) else POSITIONS


def _softmax(state: Lowering, item: TraceNode, handler: Handler, tokens: Tokens) -> Tokens:
    """Over the keys of both parts."""
    front, canvas = tokens.front, tokens.canvas
    if not isinstance(front, View) or not isinstance(canvas, View):
        raise UnsupportedOpError(f"{item.where}: attention over a sequence that is shorter than the canvas.")
    if not front.node.pixel:
        _refuse_seen(canvas, item.where)
        return replace(tokens, front=handler(state, replace(item, args=(front, *item.args[1:]))), hidden=True)
    if front.node.channels != canvas.node.channels:
        raise UnsupportedOpError(f"{item.where}: scores of {front.node.channels} and {canvas.node.channels} meet.")
    shares = [positionwise("key_softmax", [front, canvas], one.node.channels, one.dims, item.where,
                           attrs={"share": number}, keys=one.node.keys) for number, one in enumerate((front, canvas))]
    shares = [without_nan(share, item.where) if "safe" in item.op else share for share in shares]
    return replace(tokens, front=shares[0], canvas=shares[1])


def _refuse_seen(scores: View, where: Where) -> None:
    """Scores of tokens in front for the pixels must all be masked."""
    order = topological([scores.node])
    rows, keys = (math.prod(size) for size in (scores.node.frame or (), scores.node.keys or ()))
    found = Block(attention_nodes(order), slice(0, rows), keys).of(scores.node)
    seen = (found.live | (found.value > FILL)).reshape(rows, -1, found.live.shape[-1]).any(1).expand(rows, keys)
    if not bool(seen.any()):
        return
    token, pixel = seen.nonzero()[-1].tolist()
    mask = f"{where}: the attention mask lets token {token} in front of the pixels see"
    if pixel == 0:  # which is the start or the last condition
        raise UnsupportedOpError(f"{mask} the token at which the first pixel is predicted, which is not understood; "
                                 "put a further token, such as a learned start, behind those that see each other.")
    raise NotCausalError(f"{mask} pixel {pixel - 1} (in raster order), and with it every prediction that reads this "
                         "token. No exact incremental step exists for such a model.")
