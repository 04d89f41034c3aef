"""The example of an engine inside a FastAPI program: the digits of `sample`, whole and row by row."""

from __future__ import annotations

import importlib.util
import json
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from pixelsnail_infer.runtime import Engine, load

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
def module() -> ModuleType:
    return example()


@pytest.fixture(scope="module")
def address(digits_graphs: dict[str, Path], module: ModuleType) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIGITS", str(digits_graphs["step"]))
        server = uvicorn.Server(uvicorn.Config(module.app, port=0, log_level="error"))
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


@pytest.mark.parametrize("path", ["/digits/7", "/digits/7/rows"])
def test_a_client_that_goes_away_cancels_its_request(address: str, module: ModuleType, path: str) -> None:
    engine: Engine = module.app.state.engine
    with engine.submit(20_000, label=0, priority=9):  # has all slots
        before = engine.stats()
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            until(lambda: engine.stats().waiting > before.waiting)
        until(lambda: engine.stats().cancelled > before.cancelled)


def until(true: Callable[[], object]) -> None:
    """Wait; less long than the program's own deadline of a request."""
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_full_queue_and_a_closed_engine_are_told(
    address: str, module: ModuleType, digits_graphs: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a client whose picture is given up, too."""
    with load(digits_graphs["step"], threads=1) as sampler, Engine(sampler, slots=1, queue=2) as engine:
        monkeypatch.setattr(module.app.state, "engine", engine)
        engine.submit(1000, label=0, priority=9)
        until(lambda: engine.stats().live)
        found: list[tuple[int, str]] = []
        waiting = threading.Thread(target=lambda: found.append(answer(address)))
        waiting.start()
        until(lambda: engine.stats().waiting == 2)
        assert answer(address) == (429, "2 requests wait, which is the limit")
        engine.close(drain=False)
        waiting.join(30)
        assert found == [(503, "The engine was closed before the request was finished.")]
        assert answer(address) == (503, "This engine is closed; make another one.")


def answer(address: str) -> tuple[int, str]:
    """Status and detail of a refusal, without the estimate of the wait."""
    with pytest.raises(urllib.error.HTTPError) as told:
        urllib.request.urlopen(f"{address}/digits/7", timeout=60)
    return told.value.code, json.load(told.value)["detail"].split("; what waits")[0]
