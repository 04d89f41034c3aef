"""No module imports itself in a circle, and inside the exporter and the runtime no import points upwards."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from .tree import PACKAGE, ROOT, imports, module_name, source_files

# What stands in a part, from the ground up: each may import what is named before it.
ORDER = {
    "export": ("tracing", "lattice", "fields", "evaluation", "lowering", "analysis", "emission", "plans", "compile",
               "writing", "artifacts", "schedules", "proofs", "calibration", "twins", "staging", "exported", "report",
               "source", "exporting", "codecs", "denoisers", "from_checkpoint", "verify_command", "cli", "__main__",
               "__init__"),
    "runtime": ("files", "requests", "backends", "drawing", "codecs", "denoising", "loading", "pipeline", "engine",
                "serving", "doctor", "bench", "bulk", "cluster", "commands", "__init__"),
}

Sources = Mapping[Path, str]


@pytest.fixture(scope="module")
def sources() -> Sources:
    return {path: (ROOT / path).read_text() for path in source_files()}


def arrows(sources: Sources) -> dict[Path, list[Path]]:
    """For every module the modules that it imports, at whatever time; not those for type checkers alone."""
    modules = {module_name(path): path for path in sources}
    return {path: sorted({found for name, _, when in imports(source, path) if when != "typing"
                          if (found := module_of(name, modules)) is not None})
            for path, source in sources.items()}


def module_of(name: str, modules: Mapping[str, Path]) -> Path | None:
    """The module that a dotted name is, or is a part of; None for one of another package."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return modules.get(name)


def circle(sources: Sources) -> str:
    """A circle of imports as a chain of modules, each of which imports the next; empty where there is none."""
    try:
        TopologicalSorter(arrows(sources)).prepare()
    except CycleError as error:  # each one is imported by the next
        return " -> ".join(str(path) for path in reversed(error.args[1]))
    return ""


def place(path: Path) -> str:
    """What in its part a module belongs to."""
    return path.parts[1] if len(path.parts) > 2 else path.stem


def upwards(sources: Sources) -> list[str]:
    return [f"{path} imports {found}: {place(found)} stands above {place(path)}"
            for part, order in ORDER.items()
            for path, others in arrows({path: s for path, s in sources.items() if path.parts[0] == part}).items()
            for found in others if order.index(place(found)) > order.index(place(path))]


def test_there_is_no_circle(sources: Sources) -> None:
    assert circle(sources) == ""


@pytest.mark.parametrize("part", ORDER)
def test_everything_has_its_place(sources: Sources, part: str) -> None:
    found = {place(path) for path in sources if path.parts[0] == part}
    assert found == set(ORDER[part]), "put it where it belongs"


def test_no_arrow_points_upwards(sources: Sources) -> None:
    assert upwards(sources) == []


@pytest.mark.parametrize(
    "last", [f"import {PACKAGE}.export.a", "from .a import thing", "from . import a", f"from {PACKAGE}.export import a",
             "def f():\n    from .a import thing", "class C:\n    from . import a", "if True:\n    from . import a"],
)
def test_a_circle_is_found_and_named(last: str) -> None:
    sources = {Path("export/d.py"): "from .a import thing", Path("export/a.py"): "import os\nfrom .b import thing",
               Path("export/b.py"): "from ..export import c", Path("export/c.py"): last}
    chain = circle(sources).split(" -> ")
    ring = ["export/a.py", "export/b.py", "export/c.py"]
    assert chain[0] == chain[-1] and sorted(chain[1:]) == ring
    assert all(ring[ring.index(path) - 2] == following for path, following in zip(chain, chain[1:], strict=False))


@pytest.mark.parametrize("last", ["", "import a", "if TYPE_CHECKING:\n    from .a import thing"])
def test_a_chain_is_no_circle(last: str) -> None:
    assert circle({Path("export/a.py"): "from .b import thing", Path("export/b.py"): last}) == ""


def test_a_package_that_is_imported_by_its_own_module_is_a_circle() -> None:
    sources = {Path("export/__init__.py"): "from .a import thing", Path("export/a.py"): "from . import thing"}
    assert set(circle(sources).split(" -> ")) == {"export/__init__.py", "export/a.py"}


@pytest.mark.parametrize(
    "below, above", [("export/lowering/axes", "export/lowering/table"), ("export/fields", "export/compile"),
                     ("export/tracing/fresh", "export/codecs/verify"),
                     ("runtime/files/graphfile", "runtime/drawing/loop"),
                     ("runtime/drawing/batch", "runtime/pipeline/pipeline")],
)
def test_one_wrong_import_among_all_sources_is_found(sources: Sources, below: str, above: str) -> None:
    path, module = Path(f"{below}.py"), above.replace("/", ".")
    planted = {**sources, path: sources[path] + f"\n\ndef f():\n    import {PACKAGE}.{module}\n"}
    assert f"{path} -> {above}.py" in circle(planted)
    if place(path) != place(Path(f"{above}.py")):
        assert len(upwards(planted)) == 1
