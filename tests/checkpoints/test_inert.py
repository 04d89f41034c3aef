"""Objects beside the weights: read as stand-ins that do nothing, whatever a file gives them, or refused by name."""

from __future__ import annotations

import argparse
import enum
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pixelsnail_infer.checkpoints import load_checkpoint
from pixelsnail_infer.checkpoints.inert import STAND_INS, Inert
from pixelsnail_infer.checkpoints.reading import read_file
from pixelsnail_infer.errors import CheckpointError

from .training_files import metadata, pretended

PLAIN = (Inert, dict, list, int, float, bool, argparse.Namespace)
NAMES = [name for _, name in STAND_INS]


def raw(path: Path, body: bytes) -> Path:
    """A checkpoint whose pickle is `body`, written by hand."""
    writer = torch._C.PyTorchFileWriter(str(path))
    data = b"\x80\x02" + body + b"."
    writer.write_record("data.pkl", data, len(data))
    writer.write_record("byteorder", b"little", 6)
    writer.write_end_of_file()
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def named(name: str) -> bytes:
    module, _, own = name.rpartition(".")
    return f"c{module}\n{own}\n".encode()


def number(value: int) -> bytes:
    """LONG1, of up to 255 bytes."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


HUGE, LONG = number(1 << 2000), text("x" * 1_000_000)
ARGUMENTS = {
    "none": b")", "one": text("a") + b"\x85", "huge": HUGE * 2 + b"\x86", "negative": number(-(1 << 62)) * 3 + b"\x87",
    "long": LONG + b"\x85", "list": b"]" + text("i8") + b"a\x85", "dict": b"}" + text("a") + b"K\x01s\x85",
    "nothing": b"N\x85", "path": text("/etc/passwd") + text("/tmp") + b"\x86",
    "self": named("numpy.dtype") + text("i8") + b"\x85R" + HUGE + b"\x86", "many": b"(" + b"K\x01" * 5000 + b"t",
    "class": named("argparse.Namespace") + named("datetime.datetime") + b"\x86",
}
STATES = {
    "no state": b"", "a dict": b"}" + text("__class__") + named("argparse.Namespace") + b"sb",
    "slots": b"N}" + text("__class__") + named("argparse.Namespace") + b"s\x86b",
    "a tuple": HUGE * 3 + b"\x87b", "a number": HUGE + b"b",
}


EACH = ["datetime.datetime", "collections.deque", "collections.defaultdict", "numpy.dtype", "types.SimpleNamespace",
        "numpy._core.multiarray.scalar"]
"""One of each kind of stand-in."""


def read_hostile(path: Path, body: bytes) -> int:
    """1 where it is read, and then it is inert or plain; 0 where it is refused."""
    try:
        content = read_file(raw(path, body))[0]
    except CheckpointError as error:
        assert str(error).isprintable()
        return 0
    assert type(content) in (*kinds(), *PLAIN)
    assert not content if isinstance(content, (dict, list)) else True
    return 1


@pytest.mark.parametrize("name", EACH)
def test_hostile_arguments_reach_nothing(name: str, tmp_path: Path) -> None:
    """Called or made anew with anything, and given any state: what comes is inert or plain, or the file is refused."""
    before = [dict(vars(kind)) for kind in kinds()]
    read = sum(read_hostile(tmp_path / "hostile.pt", named(name) + arguments + call + state)
               for arguments in ARGUMENTS.values() for state in STATES.values() for call in (b"R", b"\x81"))
    assert read and [dict(vars(kind)) for kind in kinds()] == before


def test_every_name_gives_a_stand_in(tmp_path: Path) -> None:
    for name in NAMES:
        read = [read_hostile(tmp_path / "hostile.pt", named(name) + arguments + b"R" + STATES["no state"])
                for arguments in (ARGUMENTS["none"], ARGUMENTS["huge"])]
        assert read == [1, int(name != "types.SimpleNamespace")], name  # a real Namespace takes no arguments


def kinds() -> list[Any]:
    return [kind for kind, _ in STAND_INS if isinstance(kind, type)]


def test_stand_ins_hold_nothing() -> None:
    """But for the code of a NumPy type; so nothing of a file is kept."""
    for kind in kinds():
        if issubclass(kind, Inert):
            made = kind("a", 2)
            made.__setstate__({"x": 1})
            assert not hasattr(made, "__dict__") and not hasattr(made, "x")


def test_nothing_that_is_stood_for_is_imported_or_called() -> None:
    ours = [kind.__module__ for kind, _ in STAND_INS if not isinstance(kind, type)]
    assert set(ours) == {"pixelsnail_infer.checkpoints.inert"}
    assert all(issubclass(kind, Inert) or kind.__module__ == "pixelsnail_infer.checkpoints.inert"
               for kind in kinds() if kind is not argparse.Namespace)
    assert not {"os", "sys", "posix", "subprocess", "importlib", "shutil"} & {name.split(".")[0] for name in NAMES}
    assert not {"builtins.getattr", "builtins.eval", "builtins.exec", "builtins.open", "builtins.type"} & set(NAMES)


def test_metadata_of_every_kind_is_read(tmp_path: Path) -> None:
    torch.save(metadata(), tmp_path / "meta.pt")
    found = read_file(tmp_path / "meta.pt")[0]
    assert isinstance(found, dict) and found.keys() == metadata().keys()
    for name in ("date", "took", "day", "path", "scores", "kind", "torch"):
        assert isinstance(found[name], Inert)
    assert (found["best"], found["steps"], found["half"], found["done"]) == (1.25, 7, 0.5, True)
    assert type(found["steps"]) is int and type(found["done"]) is bool
    assert found["history"] == {"loss": [1.0, 0.5]} and found["last"] == [1, 2]
    assert found["config"] == argparse.Namespace(lr=0.1)


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numbers_of_numpy(module: str, tmp_path: Path) -> None:
    for value in (np.int8(-3), np.uint16(65535), np.int64(-(1 << 62)), np.uint64((1 << 64) - 1), np.float32(0.1)):
        data = text(value.tobytes().decode("latin1")) + text("latin1") + b"\x86"
        kind = named("numpy.dtype") + text(value.dtype.str[1:]) + b"\x85R"
        call = named(f"{module}.scalar") + kind + named("_codecs.encode") + data + b"R\x86R"
        assert read_file(raw(tmp_path / "number.pt", call))[0] == value.item()
    short = named(f"{module}.scalar") + named("numpy.dtype") + text("i8") + b"\x85R"
    short += named("_codecs.encode") + text("abcd") + text("latin1") + b"\x86R\x86R"
    assert isinstance(read_file(raw(tmp_path / "number.pt", short))[0], Inert)
    swapped = named(f"{module}.scalar") + named("numpy.dtype") + text("i2") + b"\x85R"
    swapped += b"K\x03" + text(">") + b"N\x87b"
    swapped += named("_codecs.encode") + text("ab") + text("latin1") + b"\x86R\x86R"
    assert isinstance(read_file(raw(tmp_path / "number.pt", swapped))[0], Inert)


class Mode(enum.Enum):
    FAST = 1


@pytest.mark.parametrize("make, says", [
    (lambda: Mode.FAST, "Mode"), (lambda: np.sum, "numpy"), (lambda: pickle.Unpickler, "Unpickler"),
    (lambda: getattr, "getattr"), (lambda: print, "print"), (lambda: type, "type"), (lambda: sys.exit, "sys.exit"),
])  # fmt: skip
def test_what_is_not_known_is_refused_by_its_name(make: Callable[[], object], says: str, tmp_path: Path) -> None:
    torch.save({"model": {"w": torch.zeros(2)}, "other": make()}, tmp_path / "other.pt")
    message = "would import or run .*; only tensors.*so save the model's state_dict"
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(tmp_path / "other.pt")
    assert says in str(caught.value)


def test_configurations_of_libraries_that_are_not_there(tmp_path: Path) -> None:
    names = ("omegaconf.dictconfig.DictConfig", "omegaconf.base.ContainerMetadata", "omegaconf.nodes.AnyNode")
    callback = "pytorch_lightning.callbacks.early_stopping.EarlyStopping"
    with pretended(*names, "pytorch_lightning.utilities.parsing.AttributeDict", callback) as made:
        config, meta, node = (kind() for kind in made[:3])
        config.__dict__.update(_content={"lr": node}, _metadata=meta, _parent=None)
        parameters = type("AttributeDict", (dict,), {"__module__": made[3].__module__})(lr=0.5)
        sys.modules[made[3].__module__].AttributeDict = type(parameters)  # type: ignore[attr-defined]
        torch.save({"cfg": config, "hyper_parameters": parameters, "callbacks": {made[4]: 1}}, tmp_path / "cfg.pt")
    found = read_file(tmp_path / "cfg.pt")[0]
    assert isinstance(found, dict) and isinstance(found["cfg"], Inert)
    assert found["hyper_parameters"] == {"lr": 0.5}
    assert not any(name.startswith(("omegaconf", "pytorch_lightning")) for name in sys.modules)
