"""`bulk --ray` on a cluster of several processes: the files of one process, also after workers or drivers died."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pixelsnail_infer.errors import EngineError, GraphFileError
from pixelsnail_infer.runtime import load
from pixelsnail_infer.runtime.bulk.reading import read_shards

from .processes import descendants, listening

pytestmark = pytest.mark.full
pytest.importorskip("pyarrow.parquet")
pytest.importorskip("ray.data")
COMMAND = "import sys; from pixelsnail_infer.__main__ import main; sys.exit(main(sys.argv[1:]))"
QUICK = ("--n", 1037, "--shard", 64, "--label", "all", "--seed", 5)
LONG = ("--n", 4000, "--shard", 40, "--label", "all", "--seed", 5)


def start(model: Path, out: Path, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", COMMAND, "bulk", str(model), *map(str, arguments), "-o", str(out)]
    return subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def run(model: Path, out: Path, *arguments: object) -> str:
    return finished(start(model, out, *arguments))


def finished(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, output + errors
    assert errors == ""  # Ray is quiet
    return output


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*"))


def until(true: Callable[[], object], process: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + 120
    while not true():
        assert time.monotonic() < ends and process.poll() is None, "it never came to be"
        time.sleep(0.02)


def workers(process: subprocess.Popen[str]) -> list[int]:
    return [pid for pid, name in descendants(process.pid).items() if "MapWorker" in name]


@pytest.fixture(scope="module")
def model(digits_graphs: dict[str, Path]) -> Path:
    return digits_graphs["step"]


@pytest.fixture(scope="module")
def quick(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process writes."""
    folder = tmp_path_factory.mktemp("ray") / "quick"
    run(model, folder, *QUICK)
    return folder


