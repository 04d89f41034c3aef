"""The package is built and installed in every way that people use; nothing is downloaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from .tree import PACKAGE, PARTS, ROOT, source_files

UNWANTED = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "out", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "*.onnx"
)
EXPECTED = {
    str(path if path.parts[0] == PACKAGE else Path(PACKAGE, path)) for path in source_files()
} | {f"{PACKAGE}/py.typed", f"{PACKAGE}/runtime/doctor/model.zip"} | {
    f"{PACKAGE}/runtime/serving/page/{name}" for name in ("index.html", "page.css", "page.js")
}
PROBE = """
import importlib.metadata, importlib.util, pathlib, sys
import pixelsnail_infer, pixelsnail_infer.runtime
version = importlib.metadata.version("pixelsnail-infer")
assert version == pixelsnail_infer.__version__, version
assert "torch" not in sys.modules
(exporter,) = importlib.util.find_spec("pixelsnail_infer.export").submodule_search_locations
assert pathlib.Path(exporter, "cli.py").is_file(), "no exporter"
print(pathlib.Path(pixelsnail_infer.runtime.__file__).parent)
print(importlib.util.find_spec("export"), importlib.util.find_spec("runtime"))
"""


def run(*command: object, cwd: Path) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=clean, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout, links kept, that builds and editable installs may write into."""
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("house") / "checkout", symlinks=True, ignore=UNWANTED))


@pytest.fixture(scope="module")
def built(checkout: Path) -> dict[str, Path]:
    """The sdist, and the wheel built from that sdist."""
    folder = checkout.parent / "dist"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, checkout, cwd=checkout.parent)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return {"sdist": sdist, "wheel": wheel}


def new_environment(folder: Path) -> Path:
    """A virtual environment that sees this one's NumPy, setuptools and pip, but not its editable install; its Python.

    A path file adds the folder without processing the path files in it, which is where an editable install lives.
    """
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


def install(python: Path, *what: object, cwd: Path) -> None:
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed", "--no-compile")
    run(python, "-m", "pip", "--disable-pip-version-check", "install", *options, *what, cwd=cwd)


def test_the_wheel_holds_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    names = zipfile.ZipFile(built["wheel"]).namelist()
    ours = {name for name in names if ".dist-info/" not in name}
    assert ours == EXPECTED
    assert {name.split("/")[0] for name in ours} == {PACKAGE}
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_sdist_holds_real_files_under_the_package(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        members = archive.getmembers()
    assert [member.name for member in members if member.issym()] == []
    names = {member.name.split("/", 1)[1] for member in members if member.isfile()}
    assert EXPECTED | {"LICENSE", "pyproject.toml", "constraints.txt"} <= names
    assert {name.split("/")[0] for name in names} & {*PARTS, "tests"} == set()


def test_the_wheel_of_a_checkout_is_that_of_its_sdist(checkout: Path, built: dict[str, Path], tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, checkout, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    contents = [{i.filename: i.CRC for i in zipfile.ZipFile(path).infolist()} for path in (wheel, built["wheel"])]
    records = [content.pop(next(name for name in content if name.endswith("RECORD"))) for content in contents]
    assert len(records) == 2
    assert contents[0] == contents[1]


@pytest.mark.parametrize("kind", ["wheel", "sdist", "plain", "editable"])
def test_an_install_works_from_any_folder(kind: str, checkout: Path, built: dict[str, Path], tmp_path: Path) -> None:
    python = new_environment(tmp_path / "venv")
    what = {"wheel": [built["wheel"]], "sdist": [built["sdist"]], "plain": ["."], "editable": ["-e", "."]}[kind]
    install(python, *what, cwd=checkout)
    inside = checkout if kind == "editable" else tmp_path / "venv"
    for folder in (tmp_path, Path("/"), checkout / "docs"):
        place, generic = run(python, "-c", PROBE, cwd=folder).splitlines()
        assert Path(place).is_relative_to(inside)
        assert generic == "None None", "a top-level `export` or `runtime` was installed"
    run(python, "-c", PROBE, cwd=checkout)  # here the checkout itself comes first on the path
    run(python, "-c", "import pixelsnail_infer.export.cli", cwd=tmp_path)  # torch with it: once
    for script in ("pixelsnail-infer", "export-model"):
        assert (tmp_path / "venv" / "bin" / script).is_file()
    place = run(python, "-P" if sys.version_info >= (3, 11) else "-I", "-c", PROBE, cwd=checkout).splitlines()[0]
    assert Path(place).is_relative_to(inside), "the installed package did not come first"


def test_the_commands_of_an_installed_package_start(built: dict[str, Path], checkout: Path, tmp_path: Path) -> None:
    python = new_environment(tmp_path / "venv")
    install(python, built["wheel"], cwd=tmp_path)
    for script in ("pixelsnail-infer", "export-model"):
        assert "usage" in run(python.parent / script, "--help", cwd=checkout).lower()


def test_the_doctor_of_an_installed_package_has_its_model(built: dict[str, Path], tmp_path: Path) -> None:
    python = new_environment(tmp_path / "venv")
    install(python, built["wheel"], cwd=tmp_path)
    found = json.loads(run(python.parent / "pixelsnail-infer", "doctor", "--json", cwd=tmp_path))
    assert found["healthy"] and {"works"} <= {engine["state"] for engine in found["engines"]}


def test_a_target_folder_is_enough(built: dict[str, Path], tmp_path: Path) -> None:
    install(Path(sys.executable), "--target", tmp_path / "lib", built["wheel"], cwd=tmp_path)
    tops = {path.name for path in (tmp_path / "lib").iterdir() if not path.name.endswith(".dist-info")}
    assert tops <= {PACKAGE, "bin"}
