"""Imports point one way, torch stays where it belongs, and importing has no effects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .tree import PACKAGE, PARTS, ROOT, imports, python_files, source_files, within

EXPORT, RUNTIME = (f"{PACKAGE}.{part}" for part in PARTS)
MODELS, CHECKPOINTS = f"{PACKAGE}.models", f"{PACKAGE}.checkpoints"
COMMAND_ROOT = Path(PACKAGE, "__main__.py")  # the one exception: imports what a command needs, when it runs
TORCH_BACKEND = [Path("runtime", "backends", name) for name in
                 ("torch_cpu.py", "torch_cuda.py", "torch_products.py", "torch_counting.py")]
TORCH_DOOR = Path("runtime", "backends", "choosing.py")  # imports the backend that is asked for, when it is
COUNTING_DOOR = Path("runtime", "backends", "counting.py")  # the same of what counts the products of its files
TORCH_MODULES = tuple(f"{RUNTIME}.backends.{path.stem}" for path in TORCH_BACKEND)
TORCH_FOLDERS = (("export",), (PACKAGE, "models"), (PACKAGE, "checkpoints"))
ONNX_PLACES = (("export", "writing"), ("export", "codecs"), ("export", "denoisers"),
               ("export", "exporting.py"))  # the last for its version
DECIDING = (("export", "analysis"), ("export", "emission"))
CLUSTER, CLUSTER_DOOR = f"{RUNTIME}.cluster", Path("runtime", "commands", "bulk_command.py")
PARQUET = Path("runtime", "bulk", "parquet.py")
TORCH_SIDE = ("torch", "onnx", "onnxscript", "onnx_ir", "networkx")


def zone(path: Path) -> str:
    return path.parts[0] if path.parts[0] in PARTS else "core"


def may_use_torch(path: Path) -> bool:
    return path in TORCH_BACKEND or any(path.parts[: len(folder)] == folder for folder in TORCH_FOLDERS)


def forbidden(path: Path, name: str, eager: bool) -> str | None:
    """Why `path` may not import `name`, or None."""
    if name.split(".")[0] in (*PARTS, "tests", "examples", "benchmarks"):
        return f"write {PACKAGE}.{name}: the top-level name exists in a checkout only"
    if path == COMMAND_ROOT:
        heavy = any(within(name, module) for module in (EXPORT, MODELS, CHECKPOINTS, *TORCH_SIDE))
        return "the command root imports this inside the function that needs it" if eager and heavy else None
    if zone(path) == "core" and (within(name, EXPORT) or within(name, RUNTIME)):
        return "the core imports neither side"
    if zone(path) == "runtime" and within(name, EXPORT):
        return "the runtime never imports the exporter"
    if zone(path) == "export" and within(name, "onnx") and path.parts[:2] not in ONNX_PLACES:
        return "only what writes ONNX knows ONNX"
    if path.parts[:2] in DECIDING and within(name, f"{EXPORT}.writing"):
        return "graphs are decided without knowing how they are written"
    late = path in TORCH_BACKEND or (path in (TORCH_DOOR, COUNTING_DOOR) and not eager)
    if any(within(name, module) for module in TORCH_MODULES) and not late:
        return "only an engine that is asked for may load torch"
    if zone(path) == "runtime" and path in TORCH_BACKEND and within(name, "onnx"):
        return "only what writes ONNX knows ONNX"
    in_cluster = path.parts[:2] == ("runtime", "cluster")
    if within(name, "ray") and not in_cluster:
        return "only the cluster knows Ray"
    if within(name, CLUSTER) and not in_cluster and (eager or path != CLUSTER_DOOR):
        return "only a command that is told to may load Ray"
    if within(name, "pyarrow") and not in_cluster and (eager or path != PARQUET):
        return "only Parquet needs pyarrow, when it is asked for"
    if not may_use_torch(path) and any(within(name, module) for module in (MODELS, CHECKPOINTS, *TORCH_SIDE)):
        return "only the exporter, models and checkpoints are on torch's side"
    return None


def violations(source: str, path: Path) -> list[str]:
    found = ((line, name, forbidden(path, name, when == "import")) for name, line, when in imports(source, path))
    return [f"{path}:{line}: imports {name}: {why}" for line, name, why in found if why]


def test_imports_point_one_way() -> None:
    assert [wrong for path in source_files() for wrong in violations((ROOT / path).read_text(), path)] == []


@pytest.mark.parametrize("folder", ["tests", "examples", "benchmarks"])
def test_nothing_else_imports_the_top_level_folders(folder: str) -> None:
    wrong = [
        f"{path}:{line}: imports {name}"
        for path in python_files(folder)
        for name, line, _ in imports((ROOT / path).read_text(), path)
        if name.split(".")[0] in PARTS
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "path, source",
    [
        ("pixelsnail_infer/noise.py", "from .runtime import load"),
        ("pixelsnail_infer/noise.py", "def f():\n    from pixelsnail_infer import export"),
        ("pixelsnail_infer/noise.py", "import torch"),
        ("pixelsnail_infer/__main__.py", "import torch"),
        ("pixelsnail_infer/models/prior.py", "from ..export import trace"),
        ("export/emission/row.py", "from onnx import helper"),
        ("export/emission/row.py", "from ..writing import onnx_writer"),
        ("export/artifacts.py", "import onnx"),
        ("runtime/sampler.py", "import runtime.session"),
        ("runtime/sampler.py", "from ..export import cli"),
        ("runtime/sampler.py", "from ..models import prior"),
        ("runtime/backends/ort.py", "from ...export.cli import main"),
        ("runtime/backends/onnxruntime_cpu.py", "import torch"),
        ("runtime/backends/torch_cpu.py", "import onnx"),
        ("runtime/drawing/loading.py", "from ..backends import torch_cpu"),
        ("runtime/backends/choosing.py", "from .torch_cpu import TorchBackend"),
        ("runtime/backends/counting.py", "from .torch_counting import TorchCounter"),
        ("runtime/cli.py", "def f():\n    import onnx.helper"),
        ("export/trace.py", "from export.graph import Graph"),
        ("runtime/bulk/plan.py", "def f():\n    import ray"),
        ("runtime/bulk/filling.py", "def f():\n    import pyarrow"),
        ("runtime/bulk/parquet.py", "import pyarrow"),
        ("runtime/commands/bulk_command.py", "from ..cluster import drawing"),
        ("runtime/commands/sample_command.py", "def f():\n    from ..cluster import drawing"),
    ],
)
def test_a_wrong_import_is_seen(path: str, source: str) -> None:
    assert len(violations(source, Path(path))) == 1


@pytest.mark.parametrize(
    "path, source",
    [
        ("pixelsnail_infer/__main__.py", "def f():\n    import torch\n    from .export import cli"),
        ("pixelsnail_infer/models/prior.py", "import torch"),
        ("runtime/sampler.py", "from ..noise import gumbel\nfrom .session import Session"),
        ("runtime/backends/torch_cpu.py", "import torch"),
        ("runtime/backends/choosing.py", "def f():\n    from .torch_cpu import TorchBackend"),
        ("runtime/cluster/drawing.py", "import pyarrow as pa\nimport ray"),
        ("runtime/commands/bulk_command.py", "def f():\n    from ..cluster import drawing"),
        ("export/verify.py", "import torch\nfrom ..runtime import load\nfrom ..models import prior"),
    ],
)
def test_a_right_import_passes(path: str, source: str) -> None:
    assert violations(source, Path(path)) == []


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAVY = ("torch", "onnx", "onnxscript", "onnxruntime", "tensorrt", "tensorrt_rtx_bindings", "cuda", "networkx",
         "matplotlib", "PIL", "sklearn", "scipy", "starlette", "uvicorn", "prometheus_client", "ray", "pyarrow",
         "pandas")


@pytest.mark.parametrize("module", [PACKAGE, RUNTIME, f"{PACKAGE}.manifest", f"{PACKAGE}.__main__"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    assert run_python(code).split() == []


@pytest.mark.parametrize("module", [PACKAGE, RUNTIME, f"{PACKAGE}.__main__"])
def test_importing_works_without_the_extras(module: str) -> None:
    run_python(f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r})); import {module}")


def test_importing_has_no_effects() -> None:
    code = f"""
import logging, os, signal, sys, threading, warnings
import numpy

def world():
    state = numpy.random.get_state()
    return (list(logging.root.handlers), logging.root.level, threading.active_count(), dict(os.environ),
            [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)], state[1].tolist(), state[2],
            list(warnings.filters), list(sys.path), os.getcwd(), numpy.geterr(), numpy.get_printoptions())

before = world()
import {PACKAGE}, {RUNTIME}
assert world() == before
"""
    run_python(code)
