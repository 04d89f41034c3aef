"""Which programs an archive may hold: functions that compute with tensors, and nothing that runs when it is loaded.

TorchScript is written like Python, so Python's own parser reads it. What is not listed here is refused, whatever it is:
operators that read or write files, `__setstate__`, defaults (which are evaluated at loading), classes from outside.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping

__all__ = ["CODEC_OPERATORS", "DENOISER_OPERATORS", "KINDS", "OPERATORS", "check_code"]

OPERATORS = frozenset({
    "abs", "add", "addmm", "amax", "append", "arange", "argmax", "bmm", "broadcast_to", "cat", "clamp", "clone",
    "constant_pad_nd", "contiguous", "conv2d", "cumsum", "dim", "div", "elu", "eq", "exp", "expand",
    "fake_quantize_per_tensor_affine", "gather", "ge", "gelu", "gt", "index_copy_", "index_select", "isnan", "le",
    "leaky_relu", "len", "linear", "list", "log", "log_softmax", "logical_and", "logical_not", "logical_or", "lt",
    "matmul", "maximum", "mean", "minimum", "mul", "narrow", "neg", "permute", "pow", "reciprocal", "relu",
    "remainder", "reshape", "round", "select", "sigmoid", "size", "slice", "softmax", "softplus", "sort",
    "split_with_sizes", "sqrt", "squeeze", "stack", "sub", "sum", "tanh", "to", "transpose", "unsqueeze", "view",
    "where", "zeros_like",
})  # fmt: skip
"""Of `torch`: what the exporter's spellings become."""

CODEC_OPERATORS = frozenset({
    "argmin", "avg_pool2d", "conv_transpose2d", "embedding", "group_norm", "pad", "upsample_nearest2d",
})  # fmt: skip
"""Of `torch`: what decoders and encoders use besides."""

DENOISER_OPERATORS = frozenset({"conv1d", "cos", "silu", "sin", "split", "unbind", "upsample_bilinear2d"})
"""Of `torch`: what denoisers use besides."""

_ALL = OPERATORS | CODEC_OPERATORS | DENOISER_OPERATORS
_LISTS = {"__contains__", "__getitem__", "__range_length"}  # what the language itself becomes
_BLOCKS = {"Constant", "GetAttr", "If", "ListConstruct", "ListUnpack", "Loop", "TupleConstruct", "TupleUnpack",
           "device", "is_cuda"}  # fmt: skip
KINDS = frozenset({f"aten::{name}" for name in _ALL | _LISTS}
                  | {f"prim::{name}" for name in _BLOCKS})  # fmt: skip
"""The nodes that such programs are made of, as PyTorch names them."""

_ASKED = {"ops.prim.device", "ops.prim.is_cuda"}  # of a tensor
_WORDS = {"range", "annotate"}  # of the language
_TYPES = {"Tensor", "Tuple", "List", "Dict", "Optional", "int", "float", "bool", "str", "Module"}
_SECTIONS = {"__parameters__", "__buffers__", "__constants__"}
_PLAIN = re.compile(r"[\n -~]*")
_STRINGS = re.compile(r"[\w.]*", re.ASCII)
_NODES: tuple[type[ast.AST], ...] = (
    ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.AnnAssign, ast.Assign, ast.Return, ast.If,
    ast.For, ast.Pass, ast.Name, ast.Attribute, ast.Call, ast.keyword, ast.List, ast.Tuple, ast.Constant,
    ast.Subscript, ast.UnaryOp, ast.USub, ast.expr_context,
)  # fmt: skip


def check_code(programs: Mapping[str, str]) -> None:
    """Raise `ValueError`, which says what was found, for programs (by the dotted names of their files) that are not
    such as the exporter writes."""
    trees = {name: _parsed(text) for name, text in programs.items()}
    own = {f"__torch__.{name}.{part.name}" for name, tree in trees.items() for part in tree.body
           if isinstance(part, (ast.ClassDef, ast.FunctionDef))}  # fmt: skip
    for tree in trees.values():
        for part in tree.body:
            _check_part(part, own)


def _parsed(text: str) -> ast.Module:
    """A tree of known nodes. Comments and escapes are not taken, about which two parsers might differ."""
    if not _PLAIN.fullmatch(text) or "#" in text or "\\" in text or "__setstate__" in text or "__getstate__" in text:
        raise ValueError("has comments, escapes, or something to run at loading")
    try:
        tree = ast.parse(text)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError("cannot be read") from error
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            raise ValueError(f"uses the syntax {type(node).__name__}")
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not _STRINGS.fullmatch(node.value):
            raise ValueError(f"has the string {node.value[:80]!r}")
    return tree


