"""Files that are missing, damaged or malicious: one clear line, and nothing that they say is run."""

from __future__ import annotations

import argparse
import inspect
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pixelsnail_infer.checkpoints import load_checkpoint
from pixelsnail_infer.errors import CheckpointError
from pixelsnail_infer.models import Prior, PriorConfig


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.isprintable() and path.name in message
    return message


class Payload:
    """Unpickling this in full creates a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.target),)


class Caller:
    """Unpickling this in full calls a function that looks harmless."""

    def __reduce__(self) -> tuple[object, ...]:
        return getattr, (argparse.Namespace, "__init__")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["model", "args", "bare", "namespace"])
def test_a_payload_does_not_run(where: str, zipped: bool, tmp_path: Path) -> None:
    target, path = tmp_path / "owned", tmp_path / "evil.pt"
    payload = Payload(target)
    content = {
        "model": {"model": {"a": payload}},
        "args": {"model": {"a": torch.zeros(2)}, "args": payload},
        "bare": payload,
        "namespace": {"model": {}, "args": argparse.Namespace(lr=payload)},
    }[where]
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert "refused: reading it would import or run" in refusal(path)
    assert not target.exists()


def test_the_payload_would_run_if_it_were_trusted(tmp_path: Path) -> None:
    path = tmp_path / "evil.pt"
    torch.save(Payload(tmp_path / "owned"), path)
    torch.load(path, weights_only=False)
    assert (tmp_path / "owned").exists()


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_plain_pickle_does_not_run(protocol: int, tmp_path: Path) -> None:
    target, path = tmp_path / "owned", tmp_path / "evil.pkl"
    path.write_bytes(pickle.dumps(Payload(target), protocol=protocol))
    refusal(path)
    assert not target.exists()


def test_other_objects_are_refused(tmp_path: Path) -> None:
    for number, content in enumerate((Caller(), torch.nn.Linear(2, 2), inspect.Parameter.empty)):
        path = tmp_path / f"{number}.pt"
        torch.save({"model": content}, path)
        assert "refused" in refusal(path)


@pytest.mark.parametrize("own", [[], [argparse.Namespace]])
def test_what_torch_allows_is_left_as_it_was(own: list[type], tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"model": {}, "args": argparse.Namespace(a=1)}, path)
    with torch.serialization.safe_globals(own):
        before = set(torch.serialization.get_safe_globals())
        assert "no weights were found: it holds model, args" in refusal(path)
        test_other_objects_are_refused(tmp_path)
        assert set(torch.serialization.get_safe_globals()) == before


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "no.pt")
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.0, 0.001, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file(
    part: float, zipped: bool, tiny: PriorConfig, build: Callable[[PriorConfig], Prior], tmp_path: Path
) -> None:
    path = tmp_path / "cut.pt"
    torch.save(build(tiny).state_dict(), path, _use_new_zipfile_serialization=zipped)
    load_checkpoint(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    assert "empty" in refusal(path) or "truncated" in refusal(path)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    for content in (b"hello\n" * 50, b"PK\x03\x04" + bytes(100), bytes(range(256)) * 4):
        path.write_bytes(content)
        assert "not a PyTorch checkpoint" in refusal(path)


def test_contents_of_other_kinds(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    for content, message in (
        ([1, 2], "holds a list"),
        (torch.zeros(3), "holds a Tensor"),
        ({"a": 3}, "no weights were found: it holds a"),
        ({3: torch.zeros(2)}, "it holds a key of type int"),
        ({"a": torch.zeros(2, dtype=torch.int64)}, "tensor a is not a dense tensor"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "tensor a is not a dense tensor"),
        ({"a": torch.zeros(1).expand(10**12)}, "not stored in full"),
        ({"\x1b[31mred\nline": torch.zeros(2)}, "not known"),
        ({"epoch": 1, "net": {"w": torch.zeros(2)}}, "1 tensors (w [2]), in a file that holds epoch, net; supported"),
        ({}, "it holds nothing. Expected names and tensors"),
    ):
        torch.save(content, path)
        assert message in refusal(path)
