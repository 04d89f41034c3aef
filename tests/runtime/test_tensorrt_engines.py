"""Engines that are kept: what is read back, what is built again, and what is refused."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pixelsnail_infer.errors import BackendError, GraphFileError
from pixelsnail_infer.runtime.backends.tensorrt_engines import (
    EngineKey,
    Kept,
    engine_path,
    expect_writable,
    keep_engine,
    read_engine,
)
from pixelsnail_infer.runtime.backends.tensorrt_keeping import build_and_keep, engine_place
from pixelsnail_infer.runtime.files.graphfile import read_graph

from .fake_cuda import FakeCuda
from .fake_tensorrt import MAGIC, FakeTensorRt
from .synthetic import write

KEY = EngineKey(onnx_sha256="ab" * 32, package="tensorrt", version="11.0", gpu="A GPU", largest=256, flags=("no TF32",),
                system="linux x86_64")  # fmt: skip
PLAN = bytes(range(256)) * 5
Patch = pytest.MonkeyPatch


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An engine that is kept."""
    kept = tmp_path / "m.tensorrt-A_GPU.engine"
    keep_engine(kept, KEY, ("8.9", "12.0"), PLAN)
    return kept


def test_what_is_kept_is_read_back(path: Path) -> None:
    assert read_engine(path, KEY, "12.0") == Kept(PLAN, "", ("8.9", "12.0"), 256)
    assert read_engine(path, replace(KEY, largest=None), "8.9").plan == PLAN
    assert read_engine(path.with_name("none"), KEY, "8.9") == Kept(None, "there is none yet")
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    "changed, says",
    [({"onnx_sha256": "cd" * 32}, "the model is another: it was abababababab…, now cdcdcdcdcdcd…"),
     ({"package": "tensorrt_rtx"}, "TensorRT is another: it was 'tensorrt', now 'tensorrt_rtx'"),
     ({"version": "11.1"}, "the version of TensorRT is another: it was '11.0', now '11.1'"),
     ({"gpu": "B"}, "the GPU is another: it was 'A GPU', now 'B'"),
     ({"largest": 512}, "the largest batch is another: it was 256, now 512"),
     ({"system": "win32 AMD64"}, "the system is another: it was 'linux x86_64', now 'win32 AMD64'"),
     ({"flags": ()}, "how it is built is another: it was ('no TF32',), now ()")],
)  # fmt: skip
def test_another_key_means_a_new_engine(path: Path, changed: dict[str, Any], says: str) -> None:
    assert read_engine(path, replace(KEY, **changed), "8.9") == Kept(None, says, largest=256)


def test_another_capability_means_a_new_engine(path: Path) -> None:
    says = "it was built for SM 8.9, 12.0, this is SM 8.0"
    assert read_engine(path, KEY, "8.0") == Kept(None, says, ("8.9", "12.0"), 256)


def test_a_link_is_refused(path: Path) -> None:
    link = path.with_name("link.engine")
    link.symlink_to(path)
    with pytest.raises(BackendError, match="link.engine is a link, so it is not loaded; delete it, or build it again"):
        read_engine(link, KEY, "8.9")
    link.unlink()
    link.symlink_to("nowhere")
    with pytest.raises(BackendError, match="is a link"):
        read_engine(link, KEY, "8.9")


def test_a_link_that_appears_in_the_last_moment_is_refused(path: Path, monkeypatch: Patch) -> None:
    link = path.with_name("link.engine")
    link.symlink_to(path)
    monkeypatch.setattr(os.path, "islink", lambda path: False)
    with pytest.raises(BackendError, match="is a link"):
        read_engine(link, KEY, "8.9")


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_what_others_can_write_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(BackendError, match=rf"can be written by others \(mode {mode:o}\), so it is not loaded"):
        read_engine(path, KEY, "8.9")


def test_what_belongs_to_another_user_is_refused(path: Path, monkeypatch: Patch) -> None:
    """It is another's who is not root: given away, or this process is somebody else."""
    if (me := os.geteuid()) == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(BackendError, match=r"belongs to another user \(number \d+\), so it is not loaded"):
        read_engine(path, KEY, "8.9")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has files of root's")
