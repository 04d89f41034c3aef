"""`pixelsnail-infer serve` as a process, and the container that runs it, whose commands are run here as written."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.__main__ import main
from pixelsnail_infer.runtime import Sampler
from pixelsnail_infer.runtime.serving.loading import EngineOptions, Named, load_models, parse_named

from .running import Running, events

ROOT = Path(__file__).resolve().parents[2]
KEY = "a-key-of-sixteen-1"


@contextmanager
def process(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the address that it prints."""
    command = [sys.executable, "-m", "pixelsnail_infer", *map(str, arguments)]
    made = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
                            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])})  # fmt: skip
    try:
        assert made.stdout is not None
        yield made, made.stdout.readline().strip()
    finally:
        made.kill()
        made.communicate()


def fetch(address: str, body: Any = None, key: str = "") -> bytes:
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(address, data, headers), timeout=30) as answer:
        found: bytes = answer.read()
        return found


def wait_ready(address: str) -> None:
    for _ in range(400):
        try:
            fetch(f"{address}healthz")
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("never ready")


def dockerfile() -> dict[str, list[str]]:
    """Instructions of the Dockerfile, by name; those of one name in order."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, rest = line.split(" ", 1)
            found.setdefault(name, []).append(rest)
    return found


def test_it_serves_and_ends_in_order(digits_graphs: dict[str, Path], digits: Sampler, tmp_path: Path) -> None:
    """With the arguments of the container's command, its model and its port but for a key."""
    (tmp_path / "keys").write_text(KEY)
    (command,) = dockerfile()["CMD"]
    arguments = json.loads(command)
    assert dockerfile()["ENTRYPOINT"] == ['["pixelsnail-infer"]'] and arguments[-2:] == ["--port", "8000"]
    arguments[1] = f"digits={digits_graphs['step']}"
    with process(*arguments[:-1], 0, "--threads", 1, "--api-key-file", tmp_path / "keys") as (made, said):
        address = said.replace("0.0.0.0", "127.0.0.1")
        wait_ready(address)
        assert KEY not in Path(f"/proc/{made.pid}/cmdline").read_text()
        body = {"n": 16, "label": 3, "stream": True}
        rows = [data for name, data in events(fetch(f"{address}v1/images", body, KEY)) if name == "row"]
        assert len(rows) == 16 * 8
        assert np.array_equal(rows[0]["pixels"], digits.sample(16, label=3)[rows[0]["image"], rows[0]["row"]])
        made.send_signal(signal.SIGTERM)
        assert made.wait(20) == 0
        assert made.stderr is not None
        lines = [json.loads(line) for line in made.stderr.read().splitlines()]
    happened = [line["event"] for line in lines]
    assert [event for event in happened if event in ("loaded", "ready", "draining", "ended")] == [
        "loaded", "ready", "draining", "ended"]  # fmt: skip
    assert KEY not in json.dumps(lines)


def test_without_options_only_this_machine_reaches_it(digits_graphs: dict[str, Path]) -> None:
    with process("serve", digits_graphs["step"], "--port", 0) as (made, address):
        assert address.startswith("http://127.0.0.1:")
        wait_ready(address)
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(f"{address}healthz", headers={"host": "evil.example"}))
        made.send_signal(signal.SIGINT)
        assert made.wait(20) == 0


def test_the_health_check_of_the_container(live: Running) -> None:
    (line,) = dockerfile()["HEALTHCHECK"]
    program, *arguments = json.loads(line[line.index("[") :])
    assert program == "python" and "PIXELSNAIL_PORT=8000" in dockerfile()["ENV"][0].split()

    def check(port: int) -> int:
        proxies = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:1")
        return subprocess.run([sys.executable, *arguments], env={**os.environ, **proxies, "PIXELSNAIL_PORT": str(port)},
                              capture_output=True, timeout=30).returncode  # fmt: skip

    assert check(live.port) == 0
    live.service.phase = "draining"
    try:
        assert check(live.port) != 0
    finally:
        live.service.phase = "ready"
    assert check(1) != 0