@pytest.fixture(scope="module")
def long(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ray") / "long"
    run(model, folder, *LONG)
    return folder


@pytest.mark.parametrize("count", [1, 3])
def test_any_number_of_workers_writes_the_same_bytes(model: Path, quick: Path, tmp_path: Path, count: int) -> None:
    said = run(model, tmp_path / "out", *QUICK, "--ray", "--workers", count)
    assert contents(tmp_path / "out") == contents(quick) and "1,037 images in 17 files" in said


def test_parquet_holds_the_same_records(model: Path, quick: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    here, there, expected = tmp_path / "here", tmp_path / "there", np.concatenate([*read_shards(quick)])
    run(model, here, *QUICK, "--format", "parquet")
    run(model, there, *QUICK, "--format", "parquet", "--ray", "--workers", 2)
    for folder in (here, there):
        assert np.array_equal(np.concatenate([*read_shards(folder)]), expected)
    tables = [[pq.read_table(path) for path in shards(folder)] for folder in (here, there)]
    assert len(tables[0]) == 17 and all(a.equals(b) for a, b in zip(*tables, strict=True))
    codes = tables[0][1]["codes"].combine_chunks()
    assert np.array_equal(codes.to_numpy_ndarray(), expected["codes"][64:128])
    with load(model, threads=1) as sampler:
        labels = np.resize(np.arange(10), 128)
        assert np.array_equal(codes.to_numpy_ndarray(), sampler.sample(128, seed=5, label=labels)[64:])


def test_a_worker_that_is_killed_loses_nothing(model: Path, long: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(model, out, *LONG, "--ray", "--workers", 2)
    until(lambda: len(shards(out)) >= 2, process)
    before = workers(process)
    assert len(before) == 2
    os.kill(before[0], signal.SIGKILL)
    killed_at = len(shards(out))
    until(lambda: len(workers(process)) == 2 and before[0] not in workers(process), process)  # another one took over
    assert killed_at < 100
    finished(process)
    assert contents(out) == contents(long)


def test_a_driver_that_is_killed_is_resumed(model: Path, long: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(model, out, *LONG, "--ray", "--workers", 2)
    until(lambda: len(shards(out)) >= 3, process)
    family = descendants(process.pid)
    process.kill()
    process.wait(timeout=60)  # not for the end of its output, which Ray's agents hold open
    there = shards(out)
    assert 3 <= len(there) < 100
    times = [path.stat().st_mtime_ns for path in there]
    until_gone({pid: name for pid, name in family.items() if "MapWorker" in name or "raylet/raylet" in name})
    finished(start(model, out, *LONG, "--ray", "--workers", 2))
    assert contents(out) == contents(long)
    assert times == [path.stat().st_mtime_ns for path in there]  # not one of them was written again


def until_gone(family: dict[int, str]) -> None:
    """A cluster of one machine ends with its driver, however that ends. (Where it was killed, Ray's agents, which have
    nothing to do any more, end a minute later.)"""
    ends = time.monotonic() + 60
    while left := [pid for pid in family if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < ends, [family[pid] for pid in left]
        time.sleep(0.1)


def test_the_cluster_of_one_machine_listens_on_the_loopback_address_only(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(model, out, *LONG, "--ray", "--workers", 2)
    try:
        until(lambda: shards(out), process)
        family = descendants(process.pid)
        found = listening(list(family))
        assert len(found) >= 5 and {address for address in found if not address.startswith("127.")} == set()
        environments = [Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in family
                        if "raylet" in family[pid] or "gcs_server" in family[pid]]  # fmt: skip
        assert len(environments) >= 2 and all(b"RAY_USAGE_STATS_ENABLED=0" in held for held in environments)
    finally:
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "shards are written; the same command draws the rest" in errors
    until_gone(family)


def test_what_a_worker_refuses_is_told(model: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from pixelsnail_infer.runtime import load_pipeline
    from pixelsnail_infer.runtime.bulk.plan import Models, make_plan
    from pixelsnail_infer.runtime.bulk.shards import Shard
    from pixelsnail_infer.runtime.cluster.drawing import drawn_by_workers

    models = Models((str(model),), {}, "cpu", "auto")
    with load_pipeline([model], threads=1) as pipeline:
        plan = make_plan(models, pipeline, 3, cycles={"label": np.arange(3)}, values={})
    other = replace(plan, job=replace(plan.job, models=("0" * 64,)))
    before = dict(os.environ)
    with pytest.raises((EngineError, GraphFileError), match="is another file here"):
        list(drawn_by_workers(other, [Shard(0, 0, 3)], workers=1))
    assert dict(os.environ) == before


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`ray start --head` with two cores on the loopback address, and a token: where it answers, and its process."""
    for name, value in (("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"),  # the loopback address, also for what joins
                        ("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_AUTH_MODE", "token"),
                        ("RAY_AUTH_TOKEN", secrets.token_hex(32))):  # fmt: skip
        monkeypatch.setenv(name, value)
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # a short name: sockets lie in it
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--node-ip-address",
                 "127.0.0.1", "--port", str(port), "--num-cpus", "2", "--include-dashboard", "false", "--temp-dir",
                 folder]  # fmt: skip
        process = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   text=True)  # fmt: skip
        try:
            until(lambda: raylets(process), process)
            yield f"127.0.0.1:{port}", process
        finally:
            family = descendants(process.pid)
            process.terminate()
            process.wait(timeout=60)
            until_gone(family)


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def raylets(process: subprocess.Popen[str]) -> list[int]:
    return [pid for pid, name in descendants(process.pid).items() if "raylet/raylet" in name]


def test_a_cluster_that_is_there_draws_and_stays(
    model: Path, long: Path, tmp_path: Path, head: tuple[str, subprocess.Popen[str]]
) -> None:
    """Its workers draw, as many as it has cores; neither a command that is stopped nor one that is done ends it."""
    address, cluster = head
    (raylet,) = raylets(cluster)
    process = start(model, tmp_path / "out", *LONG, "--ray", address)
    until(lambda: shards(tmp_path / "out"), process)
    assert len(workers(cluster)) == 2 and not raylets(process)
    process.send_signal(signal.SIGINT)
    assert "the same command draws the rest" in process.communicate(timeout=60)[1] and process.returncode == 130
    assert len(shards(tmp_path / "out")) < 100
    run(model, tmp_path / "out", *LONG, "--ray", address)
    assert contents(tmp_path / "out") == contents(long)
    assert raylets(cluster) == [raylet] and cluster.poll() is None


def test_an_address_where_no_cluster_answers_is_refused(model: Path, tmp_path: Path) -> None:
    process = start(model, tmp_path / "out", *QUICK, "--ray", f"127.0.0.1:{free_port()}")
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == 1 and "No Ray cluster answers at 127.0.0.1" in errors and errors.count("\n") == 1
