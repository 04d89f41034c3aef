"""The connection to a Ray cluster: one that is there, or one of this machine alone that ends with the call."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private import ray_constants

from pixelsnail_infer.errors import BackendError
from pixelsnail_infer.messages import one_line

__all__ = ["connected"]

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # whatever its name: Ray's address is then the loopback one
_NOT_HERE = ("Ray does not start here", "see the logs in /tmp/ray, or leave --ray out")
_NOWHERE = ("No Ray cluster answers at {}",
            "check the address, and where the cluster asks for a token, RAY_AUTH_MODE=token and the token")  # fmt: skip
_PATIENCE = 10  # seconds until a machine must have answered


@contextmanager
def connected(address: str, cores: int) -> Iterator[None]:
    """Within it Ray is connected to `address`, or without one to a cluster of this process that offers `cores` cores,
    listens on the loopback address only, and reports nothing to anybody.

    Raises `BackendError` where there is no cluster, or this process is connected to one already.
    """
    if ray.is_initialized():
        raise BackendError("This process is connected to a Ray cluster already; call ray.shutdown() before.")
    with _environment(_QUIET if address else {**_QUIET, **_ALONE}):
        try:
            with _hush():
                _join(address) if address else _start(cores)
        except (ray.exceptions.RayError, OSError, OverflowError, RuntimeError, ValueError) as error:
            what, advice = _NOWHERE if address else _NOT_HERE
            raise BackendError(f"{what.format(address)} ({one_line(error, 300)}); {advice}.") from error
        try:
            yield
        finally:
            ray.shutdown()


def _join(address: str) -> None:
    if address != "auto":  # Ray itself would try for minutes
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), _PATIENCE).close()
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
    """Ray and the processes that it starts read these. At the end all is as before: Ray adds names of its own."""
    before = dict(os.environ)
    os.environ.update(names)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


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
