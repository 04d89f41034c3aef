"""Pipes, devices, sockets and folders in place of files: refused at once by every reader, and never waited for."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixelsnail_infer import plainfile
from pixelsnail_infer.checkpoints.reading import read_file
from pixelsnail_infer.checkpoints.tf_bundle import read_bundle
from pixelsnail_infer.checkpoints.tf_slices import read_slices
from pixelsnail_infer.checkpoints.unsafe_pickle import read_module_unsafely
from pixelsnail_infer.errors import GraphFileError, PixelsnailError
from pixelsnail_infer.export.source.user_model import user_model
from pixelsnail_infer.plainfile import open_plain
from pixelsnail_infer.runtime import load, load_decoder
from pixelsnail_infer.runtime.backends.onnxruntime_cpu import CpuBackend
from pixelsnail_infer.runtime.commands.pictures import read_picture
from pixelsnail_infer.runtime.files.arrays import load_array
from pixelsnail_infer.runtime.files.graphfile import read_graph

from ..checkpoints.bundles import write_bundle
from ..runtime import synthetic


class Waited(BaseException):
    """The reader waits."""


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    def ring(number: int, frame: object) -> None:
        raise Waited

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["pipe", "device", "socket", "folder"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "odd"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    elif request.param == "folder":
        path.mkdir()
    else:
        here = os.getcwd()
        os.chdir(tmp_path)  # a socket's path must be short
        socket.socket(socket.AF_UNIX).bind("odd")
        os.chdir(here)
    return path


def _sibling(path: Path) -> None:
    step = synthetic.write(path.parent, {"step": synthetic.build()["step"]})
    path.rename(step.with_name("toy.row.onnx"))
    load(step)


def _shard(path: Path) -> None:
    write_bundle(path.parent / "a", {"x": (1, np.zeros(2, np.float32))})
    path.replace(path.with_name("shard"))
    shard = path.with_name("a.data-00000-of-00001")
    shard.unlink()
    path.with_name("shard").rename(shard)
    read_bundle(path.parent / "a")


def _index(path: Path) -> None:
    path.rename(path.with_name("a.index"))
    read_bundle(path.with_name("a"))


def _module(path: Path) -> None:
    path.rename(path.with_name("a.py"))
    with user_model(f"{path.with_name('a.py')}:Net", {}):
        pass


@pytest.mark.parametrize("read", [
    read_graph, load, load_decoder, _sibling, read_file, read_module_unsafely, _index, _shard, _module, read_slices,
    lambda path: load_array(path, "codes"), lambda path: read_picture(path, 3),
])  # fmt: skip
def test_what_is_no_file_is_refused_at_once(read: Callable[[Path], Any], odd: Path) -> None:
    with pytest.raises(PixelsnailError, match="a regular file|is a folder|is no Python file") as error:
        read(odd)
    assert "\n" not in str(error.value)


def test_a_path_that_becomes_a_pipe_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "a")
    before = os.stat(__file__)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="it is a named pipe, expected a regular file"):
        patched.setattr(plainfile.os, "stat", lambda path: before)
        open_plain(tmp_path / "a")


def test_a_name_that_no_file_can_have_is_refused() -> None:
    for name in ("a\0b", "\ud800"):
        with pytest.raises(GraphFileError, match="no file can have this name"):
            read_graph(name)


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3))
    (tmp_path / "b").symlink_to("a.npy")
    assert load_array(tmp_path / "b", "codes").tolist() == [0, 1, 2]


def test_a_graph_too_large_for_its_format_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.onnx", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(GraphFileError, match="more than an ONNX file can"):
        read_graph(tmp_path / "a.onnx")


def test_a_file_cut_while_it_is_checked_does_not_kill_the_process(tmp_path: Path) -> None:
    path = synthetic.write(tmp_path, {"step": synthetic.build()["step"]})
    code = f"""
import os
from pixelsnail_infer.runtime.files import graphfile
check = graphfile._check_model
def cut(*arguments):
    os.truncate({str(path)!r}, 0)
    return check(*arguments)
graphfile._check_model = cut
print(graphfile.read_graph({str(path)!r}, digest=True).size)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and int(done.stdout) > 0, done.stderr


def test_a_file_that_changes_before_the_engine_has_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = synthetic.build()
    path, original = synthetic.write(tmp_path, parts), CpuBackend.load

    def exchanged(self: CpuBackend, file: Any) -> Any:
        if file.what == "row graph":
            Path(file.source).write_bytes(parts["row"])  # even by the same bytes
        return original(self, file)

    load(path, threads=1).close()
    monkeypatch.setattr(CpuBackend, "load", exchanged)
    with pytest.raises(GraphFileError, match=r"toy\.row\.onnx changed while it was loaded"):
        load(path, threads=1)
