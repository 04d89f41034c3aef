"""The connection to a Ray cluster: one that is there, or one of this machine alone that ends with the call."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private import ray_constants

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.messages import one_line

__all__ = ["connected"]

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # whatever its name: Ray's address is then the loopback one


@contextmanager
def connected(address: str, cores: int) -> Iterator[None]:
    """Within it Ray is connected to `address`, or without one to a cluster of this process that offers `cores` cores,
    listens on the loopback address only, and reports nothing to anybody.

    Raises `BackendError` where there is no cluster, or this process is connected to one already.
    """
    if ray.is_initialized():
        raise BackendError("This process is connected to a Ray cluster already; call ray.shutdown() before.")
    try:
        with _environment(_QUIET if address else {**_QUIET, **_ALONE}), _hush():
            _join(address) if address else _start(cores)
    except (ray.exceptions.RayError, ConnectionError, OSError, RuntimeError, ValueError) as error:
        where = f"No Ray cluster answers at {address}" if address else "Ray does not start here"
        raise BackendError(f"{where} ({one_line(error, 300)}); check the address, and `ray status`.") from error
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str) -> None:
    ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)


def _start(cores: int) -> None:
    """A cluster of this machine alone."""
    enabled = ray_constants.ENABLE_RAY_CLUSTER
    try:
        ray_constants.ENABLE_RAY_CLUSTER = False  # what `_ALONE` says to the processes that Ray starts
        ray.init(address="local", num_cpus=cores, include_dashboard=False, logging_level=logging.ERROR,
                 log_to_driver=False)  # fmt: skip
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = enabled
    if not (found := ray.util.get_node_ip_address()).startswith("127."):
        ray.shutdown()
        raise RuntimeError(f"it would listen at {found}, not on the loopback address alone")


@contextmanager
def _environment(names: dict[str, str]) -> Iterator[None]:
    """Ray and the processes that it starts read these while it starts."""
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _hush() -> Iterator[None]:
    """What Ray's library writes past Python while it starts, such as which level its log has, is nobody's news."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
