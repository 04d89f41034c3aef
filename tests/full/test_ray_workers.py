"""Workers of a Ray cluster that die every time or while they load, and what Ray Data itself raises: one line each."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer.errors import EngineError
from pixelsnail_infer.runtime import load_pipeline
from pixelsnail_infer.runtime.bulk.drawer import open_drawer
from pixelsnail_infer.runtime.bulk.plan import Models, Plan, make_plan
from pixelsnail_infer.runtime.bulk.shards import Shard, shard_of

pytestmark = pytest.mark.full
pytest.importorskip("pyarrow.parquet")
pytest.importorskip("ray.data")
SHARDS = [shard_of(number, 3, 1) for number in range(3)]


@pytest.fixture(scope="module")
def plan(digits_graphs: dict[str, Path]) -> Plan:
    path = digits_graphs["step"]
    with load_pipeline([path], threads=1) as pipeline:
        models = Models((str(path),), {}, "cpu", "auto")
        return make_plan(models, pipeline, 3, cycles={"label": np.arange(3)}, values={}, shard=1)


def dying(where: Path, times: int, loading: bool) -> Any:
    """A worker that is killed the first `times` times when it loads, or when it draws the second shard. `where` counts:
    a line for each. A local class, so that Ray carries it to processes that do not know this file."""
    from pixelsnail_infer.runtime.cluster import drawing

    def die() -> None:
        with where.open("a") as file:
            file.write("died\n")
        if len(where.read_text().splitlines()) <= times:
            os.kill(os.getpid(), signal.SIGKILL)

    class Dying(drawing._Worker):
        def __init__(self, *given: Any) -> None:
            if loading:
                die()
            drawing._Worker.__init__(self, *given)
            draw, drawer = self._drawer.file, self._drawer

            def file(shard: Shard) -> bytes:
                if not loading and shard.number == 1:
                    die()
                return draw(shard)

            drawer.file = file

    return Dying


def deaths(where: Path) -> int:
    return len(where.read_text().splitlines())


def test_a_shard_that_kills_its_worker_every_time_ends_the_job(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pixelsnail_infer.runtime.cluster import drawing

    monkeypatch.setattr(drawing, "_ATTEMPTS", 3)
    monkeypatch.setattr(drawing, "_Worker", dying(tmp_path / "deaths", 1000, loading=False))
    with pytest.raises(EngineError, match="The workers failed: shard 1 was begun 3 times, and") as caught:
        list(drawing.drawn_by_workers(plan, SHARDS, workers=1))
    assert "\n" not in str(caught.value), str(caught.value)
    assert deaths(tmp_path / "deaths") == 3  # and no more than that


def test_a_worker_that_dies_once_while_it_loads_is_replaced(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pixelsnail_infer.runtime.cluster import drawing

    monkeypatch.setattr(drawing, "_Worker", dying(tmp_path / "deaths", 1, loading=True))
    found = dict(drawing.drawn_by_workers(plan, SHARDS, workers=1))
    assert deaths(tmp_path / "deaths") == 2
    with open_drawer(plan, 1) as drawer:
        assert found == {shard: drawer.file(shard) for shard in SHARDS}


def test_attempts_of_each_shard_are_counted() -> None:
    from pixelsnail_infer.runtime.cluster.attempts import Attempts

    attempts = Attempts(2)
    for shard in (0, 1, 0):
        attempts.begin(shard)
    with pytest.raises(EngineError, match="shard 0 was begun 2 times"):
        attempts.begin(0)
    attempts.begin(1)


def test_neither_time_nor_deaths_are_limited_as_ray_data_would() -> None:
    import ray.data

    from pixelsnail_infer.runtime.cluster import drawing

    drawing._set_up()
    context = ray.data.DataContext.get_current()
    assert context.execution_no_progress_timeout_s == -1  # never
    assert context.max_consecutive_actor_init_deaths == 3 and not context.actor_init_retry_on_errors


@contextmanager
def no_cluster(*_: object) -> Iterator[None]:
    yield


@pytest.mark.parametrize("name", ["ExecutionTimeoutError", "SystemException"])
@pytest.mark.parametrize("as_cause", [False, True])
def test_what_ray_data_raises_is_told_in_one_line(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, name: str, as_cause: bool
) -> None:
    exceptions = pytest.importorskip("ray.data.exceptions")
    if not hasattr(exceptions, name):
        pytest.skip("an older Ray")
    from pixelsnail_infer.runtime.cluster import drawing

    def failing(*_: Any) -> Iterator[Any]:
        yield SHARDS[0], b""
        error = getattr(exceptions, name)("the first line\nno progress")
        if as_cause:
            raise KeyError("inside") from error
        raise error

    monkeypatch.setattr(drawing, "connected", no_cluster)
    monkeypatch.setattr(drawing, "_drawn", failing)
    drawn = drawing.drawn_by_workers(plan, SHARDS, workers=1)
    assert next(drawn) == (SHARDS[0], b"")
    with pytest.raises(EngineError, match="^The workers failed: ('inside'|no progress)$"):
        next(drawn)


def test_an_error_of_our_own_stays_what_it_is(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    from pixelsnail_infer.runtime.cluster import drawing

    def failing(*_: Any) -> Iterator[Any]:
        yield SHARDS[0], b""
        raise KeyError("a mistake")

    monkeypatch.setattr(drawing, "connected", no_cluster)
    monkeypatch.setattr(drawing, "_drawn", failing)
    with pytest.raises(KeyError, match="a mistake"):
        list(drawing.drawn_by_workers(plan, SHARDS, workers=1))
