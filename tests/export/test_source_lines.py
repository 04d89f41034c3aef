"""Whose line is named: the user's, not PyTorch's, Python's or the exporter's."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from pixelsnail_infer.errors import ModelError
from pixelsnail_infer.export.tracing.double import in_double
from pixelsnail_infer.export.tracing.forward import Forward
from pixelsnail_infer.export.tracing.source_lines import caller_line, error_line

HELPER = """
import sys
import torch
from functools import reduce

def where(caller_line):
    return caller_line(sys._getframe())

def apply(f, x):
    return reduce(lambda a, b: f(a), [0], x)

def fail(x):
    y = x + 1
    return torch.nn.functional.linear(y, torch.zeros(3, 4))
"""


@pytest.fixture(params=["plain", "torch", "site-packages"])
def helper(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The file in folders whose names must not matter."""
    folder = tmp_path / request.param
    folder.mkdir()
    (folder / "helper.py").write_text(HELPER)
    spec = importlib.util.spec_from_file_location("helper", folder / "helper.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(number: int) -> str:
    return f"helper.py:{number}"


def test_the_line_that_calls(helper: ModuleType) -> None:
    assert helper.where(caller_line) == line(7)
    assert caller_line(sys._getframe()).startswith("test_source_lines.py:")


def test_the_line_that_fails(helper: ModuleType) -> None:
    with pytest.raises(RuntimeError) as caught:
        helper.fail(torch.zeros(2, 2))
    assert error_line(caught.value) == line(14)
    with pytest.raises(TypeError) as caught_too:
        helper.apply(lambda x: x + {}, 1)
    assert str(error_line(caught_too.value)).startswith("test_source_lines.py:"), "the innermost of the user's files"


def test_a_syntax_error_is_in_the_file_that_cannot_be_read() -> None:
    with pytest.raises(SyntaxError) as caught:
        compile("x = 1\ny = (\n", "some/folder/mine.py", "exec")
    assert error_line(caught.value) == "mine.py:2"


def test_errors_without_a_line_of_anybody() -> None:
    assert error_line(ValueError("never raised")) is None
    with pytest.raises(ModelError, match="^the model's forward fails: TypeError: 'int' object is not callable$"):
        Forward()(3, torch.zeros(1), {})  # type: ignore[arg-type]


def test_long_messages_become_one_short_line() -> None:
    def run(*_: Any) -> Any:
        raise RuntimeError("much\n" * 1000 + ".")

    with pytest.raises(ModelError) as caught:
        Forward(run)(torch.nn.Identity(), torch.zeros(1), {})
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_double_is_undone() -> None:
    with pytest.raises(ZeroDivisionError), in_double():
        assert torch.zeros(1).dtype == torch.zeros(1, dtype=torch.float32).dtype == torch.float64
        assert torch.arange(3).float().dtype == torch.tensor([1.5]).dtype == torch.float64
        assert torch.zeros(1, dtype=torch.int32).dtype == torch.int32
        raise ZeroDivisionError
    assert torch.zeros(1).dtype == torch.get_default_dtype() == torch.arange(3).float().dtype == torch.float32
