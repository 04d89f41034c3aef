"""The files of this project, as the tests of the house see them."""

from __future__ import annotations

import ast
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "pixelsnail_infer"
PARTS = ("export", "runtime")  # stand at the top, are imported under the package's name


def python_files(folder: str) -> list[Path]:
    """Python files below a folder of the project, relative to its root; links are not followed."""
    found = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py"))
    return sorted(path for path in found if path.parts[:2] not in [(PACKAGE, part) for part in PARTS])


def source_files() -> list[Path]:
    """Every module of the package: the core and the two parts."""
    return [path for folder in (PACKAGE, *PARTS) for path in python_files(folder)]


def tracked_files() -> list[Path]:
    """What git tracks and the work tree still has, relative to the root; links are left out. Empty without git."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return []
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [Path(name) for name in listed.split("\0") if name]
    return [path for path in paths if (ROOT / path).is_file() and not (ROOT / path).is_symlink()]


def module_name(path: Path) -> str:
    """`export/cli.py` -> `pixelsnail_infer.export.cli`."""
    parts = path.with_suffix("").parts
    if parts[0] != PACKAGE:
        parts = (PACKAGE, *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class Import(NamedTuple):
    """One import: the absolute dotted name, its line, and when it runs (`typing`: never, it is for type checkers)."""

    name: str
    line: int
    when: Literal["import", "call", "typing"]


@cache
def imports(source: str, path: Path) -> tuple[Import, ...]:
    """Every import in a module. `from a.b import c` gives `a.b.c`, so that a submodule is seen whichever way it is
    imported."""
    return tuple(_imports(ast.parse(source), path))


def _imports(tree: ast.AST, path: Path) -> Iterator[Import]:
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    late = _inside(tree, lambda node: isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    typing = _inside(tree, _is_type_checking)
    for node in ast.walk(tree):
        when: Literal["import", "call", "typing"]
        when = "typing" if id(node) in typing else "call" if id(node) in late else "import"
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, when)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            prefix = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield Import(f"{prefix}.{alias.name}", node.lineno, when)


def _inside(tree: ast.AST, outer: Callable[[ast.AST], bool]) -> set[int]:
    """The ids of all nodes below those that `outer` chooses."""
    return {id(node) for top in ast.walk(tree) if outer(top) for node in ast.walk(top)}


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(module + ".")
