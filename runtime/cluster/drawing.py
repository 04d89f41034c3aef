"""Shards of a job from the workers of a Ray cluster, by Ray Data: each worker is an actor that loads the models once.

A task is a shard. Ray starts a worker that died again, and its shard with it, until it died too often; the files are
made there and written by the process that asked for them, so that no worker needs its folder.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import ray

from pixelsnail_infer.errors import EngineError, PixelsnailError
from pixelsnail_infer.messages import one_line
from pixelsnail_infer.runtime.backends.host import usable_cores
from pixelsnail_infer.runtime.bulk.drawer import open_drawer
from pixelsnail_infer.runtime.bulk.filling import Drawn
from pixelsnail_infer.runtime.bulk.plan import Plan
from pixelsnail_infer.runtime.bulk.shards import Shard, shard_of
from pixelsnail_infer.runtime.cluster.attempts import counted_attempts
from pixelsnail_infer.runtime.cluster.connection import connected

__all__ = ["drawn_by_workers"]

_ATTEMPTS = 6  # to draw a shard whose worker died
_DEATHS = 3  # of workers one after the other while they load, without one that comes to draw
_OURS = re.compile(rf"^{re.escape(PixelsnailError.__module__)}\.\w+: (.+)", re.MULTILINE)


def drawn_by_workers(
    plan: Plan, shards: Sequence[Shard], *, address: str = "", workers: int | None = None, threads: int | None = None
) -> Drawn:
    """Draw `shards` on `workers` actors with `threads` cores each (default: one, and as many actors as that makes of
    the cluster's cores), and on a GPU each where the models run on one. Shards come as they are done.

    Raises `BackendError` where there is no cluster, and the errors of the workers as `EngineError`.
    """
    cores = threads or 1
    with connected(address, (workers or usable_cores() // cores or 1) * cores):
        count = workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // cores)
        try:
            yield from _drawn(plan, shards, min(count, len(shards)), cores)
        except Exception as error:  # what Ray Data raises has no base of its own, and differs between versions
            if not _of_ray(error):
                raise
            raise EngineError(f"The workers failed: {_reason(error)}") from error


def _drawn(plan: Plan, shards: Sequence[Shard], workers: int, cores: int) -> Drawn:
    _set_up()
    tasks = [pa.table({"shard": [shard.number]}) for shard in shards]  # a block each, so that no task makes them
    gpus = 0 if set(plan.job.device.split(",")) == {"cpu"} else 1
    attempts = counted_attempts(_ATTEMPTS)
    files = (
        ray.data.from_arrow(tasks)
        .map_batches(
            _Worker, fn_constructor_args=(plan, attempts), batch_size=1, batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=workers), num_cpus=cores, num_gpus=gpus,
        )
    )  # fmt: skip
    for block in files.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for number, data in zip(block["shard"].to_pylist(), block["file"], strict=True):
            yield shard_of(number, plan.job.n, plan.job.shard), data.as_py()


class _Worker:
    """In a process of its own: the models, loaded once, with as many threads as it was given cores."""

    def __init__(self, plan: Plan, attempts: Any) -> None:
        self._plan, self._attempts = plan, attempts
        given = ray.get_runtime_context().get_assigned_resources().get("CPU", 1)
        self._drawer = open_drawer(plan, max(1, int(given)))

    def __call__(self, batch: pa.Table) -> pa.Table:
        numbers = batch["shard"].to_pylist()
        return pa.table({"shard": numbers, "file": pa.array(map(self._file, numbers), pa.large_binary())})

    def _file(self, number: int) -> bytes:
        ray.get(self._attempts.begin.remote(number))
        return self._drawer.file(shard_of(number, self._plan.job.n, self._plan.job.shard))


def _set_up() -> None:
    """No bars and plans of Ray Data's: the command has a bar of its own. No limit to the time that a shard takes."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.actor_init_retry_on_errors = False  # a model that cannot be loaded cannot be loaded next time, either
    context.max_consecutive_actor_init_deaths = _DEATHS
    context.execution_no_progress_timeout_s = -1  # else an execution ends when no shard is done in half an hour
    context.print_on_execution_start = False
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _of_ray(error: BaseException) -> bool:
    """Whether Ray raised it: a class of Ray's, or any that Ray Data says is its own fault by the cause it gives."""
    kinds = (*type(error).__mro__, *type(error.__cause__).__mro__)
    return any(kind.__module__.partition(".")[0] == "ray" for kind in kinds)


def _reason(error: BaseException) -> str:
    """What this package said in a worker, where it did; else the last line of what Ray says. Ray does not keep the
    causes of an error, but their text is in its own."""
    text = str(error)
    lines = _OURS.findall(text) or [line for line in text.splitlines() if line.strip()]
    return one_line(lines[-1] if lines else type(error).__name__, 500)