def _check_part(part: ast.stmt, own: set[str]) -> None:
    if isinstance(part, ast.FunctionDef):
        _check_function(part, own, part.name)
    elif isinstance(part, ast.ClassDef) and not part.keywords and not part.decorator_list \
            and [ast.unparse(base) for base in part.bases] == ["Module"]:
        for inner in part.body:
            _check_member(inner, own)
    else:
        raise ValueError(f"has a {type(part).__name__} of another kind")


def _check_member(inner: ast.stmt, own: set[str]) -> None:
    if isinstance(inner, ast.FunctionDef):
        _check_function(inner, own, "forward")
    elif isinstance(inner, ast.AnnAssign) and inner.value is None and isinstance(inner.target, ast.Name):
        _check_type(inner.annotation, own)
    elif not (isinstance(inner, ast.Assign) and all(isinstance(t, ast.Name) and t.id in _SECTIONS
                                                    for t in inner.targets) and _is_words(inner.value)):
        raise ValueError(f"has a class with a {type(inner).__name__} of another kind")


def _is_words(value: ast.expr) -> bool:
    return isinstance(value, ast.List) and all(isinstance(one, ast.Constant) for one in value.elts)


def _check_function(function: ast.FunctionDef, own: set[str], name: str) -> None:
    given = function.args
    if function.name != name or name.startswith("__") or function.decorator_list:
        raise ValueError(f"defines {function.name!r}")
    if given.defaults or given.kw_defaults or given.vararg or given.kwarg or given.posonlyargs or given.kwonlyargs:
        raise ValueError(f"gives arguments of {function.name!r} defaults")
    for argument in given.args:
        _check_type(argument.annotation, own)
    _check_type(function.returns, own)
    stored = Counter(node.id for node in ast.walk(function) if isinstance(node, ast.Name)
                     and isinstance(node.ctx, ast.Store))
    stored.update(argument.arg for argument in given.args)
    aliases = {node.targets[0].id for node in ast.walk(function) if isinstance(node, ast.Assign)
               and isinstance(node.targets[0], ast.Name) and _path(node.value) in own}
    if wrong := [alias for alias in aliases if stored[alias] > 1]:
        raise ValueError(f"gives {wrong[0]!r} two meanings")
    for statement in function.body:
        for node in _expressions(statement):
            _check_expression(node, own, aliases, set(stored))


def _expressions(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below, without the inside of names that have dots and without the functions that are called."""
    yield node
    if isinstance(node, ast.Attribute):
        return
    for child in ast.iter_child_nodes(node):
        if not (isinstance(node, ast.Call) and child is node.func):
            yield from _expressions(child)


def _check_expression(node: ast.AST, own: set[str], aliases: set[str], local: set[str]) -> None:
    if isinstance(node, ast.Call):
        path = _path(node.func) or ""
        known = path in own or path in aliases or path in _WORDS or path in _ASKED or \
            (path.startswith("torch.") and path[len("torch."):] in _ALL)
        if not known:
            raise ValueError(f"calls {(path or ast.unparse(node.func))[:80]!r}")
    elif isinstance(node, ast.Attribute):
        path = _path(node) or ""
        if not (path in own or re.fullmatch(r"self\.\w+", path)) or not isinstance(node.ctx, ast.Load):
            raise ValueError(f"uses {ast.unparse(node)[:80]!r}")
    elif isinstance(node, ast.Name) and node.id not in local | _TYPES:
        raise ValueError(f"uses {node.id[:80]!r}")
    elif isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AnnAssign)):
        raise ValueError(f"has a {type(node).__name__} inside of a function")


def _check_type(node: ast.expr | None, own: set[str]) -> None:
    """Types of the language, and classes of the archive."""
    if isinstance(node, ast.Subscript):
        _check_type(node.value, own)
        for one in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
            _check_type(one, own)
    elif node is None or (_path(node) not in _TYPES and _path(node) not in own):
        raise ValueError(f"has the type {ast.unparse(node)[:80] if node else 'None'!r}")


def _path(node: ast.expr) -> str | None:
    """`a.b.c` of names with dots, or None."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None