def test_the_container_installs_what_the_tests_run_with() -> None:
    found = dockerfile()
    install, _ = found["RUN"]
    words = shlex.split(install.split("&&")[1])
    assert words[0] == "/opt/pixelsnail/bin/pip" and words[words.index("-c") + 1] == "constraints.txt"
    extras = set(re.fullmatch(r"\.\[(.*)\]", words[-1]).group(1).split(","))  # type: ignore[union-attr]
    assert extras == {"serve", "cpu"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras <= set(project["optional-dependencies"])
    make = (ROOT / "Makefile").read_text()
    assert re.search(r"\.\[cpu,serve,", make), "the tests run without them"


def test_the_container_compiles_when_it_is_built(tmp_path: Path) -> None:
    """It cannot later: each start and each health check would compile all that it imports."""
    found = dockerfile()
    install, library = found["RUN"]
    assert "--compile" in shlex.split(install)
    program, *words, folder = shlex.split(library)
    version = re.fullmatch(r"python:(3\.\d+)-\S+", found["FROM"][-1])
    assert program == "python" and version is not None and folder == f"/usr/local/lib/python{version[1]}"
    for name, text in (("good.py", "x = 1"), ("tests/bad.py", "print 'of Python 2'")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run([sys.executable, *words, tmp_path], check=True, timeout=60)
    assert [path.name.split(".")[0] for path in tmp_path.rglob("*.pyc")] == ["good"]


def test_the_container_is_nobody_and_needs_no_disk() -> None:
    found = dockerfile()
    assert found["USER"] == ["10001:10001"] and found["STOPSIGNAL"] == ["SIGTERM"]
    assert "PYTHONDONTWRITEBYTECODE=1" in found["ENV"][0]
    assert len({line.split()[0] for line in found["FROM"]}) == 1 and len(found["FROM"]) == 2


def test_the_container_gets_what_it_is_built_from() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    readme = project["tool"]["setuptools"]["dynamic"]["readme"]["file"]
    assert lines[1] == "*"
    assert kept == {"pyproject.toml", "constraints.txt", *readme, *project["project"]["license-files"],
                    "pixelsnail_infer", "export", "runtime"}  # fmt: skip
    assert all((ROOT / name).exists() for name in kept)


def test_without_the_extra_it_says_what_to_install() -> None:
    code = ("import sys; sys.modules['starlette'] = None; from pixelsnail_infer.__main__ import main; "
            "sys.exit(main(['serve', 'x.onnx']))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "starlette" in done.stderr and "pip install 'pixelsnail-infer[serve,cpu]'" in done.stderr


@pytest.mark.parametrize("arguments", [["x y.onnx"], ["=x.onnx"], ["a=,"], ["x.onnx", "--port", "65536"],
                                       ["../x=a.onnx"], ["x.onnx", "--grace", "-1"]])  # fmt: skip
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", *arguments])
    assert "--help" in capsys.readouterr().err


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "x.onnx", "--api-key-file", str(tmp_path / "none")]) == 1
    hosts = ("256.0.0.1", "a..b", "a" * 64, "x" * 5000, "\udcff", "a\0b")
    assert [main(["serve", "x.onnx", "--host", host]) for host in hosts] == [1] * len(hosts)
    printed = capsys.readouterr().err
    assert printed.count("\n") == 1 + len(hosts) and printed.count("cannot be listened on") == len(hosts)
    with process("serve", tmp_path / "none.onnx", "--port", 0) as (made, _):
        assert made.wait(20) == 1
        assert made.stderr is not None and "none.onnx" in made.stderr.read().splitlines()[-1]


def test_names_of_models() -> None:
    assert parse_named("out/digits.onnx") == Named("digits", ("out/digits.onnx",))
    assert parse_named("a=b.onnx,c.onnx") == Named("a", ("b.onnx", "c.onnx"))


def test_models_of_one_name_and_pipelines_without_pictures(toy: Path, chain: list[Path]) -> None:
    with pytest.raises(Exception, match="Two models are named a"):
        load_models([Named("a", (str(toy),)), Named("a", (str(toy),))], EngineOptions(threads=1))
    with pytest.raises(Exception, match="draw codes, not images"):
        load_models([Named("a", tuple(map(str, chain[:2])))], EngineOptions(threads=1))
    (served,) = load_models([Named("a", tuple(map(str, chain)))], EngineOptions(threads=1)).values()
    assert served.is_pipeline and served.files == tuple(path.name for path in chain)
    served.close()