def test_what_belongs_to_root_is_read(path: Path, monkeypatch: Patch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert read_engine(path, KEY, "8.9").plan == PLAN


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, says in {"pipe": "is no regular file", ".": "is no regular file|cannot be read"}.items():
        with pytest.raises(BackendError, match=says):
            read_engine(tmp_path / name, KEY, "8.9")


def _at(share: float) -> Callable[[bytes], bytes]:
    return lambda data: data[: int(len(data) * share)]


@pytest.mark.parametrize(
    "damage, says",
    [(lambda data: b"", "is no engine of this program"), (lambda data: b"x" + data, "is no engine of this program"),
     (lambda data: data[:60], "ends before its engine"), (_at(0.5), "expected 1280: it is half-written"),
     (lambda data: data + b"\0", "has an engine of 1281 bytes, expected 1280"),
     (lambda data: data[:-1] + b"\0", "was altered: its engine has another sha256"),
     (lambda data: data.replace(b'"bytes"', b'"bites"'), "is damaged"),
     (lambda data: data.replace(b'"bytes": 1280', b'"bytes": -1e9'), "is damaged"),
     (lambda data: data.replace(b'"A GPU"', b'"A\xff\xfeGPU"'), "is damaged"),
     (lambda data: data.replace(b"{", b"[", 1), "is damaged")],
)  # fmt: skip
def test_damage_and_alterations_are_refused(path: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(BackendError, match=f"{says}.* so it is not loaded; delete it, or build it again with"):
        read_engine(path, KEY, "8.9")


def test_a_write_that_fails_leaves_the_old_engine(path: Path, monkeypatch: Patch) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BackendError, match=r"cannot be written \(No space left.*or set PIXELSNAIL_ENGINES to a folder"):
        keep_engine(path, KEY, ("8.9",), b"new")
    assert read_engine(path, KEY, "8.9").plan == PLAN and os.listdir(path.parent) == [path.name]


def test_nobody_else_can_write_what_is_kept_and_a_link_is_replaced(path: Path) -> None:
    target = path.with_name("target")
    target.write_bytes(b"precious")
    path.unlink()
    path.symlink_to(target)
    before = os.umask(0)
    try:
        keep_engine(path, KEY, ("8.9",), PLAN)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o644 and target.read_bytes() == b"precious"
    assert read_engine(path, KEY, "8.9").plan == PLAN


def test_a_folder_that_cannot_be_written_is_told_before_the_build(toy: Path, tmp_path: Path) -> None:
    fake = FakeTensorRt(FakeCuda())
    place = engine_place(fake.package(), read_graph(toy), "", None, tmp_path / "none")
    with pytest.raises(BackendError, match="none/toy.*cannot be written .No such file or directory.*set PIXELSNAIL_E"):
        build_and_keep(fake.package(), place, ("8.9",), 256)
    assert not fake.configs
    expect_writable(tmp_path / "new.engine")
    assert os.listdir(tmp_path) == []


def test_engines_have_their_place(toy: Path, tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.delenv("PIXELSNAIL_ENGINES", raising=False)
    file, rtx = read_graph(toy), replace(KEY, package="tensorrt_rtx", gpu="")
    assert engine_path(file, rtx) == toy.with_name("toy.tensorrt_rtx.engine")
    assert engine_path(file, replace(KEY, gpu="NVIDIA L4/x")) == toy.with_name("toy.tensorrt-NVIDIA_L4_x.engine")
    in_memory = read_graph(toy.read_bytes(), "step graph")
    with pytest.raises(BackendError, match="step graph came as bytes, so its TensorRT engine has no place; set PIX"):
        engine_path(in_memory, rtx)
    monkeypatch.setenv("PIXELSNAIL_ENGINES", str(tmp_path))
    assert engine_path(file, rtx) == tmp_path / "toy.abababababab.tensorrt_rtx.engine"
    assert engine_path(in_memory, rtx) == tmp_path / "step_graph.abababababab.tensorrt_rtx.engine"
    assert engine_path(file, rtx, toy.parent).parent == toy.parent


def test_a_model_that_changed_since_it_was_checked_is_refused(parts: dict[str, bytes], tmp_path: Path) -> None:
    file = read_graph(write(tmp_path, parts))
    assert isinstance(file.source, Path)
    file.source.write_bytes(parts["row"])
    with pytest.raises(GraphFileError, match="toy.onnx changed while it was loaded"):
        engine_place(FakeTensorRt(FakeCuda()).package(), file, "", None)


@pytest.mark.parametrize("what, largest", [("step graph", 256), ("score graph", 16), ("decoder", 16)])
def test_graphs_of_whole_images_are_for_smaller_batches(toy: Path, tmp_path: Path, what: str, largest: int) -> None:
    fake, file = FakeTensorRt(FakeCuda()), read_graph(toy, what)
    build_and_keep(fake.package(), place := engine_place(fake.package(), file, "", None, tmp_path), ("8.9",), None)
    assert fake.configs[0].profiles[0]["row"] == ((1,), (16,), (largest,))
    assert read_engine(place.path, place.key, "8.9").largest == largest


def test_a_built_engine_is_kept_under_its_key(toy: Path, tmp_path: Path) -> None:
    fake, file = FakeTensorRt(FakeCuda()), read_graph(toy)
    place = engine_place(fake.package(), file, "a name that does not matter", None, tmp_path)
    built = build_and_keep(fake.package(), place, ("8.0", "8.9"), 64)
    assert built.plan == MAGIC + toy.read_bytes() and built.layers.count("KV_CACHE_UPDATE") == 1
    assert read_engine(place.path, replace(place.key, largest=64), "8.0") == Kept(built.plan, "", ("8.0", "8.9"), 64)
    assert fake.configs[0].profiles[0]["row"] == ((1,), (16,), (64,))
    assert fake.configs[0].capabilities == {0: "8.0", 1: "8.9"}
