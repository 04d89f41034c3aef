"""The example of an engine inside a FastAPI program: the digits of `sample`, whole and row by row."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pixelsnail_infer.runtime import load

pytestmark = pytest.mark.full
pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "fastapi_app.py"


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fastapi_app", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fastapi_app"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def address(digits_graphs: dict[str, Path]) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITS", str(digits_graphs["step"]))
        server = uvicorn.Server(uvicorn.Config(example().app, port=0, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        server.should_exit = True
        thread.join(30)
    assert not [one for one in threading.enumerate() if one.name == "pixelsnail-engine"]


def test_digits_are_those_of_sample(address: str, digits_graphs: dict[str, Path]) -> None:
    with load(digits_graphs["step"], threads=1) as sampler:
        expected = sampler.sample(1, seed=3, label=7)[0]
    with urllib.request.urlopen(f"{address}/digits/7?seed=3", timeout=60) as answer:
        assert np.array_equal(json.load(answer)["codes"], expected)
    with urllib.request.urlopen(f"{address}/digits/7/rows?seed=3", timeout=60) as answer:
        lines = [json.loads(line) for line in answer]
    assert [line["row"] for line in lines] == list(range(len(expected)))
    assert np.array_equal([line["codes"] for line in lines], expected)


def test_a_wrong_label_is_told(address: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as told:
        urllib.request.urlopen(f"{address}/digits/13", timeout=60)
    assert told.value.code == 422 and "from 0 to 9" in json.load(told.value)["detail"]
