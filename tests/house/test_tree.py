"""Files stay short, public names stay few, and no file knows the machine that it was written on."""

from __future__ import annotations

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from .tree import PACKAGE, PARTS, ROOT, python_files, source_files, tracked_files

LIMIT, TEST_LIMIT, NAMES = 300, 400, 16


def length(path: Path) -> int:
    return len((ROOT / path).read_text().splitlines())


def test_no_file_is_long() -> None:
    code = [*source_files(), *python_files("examples"), *python_files("benchmarks")]
    limits = [(path, LIMIT) for path in code] + [(path, TEST_LIMIT) for path in python_files("tests")]
    assert [f"{path}: {length(path)} lines" for path, limit in limits if length(path) > limit] == []


def test_no_module_has_the_name_of_a_folder() -> None:
    """A file and a folder of one name hide one another."""
    modules = {path.with_suffix("") for path in source_files()}
    assert [str(path) for path in modules if (ROOT / path).is_dir()] == []


def test_the_page_on_the_exporter_names_every_file_where_it_stands() -> None:
    named, folder = set[Path](), Path("export")
    for line in (ROOT / "docs/exporter.md").read_text().splitlines():
        if line.startswith(("| `", "| |")):
            where, files, says = line.split("|")[1:4]
            folder = Path("export", where.strip(" `/")) if where.strip() else folder
            top = not where.strip() and ("(in `export/`)" in files + says or "`cli`" in files)
            named |= {(Path("export") if top else folder) / f"{name}.py" for name in re.findall(r"`(\w+)`", files)}
    assert named == {path for path in source_files() if path.parts[0] == "export" and not path.stem.startswith("__")}


@pytest.mark.parametrize("part", PARTS)
def test_the_links_are_relative(part: str) -> None:
    link = ROOT / PACKAGE / part
    assert link.is_symlink()
    assert link.readlink() == Path("..", part)


@pytest.mark.parametrize("folder", sorted({str(path.parent) for path in source_files()}))
def test_every_folder_of_the_package_is_a_package(folder: str) -> None:
    assert (ROOT / folder / "__init__.py").is_file(), "setuptools leaves a folder without __init__.py out of the wheel"


@pytest.mark.parametrize("module", [PACKAGE, *(f"{PACKAGE}.{part}" for part in PARTS)])
def test_public_names_are_few_and_exist(module: str) -> None:
    package = importlib.import_module(module)
    public = package.__all__
    assert 0 < len(public) <= NAMES
    assert len(set(public)) == len(public)
    assert [name for name in public if not hasattr(package, name)] == []


def test_every_public_function_is_documented() -> None:
    """Everything that a package's `__all__` names has a docstring."""
    missing = []
    for module in (PACKAGE, *(f"{PACKAGE}.{part}" for part in PARTS)):
        package = importlib.import_module(module)
        for name in package.__all__:
            value = getattr(package, name)
            if callable(value) and not value.__doc__:
                missing.append(f"{module}.{name}")
    assert missing == []


# Written so that no line of this file matches itself.
PLACES = re.compile(
    r"(?<![\w.])/(?:home|root|work|Users)/"  # somebody's folder
    r"|\bpy[p]i\.(?:org|io)|python[h]osted\.|[f]ile:///|--(?:extra-)?index[-]url"
    r"|download\.py[t]orch\.|[a]naconda\.(?:org|com)|npm[j]s\.",
    re.IGNORECASE,
)


def test_no_file_names_a_registry_or_a_machine() -> None:
    wrong = []
    for path in tracked_files():
        data = (ROOT / path).read_bytes()
        if b"\0" in data:
            continue  # not text
        for number, line in enumerate(data.decode("utf-8").splitlines(), 1):
            if found := PLACES.search(line):
                wrong.append(f"{path}:{number}: {found.group()}")
    assert wrong == []


@pytest.mark.parametrize("line", ["open('/home" + "/me/x')", "see https://py" + "pi.org/p", "-i fi" + "le:///opt"])
def test_a_place_is_seen(line: str) -> None:
    assert PLACES.search(line)


def test_a_route_or_relative_path_is_no_place() -> None:
    assert not PLACES.search("a/work/b ../home/x https://example.org/root/x")


def test_only_the_package_and_its_parts_are_importable_from_a_checkout() -> None:
    tops = {path.name for path in ROOT.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert tops == {PACKAGE, *PARTS}, "only these three folders may be importable from a checkout"


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def names(needs: list[str]) -> list[str]:
    return [re.split(r"[<>=[]", need)[0] for need in needs]


def test_versions_have_one_place(project: dict[str, Any]) -> None:
    assert "version" in project["dynamic"]
    assert (ROOT / PACKAGE / "__init__.py").read_text().count("__version__ = ") == 1


def test_extras_keep_the_engines_apart(project: dict[str, Any]) -> None:
    assert names(project["dependencies"]) == ["numpy"]
    engines = {"onnxruntime", "onnxruntime-gpu", "tensorrt"}
    found = {extra: engines & set(names(needs)) for extra, needs in project["optional-dependencies"].items()}
    assert {extra: needs for extra, needs in found.items() if needs} == {
        "cpu": {"onnxruntime"}, "gpu": {"onnxruntime-gpu"}, "tensorrt": {"tensorrt"},
    }


def test_everything_that_the_make_targets_install_is_pinned(project: dict[str, Any]) -> None:
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    extras = ("cpu", "serve", "export", "examples", "dev", "tensorrt-rtx", "ray", "ray-serve")
    needed = {need for extra in extras for need in names(project["optional-dependencies"][extra])}
    assert needed - pinned == set()
